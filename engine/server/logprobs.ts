/** Log-probabilities in the shapes of OpenAI (chats, completions) and vLLM (prompts). */

import type { PromptLogprobs, TopLogprobs } from "../request.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Tokens of an answer and what is known of them. */
export interface Tokens {
  readonly tokenIds: readonly number[];
  /** One for each token; null = unknown, as for the first token of a text. */
  readonly logprobs: readonly (number | null)[];
  /** The same; empty where none were asked for. */
  readonly tops: readonly (TopLogprobs | null)[];
}

/** JSON has no infinity; vLLM's floor. */
function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}

const decoder = new TextDecoder();

interface TokenJson {
  readonly token: string;
  readonly logprob: number;
  /** The token's UTF-8; a character may be spread over several tokens. */
  readonly bytes: readonly number[];
}

export interface ChatLogprobs {
  readonly content: readonly (TokenJson & { readonly top_logprobs: readonly TokenJson[] })[];
  readonly refusal: null;
}

export function chatLogprobs(tokenizer: Tokenizer, tokens: Tokens): ChatLogprobs {
  const json = (id: number, logprob: number): TokenJson => {
    const bytes = tokenizer.tokenBytes(id);
    return { token: decoder.decode(bytes), logprob: finite(logprob), bytes: [...bytes] };
  };
  const content = tokens.tokenIds.map((id, i) => {
    const top = tokens.tops[i];
    const others = top?.tokenIds.map((other, rank) => json(other, top.logprobs[rank] as number));
    return { ...json(id, tokens.logprobs[i] as number), top_logprobs: others ?? [] };
  });
  return { content, refusal: null };
}

export interface CompletionLogprobsJson {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  /** The most probable tokens, and the chosen one where it is none of them. */
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  /** In characters (code points) from the start of the answer's text. */
  readonly text_offset: readonly number[];
}

/** The older form, which counts offsets through a whole choice. */
export class CompletionLogprobs {
  readonly #tokenizer: Tokenizer;
  #offset = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  next({ tokenIds, logprobs, tops }: Tokens): CompletionLogprobsJson {
    const texts = tokenIds.map((id) => this.#text(id));
    return {
      tokens: texts,
      token_logprobs: logprobs.map((logprob) => (logprob === null ? null : finite(logprob))),
      top_logprobs: texts.map((text, i) => this.#top(text, logprobs[i] ?? null, tops[i] ?? null)),
      text_offset: texts.map((text) => {
        const offset = this.#offset;
        this.#offset += Array.from(text).length;
        return offset;
      }),
    };
  }

  /** Tokens of one text (bytes that are no character) share an entry: that of the most probable. */
  #top(
    text: string,
    logprob: number | null,
    top: TopLogprobs | null,
  ): Readonly<Record<string, number>> | null {
    if (logprob === null) return null;
    const entries = new Map<string, number>();
    const add = (one: string, value: number): void => {
      if (!entries.has(one)) entries.set(one, finite(value));
    };
    top?.tokenIds.forEach((id, i) => add(this.#text(id), top.logprobs[i] as number));
    add(text, logprob);
    return Object.fromEntries(entries);
  }

  #text(id: number): string {
    return decoder.decode(this.#tokenizer.tokenBytes(id));
  }
}

interface PromptLogprobJson {
  readonly logprob: number;
  /** Place among all tokens by probability, from 1. */
  readonly rank: number;
  readonly decoded_token: string;
}

/** vLLM's form: of each prompt token an object by token id, of the first one null. */
export type PromptLogprobsJson = readonly (Readonly<Record<string, PromptLogprobJson>> | null)[];

/** `count`: how many of the most probable tokens are named beside the prompt's own. */
export function promptLogprobsJson(
  tokenizer: Tokenizer,
  promptTokenIds: Int32Array,
  { logprobs, tops }: PromptLogprobs,
  count: number,
): PromptLogprobsJson {
  const json = (id: number, logprob: number, rank: number): PromptLogprobJson => ({
    logprob: finite(logprob),
    rank,
    decoded_token: decoder.decode(tokenizer.tokenBytes(id)),
  });
  const known = logprobs.map((logprob, i) => {
    const id = promptTokenIds[i + 1] as number;
    const top = tops[i];
    const others = (top?.tokenIds ?? [])
      .slice(0, count)
      .map((other, at) => [other, json(other, top?.logprobs[at] as number, at + 1)] as const);
    return Object.fromEntries([...others, [id, json(id, logprob, top?.rank ?? 0)]]);
  });
  return [null, ...known];
}
