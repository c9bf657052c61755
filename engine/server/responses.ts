/** Parts of OpenAI's answers that both endpoints share. */

import type { Usage } from "../request.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ChoiceFinish } from "./choice.ts";
import type { Generation } from "./generation.ts";

/** What every object of one answer begins with. */
export interface Head {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly model: string;
  readonly fingerprint: string;
}

export interface Tokens {
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly number[];
}

export interface Answer extends Tokens {
  readonly text: string;
  readonly finish: ChoiceFinish;
}

/** The whole of every choice. */
export async function collect(generation: Generation): Promise<Answer[]> {
  const parts = generation.choices.map(() => ({
    text: "",
    tokenIds: [] as number[],
    logprobs: [] as number[],
  }));
  const finishes: ChoiceFinish[] = [];
  for await (const delta of generation.deltas()) {
    const part = parts[delta.index] as (typeof parts)[number];
    part.text += delta.text;
    part.tokenIds.push(...delta.tokenIds);
    part.logprobs.push(...delta.logprobs);
    if (delta.finish !== undefined) finishes[delta.index] = delta.finish;
  }
  return parts.map((part, index) => ({
    text: part.text,
    tokenIds: part.tokenIds,
    logprobs: part.logprobs,
    finish: finishes[index] ?? { reason: "stop", stopReason: null },
  }));
}

export interface UsageJson {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

export function usageJson(usage: Usage): UsageJson {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
  };
}

/** JSON has no infinity; vLLM's floor. */
function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}

const decoder = new TextDecoder();

export interface ChatLogprobs {
  readonly content: readonly {
    readonly token: string;
    readonly logprob: number;
    /** The token's UTF-8; a character may be spread over several tokens. */
    readonly bytes: readonly number[];
    readonly top_logprobs: readonly never[];
  }[];
  readonly refusal: null;
}

export function chatLogprobs(tokenizer: Tokenizer, tokens: Tokens): ChatLogprobs {
  const content = tokens.tokenIds.map((id, i) => {
    const bytes = tokenizer.tokenBytes(id);
    return {
      token: decoder.decode(bytes),
      logprob: finite(tokens.logprobs[i] as number),
      bytes: [...bytes],
      top_logprobs: [],
    };
  });
  return { content, refusal: null };
}

export interface CompletionLogprobsJson {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly number[];
  /** The chosen token only. */
  readonly top_logprobs: readonly Readonly<Record<string, number>>[];
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

  next(tokens: Tokens): CompletionLogprobsJson {
    const texts = tokens.tokenIds.map((id) => decoder.decode(this.#tokenizer.tokenBytes(id)));
    const logprobs = tokens.logprobs.map(finite);
    const offsets = texts.map((text) => {
      const offset = this.#offset;
      this.#offset += Array.from(text).length;
      return offset;
    });
    return {
      tokens: texts,
      token_logprobs: logprobs,
      top_logprobs: texts.map((text, i) => ({ [text]: logprobs[i] as number })),
      text_offset: offsets,
    };
  }
}
