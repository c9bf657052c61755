/** A line of arguments → words, as a shell splits them: blanks part, quotes hold together, a backslash keeps the next character. */

import { KvEngineError } from "../../../engine/errors.ts";

/** @param subject where the line was written, for messages. Throws `bad_config` for a quote that is not closed. */
export function splitWords(line: string, subject: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let i = 0; i < line.length; i++) {
    const letter = line[i] ?? "";
    if (quote !== "" && letter === quote) {
      quote = "";
    } else if (letter === "\\" && quote !== "'") {
      word = (word ?? "") + (line[++i] ?? "");
    } else if (quote !== "") {
      word = (word ?? "") + letter;
    } else if (letter === '"' || letter === "'") {
      quote = letter;
      word ??= "";
    } else if (/\s/.test(letter)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? "") + letter;
    }
  }
  if (quote !== "")
    throw new KvEngineError("bad_config", `${subject}: a ${quote} is not closed in \`${line}\``, {
      subject,
    });
  if (word !== undefined) words.push(word);
  return words;
}
