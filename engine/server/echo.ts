/** `echo`: the prompt goes before the answer, in text and in tokens. */

import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Choice } from "./choice.ts";
import type { Tokens } from "./logprobs.ts";
import type { CompletionRequest } from "./openai.ts";

/** Text of the prompt of choice `index`; empty without `echo`. */
export function echoedText(
  request: CompletionRequest,
  index: number,
  tokenizer: Tokenizer,
): string {
  if (!request.echo) return "";
  const prompt = request.prompts[Math.floor(index / request.n)] ?? "";
  return typeof prompt === "string" ? prompt.toWellFormed() : tokenizer.decode(prompt);
}

/** What is answered of an answer's text: nothing where `max_tokens` was 0. */
export function answeredText(request: CompletionRequest, text: string): string {
  return request.promptOnly ? "" : text;
}

/** The same of an answer's token ids. */
export function answeredIds(request: CompletionRequest, ids: readonly number[]): readonly number[] {
  return request.promptOnly ? [] : ids;
}

/** An answer's tokens with the prompt's before them where they are wanted. `first`: the choice that has the prompt's. */
export function answeredTokens(request: CompletionRequest, first: Choice, answer: Tokens): Tokens {
  const own = request.promptOnly ? NO_TOKENS : answer;
  const { promptLogprobs } = first;
  if (!request.echo || promptLogprobs === undefined) return own;
  const tops = promptLogprobs.tops.map((top) => ({
    ...top,
    tokenIds: top.tokenIds.slice(0, request.topLogprobs),
    logprobs: top.logprobs.slice(0, request.topLogprobs),
  }));
  return {
    tokenIds: [...first.request.promptTokenIds, ...own.tokenIds],
    logprobs: [null, ...promptLogprobs.logprobs, ...own.logprobs],
    tops: [null, ...tops, ...own.tops],
  };
}

const NO_TOKENS: Tokens = { tokenIds: [], logprobs: [], tops: [] };
