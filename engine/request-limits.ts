/** What can be served at all. Both sides of the engine ask the same questions, so a refusal costs no queueing. */

import { KvEngineError } from "./errors.ts";
import type { GenerateRequest, SamplingParams } from "./request.ts";

export interface RequestLimits {
  /** Most tokens of prompt and output together. */
  readonly maxModelLen: number;
  readonly vocabSize: number;
  /** Tokens of a KV block. */
  readonly blockSize: number;
  /** Groups of layers, each with a block table of its own. */
  readonly numGroups: number;
  /** Blocks that requests can use (the null block left out). */
  readonly numBlocks: number;
}

/**
 * KV blocks that a request can ever hold. The last token is sampled and never computed, so it needs no slot.
 */
export function blocksNeeded(
  numPromptTokens: number,
  maxTokens: number,
  limits: RequestLimits,
): number {
  return limits.numGroups * Math.ceil((numPromptTokens + maxTokens - 1) / limits.blockSize);
}

/** Throws `invalid_request` or `context_length_exceeded`, with the numbers, when the request can never be served. */
export function checkRequest(request: GenerateRequest, limits: RequestLimits): void {
  const prompt = request.promptTokenIds;
  const { maxTokens } = request.sampling;
  if (prompt.length === 0) {
    throw new KvEngineError("invalid_request", "the prompt has no tokens; at least one is needed", {
      subject: "prompt",
    });
  }
  if (!Number.isInteger(maxTokens) || maxTokens < 1) {
    throw new KvEngineError(
      "invalid_request",
      `max_tokens is ${maxTokens}; allowed is 1 and more`,
      {
        subject: "max_tokens",
      },
    );
  }
  if (prompt.length + 1 > limits.maxModelLen) {
    throw new KvEngineError(
      "context_length_exceeded",
      `the prompt has ${prompt.length} tokens; this model takes at most ${limits.maxModelLen - 1} and one to generate`,
      { subject: "prompt", hint: "shorten the prompt" },
    );
  }
  if (prompt.length + maxTokens > limits.maxModelLen) {
    throw new KvEngineError(
      "context_length_exceeded",
      `the prompt has ${prompt.length} tokens and max_tokens is ${maxTokens}: ${prompt.length + maxTokens} together, ` +
        `at most ${limits.maxModelLen} fit`,
      {
        subject: "max_tokens",
        hint: `lower max_tokens to ${limits.maxModelLen - prompt.length} or shorten the prompt`,
      },
    );
  }
  const needed = blocksNeeded(prompt.length, maxTokens, limits);
  if (needed > limits.numBlocks) {
    throw new KvEngineError(
      "context_length_exceeded",
      `the prompt has ${prompt.length} tokens and max_tokens is ${maxTokens}: ${needed} KV blocks of ` +
        `${limits.blockSize} tokens, there are ${limits.numBlocks}`,
      {
        subject: "max_tokens",
        hint: "lower max_tokens, shorten the prompt, or give the KV cache more memory",
      },
    );
  }
  checkSampling(request.sampling, limits.vocabSize);
  for (let i = 0; i < prompt.length; i++) {
    const token = prompt[i] as number;
    if (token < 0 || token >= limits.vocabSize) {
      throw new KvEngineError(
        "invalid_request",
        `token ${i} of the prompt is ${token}; allowed is 0 to ${limits.vocabSize - 1}`,
        { subject: "prompt" },
      );
    }
  }
}

/** The native sampler refuses the same values, but there a whole step would fail for one request. */
function checkSampling(sampling: SamplingParams, vocabSize: number): void {
  const { temperature, topK, topP, minP, choice, seed, stopTokenIds } = sampling;
  const uint32 = (value: number): boolean => value >>> 0 === value;
  const badStop = stopTokenIds.find((id) => !(uint32(id) && id < vocabSize));
  const checks: readonly (readonly [
    name: string,
    found: unknown,
    fine: boolean,
    allowed: string,
  ])[] = [
    ["temperature", temperature, temperature >= 0 && Number.isFinite(temperature), "0 and more"],
    ["top_k", topK, uint32(topK), "0 (all) and more"],
    ["top_p", topP, topP > 0 && topP <= 1, "above 0, up to 1"],
    ["min_p", minP, minP >= 0 && minP <= 1, "0 to 1"],
    ["seed", seed.join(", "), seed.every(uint32), "two numbers of 32 bits"],
    ["choice", choice, uint32(choice), "0 and more"],
    ["stop_token_ids", badStop, badStop === undefined, `0 to ${vocabSize - 1}`],
  ];
  for (const [subject, found, fine, allowed] of checks) {
    if (!fine) {
      throw new KvEngineError(
        "invalid_request",
        `${subject} is ${String(found)}; allowed is ${allowed}`,
        { subject },
      );
    }
  }
}
