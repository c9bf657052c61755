/** Words that must not be written, as the token sequences that write them. */

import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { wrong } from "./field-checks.ts";

/**
 * Each word as it is written at the start of a text and, where that is another sequence of as many tokens, after a space:
 * vLLM's rule. Throws `invalid_request` for a word that has no tokens.
 */
export function badWordIds(tokenizer: Tokenizer, words: readonly string[]): number[][] {
  return words.flatMap((word, i) => {
    const bare = word.trimStart();
    const encode = (text: string): number[] =>
      Array.from(tokenizer.encode(text.toWellFormed(), { parseSpecial: true }));
    const alone = encode(bare);
    if (alone.length === 0) throw wrong(`bad_words[${i}]`, word, "a text with tokens");
    const spaced = encode(` ${bare}`);
    const another = spaced[0] !== alone[0] && spaced.length === alone.length;
    return another ? [alone, spaced] : [alone];
  });
}
