/**
 * One request of a recorded trace, as one line of JSON. The first four fields are those of Mooncake's traces, so that its readers
 * take the line too. Hashes are of 53 bits, so that every reader of JSON keeps them, and salted anew for each recording: who has
 * the trace sees what is shared and cannot find out what it was.
 */

import { HASH_WORDS, type HashBlocks } from "../cache/block-hash.ts";
import {
  DEFAULT_SAMPLING,
  type FinishReason,
  type GenerateRequest,
  type SamplingParams,
} from "../request.ts";

/** What is known of a request when it has ended. Times in milliseconds. */
export interface FinishedRequest {
  readonly request: GenerateRequest;
  /** Those that belong to the text. */
  readonly outputIds: readonly number[];
  /** Sampled tokens, the one that ended it included. */
  readonly outputLength: number;
  readonly cachedTokens: number;
  readonly finish: FinishReason;
  /** From arrival to the first token, where there was one, and to the end. */
  readonly firstTokenMs: number | undefined;
  readonly durationMs: number;
}

export interface TraceLine {
  /** Arrival, milliseconds since the epoch. */
  readonly timestamp: number;
  readonly input_length: number;
  readonly output_length: number;
  /** For each block of the prompt a hash of it and all before it; the last block may not be full. */
  readonly hash_ids: readonly number[];
  /** The same for full blocks that hold tokens of the output; the first may begin in the prompt. */
  readonly output_hash_ids: readonly number[];
  /** Tokens. */
  readonly block_size: number;
  readonly cached_tokens: number;
  readonly finish: FinishReason;
  readonly ttft_ms?: number;
  readonly duration_ms: number;
  readonly max_tokens: number;
  /** Numbers that differ from a greedy request's. */
  readonly sampling: Readonly<Record<string, number>>;
  /** Which of a request's choices, from 0; all but the first share its prompt. */
  readonly choice: number;
  readonly priority: number;
  /** With the content. */
  readonly id?: string;
  readonly prompt_token_ids?: readonly number[];
  readonly output_token_ids?: readonly number[];
  readonly prompt?: string;
  readonly output?: string;
}

export interface TraceFormat {
  /** Tokens. */
  readonly blockSize: number;
  readonly hashBlocks: HashBlocks;
  /** Stands for the parent of a first block (8 words); a secret of this recording. */
  readonly noneHash: Int32Array;
  /** The text of tokens: given when contents are to be recorded. */
  readonly decode?: (ids: Iterable<number>) => string;
}

export function traceLine(finished: FinishedRequest, format: TraceFormat): TraceLine {
  const { request, outputIds, outputLength, cachedTokens, finish } = finished;
  const { promptTokenIds, sampling, arrivalTime, priority } = request;
  const { blockSize } = format;
  const hashes = fullBlockHashes(finished, format);
  const numFull = Math.floor(promptTokenIds.length / blockSize);
  const ttft = finished.firstTokenMs;
  return {
    timestamp: arrivalTime,
    input_length: promptTokenIds.length,
    output_length: outputLength,
    hash_ids: [...hashNumbers(hashes, 0, numFull), ...lastBlock(request, hashes, format)],
    output_hash_ids: hashNumbers(hashes, numFull, hashes.length / HASH_WORDS),
    block_size: blockSize,
    cached_tokens: cachedTokens,
    finish,
    ...(ttft === undefined ? {} : { ttft_ms: rounded(ttft) }),
    duration_ms: rounded(finished.durationMs),
    max_tokens: sampling.maxTokens,
    sampling: samplingNumbers(sampling),
    choice: sampling.choice,
    priority,
    ...(format.decode === undefined
      ? {}
      : {
          id: request.id,
          prompt_token_ids: Array.from(promptTokenIds),
          output_token_ids: outputIds,
          prompt: format.decode(promptTokenIds),
          output: format.decode(outputIds),
        }),
  };
}

/** Of prompt and output together, 8 words each. */
function fullBlockHashes(
  { request: { promptTokenIds, cacheSalt }, outputIds }: FinishedRequest,
  { hashBlocks, noneHash, blockSize }: TraceFormat,
): Int32Array {
  const tokens = new Int32Array(promptTokenIds.length + outputIds.length);
  tokens.set(promptTokenIds);
  tokens.set(outputIds, promptTokenIds.length);
  return hashBlocks(noneHash, tokens, blockSize, cacheSalt);
}

/** The hash of the prompt's last block, where it is not full: a block of its own length. */
function lastBlock(
  { promptTokenIds, cacheSalt }: GenerateRequest,
  hashes: Int32Array,
  { hashBlocks, noneHash, blockSize }: TraceFormat,
): number[] {
  const numFull = Math.floor(promptTokenIds.length / blockSize);
  const rest = promptTokenIds.subarray(numFull * blockSize);
  if (rest.length === 0) return [];
  const parent =
    numFull === 0 ? noneHash : hashes.subarray((numFull - 1) * HASH_WORDS, numFull * HASH_WORDS);
  return hashNumbers(
    hashBlocks(parent, rest, rest.length, numFull === 0 ? cacheSalt : undefined),
    0,
    1,
  );
}

/** The first 53 bits of each hash. */
function hashNumbers(hashes: Int32Array, from: number, to: number): number[] {
  const numbers: number[] = [];
  for (let block = from; block < to; block++) {
    const low = hashes[block * HASH_WORDS] as number;
    const high = hashes[block * HASH_WORDS + 1] as number;
    numbers.push((low >>> 0) + (high & 0x1f_ffff) * 2 ** 32);
  }
  return numbers;
}

/** Texts among the params (stop strings, bad words) are content, and so are the ids that a client biased or allowed. */
const NUMBERS: readonly (readonly [name: string, field: NumberField])[] = [
  ["temperature", "temperature"],
  ["top_k", "topK"],
  ["top_p", "topP"],
  ["min_p", "minP"],
  ["min_tokens", "minTokens"],
  ["repetition_penalty", "repetitionPenalty"],
  ["presence_penalty", "presencePenalty"],
  ["frequency_penalty", "frequencyPenalty"],
  ["top_logprobs", "topLogprobs"],
  ["prompt_logprobs", "promptLogprobs"],
];
type NumberField = {
  [F in keyof SamplingParams]: SamplingParams[F] extends number ? F : never;
}[keyof SamplingParams];

function samplingNumbers(sampling: SamplingParams): Record<string, number> {
  const changed = NUMBERS.filter(([, field]) => sampling[field] !== DEFAULT_SAMPLING[field]);
  return Object.fromEntries(changed.map(([name, field]) => [name, sampling[field]]));
}

/** To microseconds. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
