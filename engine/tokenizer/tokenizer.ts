/** Text to token ids and back, over the native tokenizer. */

import { callNative, NativeTokenizer, type TokenizerVocabulary } from "../runner/native.ts";
import { decodeTokens, type TokenBytes, wholeText } from "./detokenizer.ts";

export type { TokenizerVocabulary };

export interface EncodeOptions {
  /** Find control tokens (`<|im_end|>`) written in the text; otherwise they are text like any other. */
  readonly parseSpecial: boolean;
  /** Put the model's own marks (BOS, EOS) around the text where its vocabulary says so. A chat template does it itself. */
  readonly addSpecial?: boolean;
}

export interface Tokenizer extends TokenBytes {
  encode(text: string, options: EncodeOptions): Int32Array;
  /** Text of a whole sequence; control tokens have none. */
  decode(ids: Iterable<number>): string;
  /** The bytes that stand for a token in a prompt: of a control token its mark. */
  writtenBytes(id: number): Uint8Array;
  /** Number of ids. */
  readonly vocabSize: number;
}

/** From a GGUF file's vocabulary. Throws `unsupported` (kind, pre-tokenizer) or `bad_model` (contradictions). */
export function createTokenizer(vocabulary: TokenizerVocabulary): Tokenizer {
  return new TokenizerOverNative(callNative(() => NativeTokenizer.fromGguf(vocabulary)));
}

/** From the text of a Hugging Face `tokenizer.json`. Throws `unsupported` or `bad_model`. */
export function createTokenizerFromJson(text: string): Tokenizer {
  return new TokenizerOverNative(callNative(() => NativeTokenizer.fromJson(text)));
}

class TokenizerOverNative implements Tokenizer {
  readonly vocabSize: number;
  private readonly native: NativeTokenizer;
  /** Filled as ids come up: most texts use few. */
  private readonly tokens: (Token | undefined)[];

  constructor(native: NativeTokenizer) {
    this.native = native;
    this.vocabSize = native.vocabSize;
    // At its full length from the start: ids come in any order, and an array with wide gaps is slow.
    this.tokens = Array.from({ length: native.vocabSize }, () => undefined);
  }

  encode(text: string, options: EncodeOptions): Int32Array {
    return callNative(() =>
      this.native.encode(text, options.parseSpecial, options.addSpecial ?? false),
    );
  }

  decode(ids: Iterable<number>): string {
    return decodeTokens(this, ids);
  }

  tokenBytes(id: number): Uint8Array {
    return this.token(id).bytes;
  }

  tokenText(id: number): string | undefined {
    return this.token(id).text;
  }

  writtenBytes(id: number): Uint8Array {
    const bytes = this.tokenBytes(id);
    const isPadding = !(id >= 0 && id < this.vocabSize);
    return bytes.length > 0 || isPadding ? bytes : this.native.tokenBytes(id, true);
  }

  private token(id: number): Token {
    const known = this.tokens[id];
    if (known !== undefined) return known;
    // An id past the vocabulary is a padding row of the embedding: it stands for no text.
    if (!(id >= 0 && id < this.vocabSize)) return NO_TOKEN;
    const bytes = this.native.tokenBytes(id);
    return (this.tokens[id] = { bytes, text: wholeText(bytes) });
  }
}

interface Token {
  readonly bytes: Uint8Array;
  readonly text: string | undefined;
}

const NO_TOKEN: Token = { bytes: new Uint8Array(0), text: "" };
