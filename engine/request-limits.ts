/** What can be served at all. Both sides of the engine ask the same questions, so a refusal costs no queueing. */

import { type GroupSpec, peakBlocks } from "./cache/block-group.ts";
import { KvEngineError } from "./errors.ts";
import { type GenerateRequest, NO_LOGPROBS, type SamplingParams } from "./request.ts";

export interface RequestLimits {
  /** Most tokens of prompt and output together. */
  readonly maxModelLen: number;
  readonly vocabSize: number;
  /** Tokens of a KV block. */
  readonly blockSize: number;
  /** Groups of layers, each with a block table of its own. */
  readonly groups: readonly GroupSpec[];
  /** Most tokens of one sequence in steps that have not committed. */
  readonly maxInFlightTokens: number;
  /** Blocks that requests can use (the null block left out). */
  readonly numBlocks: number;
}

/** What the KV blocks allow depends on. */
export type KvLimits = Omit<RequestLimits, "vocabSize">;

/** Most top log-probabilities beside each token. */
export const MAX_LOGPROBS = 20;

/** Most KV blocks that a request holds at a time. The last token is sampled and never computed, so it needs no slot. */
export function blocksNeeded(numPromptTokens: number, maxTokens: number, limits: KvLimits): number {
  const { groups, blockSize, maxInFlightTokens } = limits;
  return peakBlocks(groups, blockSize, numPromptTokens + maxTokens - 1, maxInFlightTokens);
}

/** Most tokens of prompt and output together that the KV blocks can hold; no more than the model takes. */
export function longestSequence(limits: KvLimits): number {
  let [fits, tooLong] = [0, limits.maxModelLen + 1];
  while (fits + 1 < tooLong) {
    const length = Math.floor((fits + tooLong) / 2);
    if (blocksNeeded(length, 0, limits) <= limits.numBlocks) fits = length;
    else tooLong = length;
  }
  return fits;
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
  checkOthers(request);
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

/** Of a value: its field, what was found, whether it is fine, and what is allowed. */
type Check = readonly [subject: string, found: unknown, fine: boolean, allowed: string];

function checkOthers({ cacheSalt, priority }: GenerateRequest): void {
  refuseFirst([
    ["cache_salt", JSON.stringify(cacheSalt), cacheSalt !== "", "a text that is not empty"],
    ["priority", priority, Number.isSafeInteger(priority), "an integer"],
  ]);
}

/** The native sampler refuses the same values, but there a whole step would fail for one request. */
function checkSampling(sampling: SamplingParams, vocabSize: number): void {
  const { temperature, topK, topP, minP, choice, seed, maxTokens, minTokens } = sampling;
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = sampling;
  const uint32 = (value: number): boolean => value >>> 0 === value;
  const inVocabulary = (id: number): boolean => uint32(id) && id < vocabSize;
  const ids = `0 to ${vocabSize - 1}`;
  const tokenIds = (subject: string, list: readonly number[]): Check => {
    const bad = list.find((id) => !inVocabulary(id));
    return [subject, bad, bad === undefined, ids];
  };
  const penalty = (subject: string, value: number): Check => {
    return [subject, value, Math.abs(value) <= 2, "-2 to 2"];
  };
  const logprobs = (subject: string, value: number): Check => {
    const fine = Number.isInteger(value) && value >= NO_LOGPROBS && value <= MAX_LOGPROBS;
    return [subject, value, fine, `0 to ${MAX_LOGPROBS}`];
  };
  const badBias = logitBias.find(([, bias]) => !(Math.abs(bias) <= 100));
  const emptyWord = sampling.badWords.findIndex((word) => word.length === 0);
  refuseFirst([
    ["temperature", temperature, temperature >= 0 && Number.isFinite(temperature), "0 and more"],
    ["top_k", topK, uint32(topK), "0 (all) and more"],
    ["top_p", topP, topP > 0 && topP <= 1, "above 0, up to 1"],
    ["min_p", minP, minP >= 0 && minP <= 1, "0 to 1"],
    ["seed", seed.join(", "), seed.every(uint32), "two numbers of 32 bits"],
    ["choice", choice, uint32(choice), "0 and more"],
    tokenIds("stop_token_ids", sampling.stopTokenIds),
    [
      "min_tokens",
      minTokens,
      uint32(minTokens) && minTokens <= maxTokens,
      `0 to max_tokens, which is ${maxTokens}`,
    ],
    [
      "repetition_penalty",
      repetitionPenalty,
      // The sampler has 32-bit floats.
      Math.fround(repetitionPenalty) > 0 && Number.isFinite(Math.fround(repetitionPenalty)),
      "above 0",
    ],
    penalty("presence_penalty", presencePenalty),
    penalty("frequency_penalty", frequencyPenalty),
    tokenIds(
      "logit_bias",
      logitBias.map(([id]) => id),
    ),
    ["logit_bias", badBias?.[1], badBias === undefined, "-100 to 100"],
    tokenIds("allowed_token_ids", sampling.allowedTokenIds),
    ["bad_words", "a word without tokens", emptyWord < 0, "words of at least one token"],
    tokenIds("bad_words", sampling.badWords.flat()),
    logprobs("logprobs", sampling.topLogprobs),
    logprobs("prompt_logprobs", sampling.promptLogprobs),
  ]);
}

function refuseFirst(checks: readonly Check[]): void {
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
