/** A tokenizer without a vocabulary: token n is byte n, and 256 and above are control tokens without text. */

import { decodeTokens, wholeText } from "../../engine/tokenizer/detokenizer.ts";
import type { EncodeOptions, Tokenizer } from "../../engine/tokenizer/tokenizer.ts";

export const BOS_ID = 256;
export const EOS_ID = 257;
/** More ids than tokens: padding rows, as real models have them. */
export const BYTE_VOCAB_SIZE = 300;

export class ByteTokenizer implements Tokenizer {
  readonly vocabSize: number = BYTE_VOCAB_SIZE;
  readonly #addBos: boolean;

  constructor({ addBos = false }: { readonly addBos?: boolean } = {}) {
    this.#addBos = addBos;
  }

  encode(text: string, options: EncodeOptions): Int32Array {
    const bytes = Int32Array.from(new TextEncoder().encode(text));
    return this.#addBos && options.addSpecial === true ? Int32Array.of(BOS_ID, ...bytes) : bytes;
  }

  decode(ids: Iterable<number>): string {
    return decodeTokens(this, ids);
  }

  tokenBytes(id: number): Uint8Array {
    return id < 256 ? Uint8Array.of(id) : new Uint8Array();
  }

  writtenBytes(id: number): Uint8Array {
    return id < 256 ? this.tokenBytes(id) : new TextEncoder().encode(`<|${id}|>`);
  }

  tokenText(id: number): string | undefined {
    return wholeText(this.tokenBytes(id));
  }
}
