/** Marks that a model writes into its answers (`<think>`, `[TOOL_CALLS]`), found in a text that comes in pieces. */

import type { TokenBytes } from "../../tokenizer/detokenizer.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";

export interface FoundMark {
  readonly mark: string;
  readonly at: number;
}

/** The first mark in `text`; of several at one place, the longest. */
export function findMark(text: string, marks: readonly string[]): FoundMark | undefined {
  let found: FoundMark | undefined;
  for (const mark of marks) {
    const at = text.indexOf(mark);
    if (at < 0) continue;
    if (
      found === undefined ||
      at < found.at ||
      (at === found.at && mark.length > found.mark.length)
    )
      found = { mark, at };
  }
  return found;
}

/** Where the end of `text` that may still become a mark begins; the length of `text` = there is none. */
export function startOfPartialMark(text: string, marks: readonly string[]): number {
  const longest = Math.max(0, ...marks.map((mark) => mark.length - 1));
  for (let at = Math.max(0, text.length - longest); at < text.length; at++) {
    const end = text.slice(at);
    if (marks.some((mark) => mark.length > end.length && mark.startsWith(end))) return at;
  }
  return text.length;
}

/** Where the white space at the end of `text` begins. */
export function startOfTrailingSpace(text: string): number {
  return text.trimEnd().length;
}

/** Tokens as text with these marks among it: where a mark is a control token, it has no text otherwise. */
export function showMarks(tokenizer: Tokenizer, marks: readonly string[]): TokenBytes {
  const shown = new Map<number, string>();
  for (const mark of marks) {
    const [id, ...more] = tokenizer.encode(mark, { parseSpecial: true });
    if (id !== undefined && more.length === 0 && tokenizer.tokenText(id) === "")
      shown.set(id, mark);
  }
  if (shown.size === 0) return tokenizer;
  const encoder = new TextEncoder();
  return {
    tokenBytes: (id) => {
      const mark = shown.get(id);
      return mark === undefined ? tokenizer.tokenBytes(id) : encoder.encode(mark);
    },
    tokenText: (id) => shown.get(id) ?? tokenizer.tokenText(id),
  };
}
