/** Texts of an exact number of tokens where tokens run together: written, counted, and changed at the end until they fit. */

import { KvEngineError } from "../../../engine/errors.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import type { RandomNumbers } from "./random-numbers.ts";
import { drawn } from "./words.ts";

/** Each brings the text nearer, or changes words that ran together. */
const MOST_ATTEMPTS = 200;

/**
 * `text` with words added to its end or taken from it, so that it has `numTokens` tokens.
 * Throws `unsupported` where no such text is found.
 */
export function exactText(
  tokenizer: Tokenizer,
  text: string,
  numTokens: number,
  random: RandomNumbers,
  words: Int32Array,
): string {
  let exact = text;
  for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
    const ids = tokenizer.encode(exact, { parseSpecial: true });
    if (ids.length === numTokens) return exact;
    if (ids.length < numTokens) {
      exact += tokenizer.decode(drawn(random, words, numTokens - ids.length));
    } else {
      // Some more go than needed: the next attempt ends in other words.
      const kept = Math.max(0, numTokens - random.below(4));
      exact = tokenizer.decode(ids.subarray(0, kept));
    }
  }
  throw new KvEngineError(
    "unsupported",
    `no text of exactly ${numTokens} tokens was found: this tokenizer joins words`,
    { subject: "--prompt-form", hint: "use --prompt-form tokens" },
  );
}
