/** Grammars on the native side: compiled on its threads, opaque here. */

import type { CompiledGrammar, GrammarSource } from "../request.ts";
import {
  callNative,
  fromNative,
  NativeGrammar,
  NativeGrammarCompiler,
  type TokenizerVocabulary,
} from "./native.ts";

export class GrammarCompiler {
  readonly #native: NativeGrammarCompiler;

  constructor(vocabulary: TokenizerVocabulary & { readonly eosIds: readonly number[] }) {
    this.#native = callNative(() => new NativeGrammarCompiler(vocabulary, [...vocabulary.eosIds]));
  }

  /** Throws `invalid_request` with what is wrong with the source, `unsupported` where the vocabulary names no end. */
  async compile({ text }: GrammarSource): Promise<CompiledGrammar> {
    try {
      return await this.#native.compile(text);
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }
}

/** What `openSeat` takes of a request's grammar. */
export function nativeGrammar(compiled: object | undefined): NativeGrammar | undefined {
  return compiled instanceof NativeGrammar ? compiled : undefined;
}
