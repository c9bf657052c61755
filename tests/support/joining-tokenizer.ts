/** A byte tokenizer with tokens for pairs of letters: two words written one after another may be one token. */

import { ByteTokenizer } from "./byte-tokenizer.ts";
import type { EncodeOptions, Tokenizer } from "../../engine/tokenizer/tokenizer.ts";

const PAIRS = ["th", "he", "in", "er", "an", "re", "on", "at", "en", "nd"];
const FIRST_PAIR = 258;

export class JoiningTokenizer extends ByteTokenizer implements Tokenizer {
  override encode(text: string, options: EncodeOptions): Int32Array {
    const bytes = super.encode(text, options);
    const ids: number[] = [];
    for (let i = 0; i < bytes.length; i++) {
      const pair = PAIRS.indexOf(String.fromCharCode(bytes[i]!, bytes[i + 1] ?? 0));
      ids.push(pair < 0 ? bytes[i]! : FIRST_PAIR + pair);
      if (pair >= 0) i++;
    }
    return Int32Array.from(ids);
  }

  override tokenBytes(id: number): Uint8Array {
    const pair = PAIRS[id - FIRST_PAIR];
    return pair === undefined ? super.tokenBytes(id) : new TextEncoder().encode(pair);
  }
}
