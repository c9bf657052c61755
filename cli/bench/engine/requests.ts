/** Requests of a measurement: made-up tokens, greedy picks, and when what came. */

import type { EngineClient } from "../../../engine/engine-client.ts";
import { errorFromData } from "../../../engine/errors.ts";
import { DEFAULT_SAMPLING } from "../../../engine/request.ts";

/** Times in nanoseconds of one monotonic clock. */
export interface Answered {
  readonly askedAt: number;
  readonly firstTokenAt: number;
  readonly endedAt: number;
  /** Prompt tokens whose KV was there. */
  readonly cachedTokens: number;
  readonly tokenIds: readonly number[];
  /** When each of `tokenIds` came. */
  readonly times: readonly number[];
}

/** Asks for `numTokens` tokens behind a prompt and waits for the last. Throws what the engine throws. */
export async function ask(
  client: EngineClient,
  promptTokenIds: Int32Array,
  numTokens: number,
): Promise<Answered> {
  const tokenIds: number[] = [];
  const times: number[] = [];
  let cachedTokens = 0;
  const askedAt = Bun.nanoseconds();
  const events = client.generate({
    id: crypto.randomUUID(),
    promptTokenIds,
    sampling: { ...DEFAULT_SAMPLING, maxTokens: numTokens },
    priority: 0,
    arrivalTime: Date.now(),
  });
  for await (const event of events) {
    const now = Bun.nanoseconds();
    for (const token of event.tokenIds) {
      tokenIds.push(token);
      times.push(now);
    }
    if (event.finish?.error !== undefined) throw errorFromData(event.finish.error);
    cachedTokens = event.finish?.usage.cachedTokens ?? cachedTokens;
  }
  const endedAt = times.at(-1) ?? Bun.nanoseconds();
  return { askedAt, firstTokenAt: times[0] ?? endedAt, endedAt, cachedTokens, tokenIds, times };
}

/** The same tokens for the same seed on every machine (mulberry32). */
export function randomTokens(length: number, vocabSize: number, seed: number): Int32Array {
  let state = seed + 1;
  return Int32Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % vocabSize;
  });
}
