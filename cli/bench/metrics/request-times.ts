/**
 * The times of one request by vLLM's definitions. Chunks are what a user sees; tokens are counted where the server tells
 * how many a chunk brought.
 */

import type { RequestRecord } from "../types.ts";

/** Milliseconds. */
export interface RequestTimes {
  /** From sending to the first chunk; absent where no output came. */
  readonly ttft?: number;
  /** From the first chunk to the last, by the tokens after the first one; absent where all came in one chunk. */
  readonly tpot?: number;
  /** From sending to the last chunk, to the end where no output came. */
  readonly e2el: number;
  /** Between chunks, as they arrived. */
  readonly chunkGaps: readonly number[];
  /**
   * Between tokens: the gap before a chunk is shared evenly among the tokens in it (SGLang's rule), so that they add up to the
   * time from the first chunk to the last. Equal to `chunkGaps` where the server does not tell counts.
   */
  readonly tokenGaps: readonly number[];
  /** The server told the tokens of each chunk. */
  readonly perToken: boolean;
}

export function requestTimes(record: RequestRecord): RequestTimes {
  const { chunks, sentAt, outputTokens } = record;
  const first = chunks[0];
  const last = chunks.at(-1);
  if (first === undefined || last === undefined)
    return { e2el: record.endedAt - sentAt, chunkGaps: [], tokenGaps: [], perToken: false };
  const perToken = chunks.every((chunk) => chunk.numTokens > 0);
  const chunkGaps: number[] = [];
  const tokenGaps: number[] = [];
  let before = first.at;
  for (const { at, numTokens } of chunks.slice(1)) {
    const gap = at - before;
    chunkGaps.push(gap);
    const tokens = perToken ? numTokens : 1;
    for (let token = 0; token < tokens; token++) tokenGaps.push(gap / tokens);
    before = at;
  }
  return {
    ttft: first.at - sentAt,
    ...(outputTokens > 1 && chunks.length > 1
      ? { tpot: (last.at - first.at) / (outputTokens - 1) }
      : {}),
    e2el: last.at - sentAt,
    chunkGaps,
    tokenGaps,
    perToken,
  };
}

/** Output tokens that each chunk stands for: what the server told, else an even share of the request's. */
export function tokensByChunk(record: RequestRecord): readonly number[] {
  const { chunks, outputTokens } = record;
  if (chunks.every((chunk) => chunk.numTokens > 0)) return chunks.map((chunk) => chunk.numTokens);
  return chunks.map(() => outputTokens / chunks.length);
}
