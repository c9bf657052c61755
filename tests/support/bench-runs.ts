/** Records and runs of a bench with known times; no server and no clock. */

import type { Chunk, RequestRecord, Run } from "../../cli/bench/types.ts";
import { normalNumber, randomNumbers } from "./simulated-runs.ts";

/** `tokenTimes`: when each chunk of one token came. */
export function recordOf(
  sentAt: number,
  tokenTimes: readonly number[],
  more: Partial<RequestRecord> = {},
): RequestRecord {
  return {
    conversation: "c0",
    turn: 0,
    sentAt,
    chunks: tokenTimes.map((at): Chunk => ({ at, numTokens: 1 })),
    endedAt: tokenTimes.at(-1) ?? sentAt,
    promptTokens: 10,
    outputTokens: tokenTimes.length,
    countedBy: "usage",
    status: 200,
    outcome: "ok",
    text: "",
    ...more,
  };
}

export function runOf(records: readonly RequestRecord[], more: Partial<Run> = {}): Run {
  return {
    label: "kvengine",
    workload: { name: "random", seed: 0, parameters: { "input-len": 10, "output-len": 4 } },
    load: {
      requestRate: Number.POSITIVE_INFINITY,
      burstiness: 1,
      maxConcurrency: 4,
      durationMs: Number.POSITIVE_INFINITY,
      seed: 0,
    },
    target: { baseUrl: "http://127.0.0.1:8000", model: "tiny", server: "kvengine 0.1.0" },
    cacheState: "cold",
    startedAt: "2026-01-31T23:59:00.000Z",
    durationMs: records.reduce((most, { endedAt }) => Math.max(most, endedAt), 0),
    records,
    client: { cpuSeconds: 0.1, lagP99Ms: 1, lagMaxMs: 2 },
    counters: {},
    ...more,
  };
}

export interface Served {
  readonly requests: number;
  readonly concurrency: number;
  readonly seed: number;
  /** Milliseconds a token with nobody else; all times scale with it. */
  readonly pace: number;
}

/** A closed loop of `concurrency` clients against a server whose pace falls with its load; some prompts are half cached. */
export function servedRecords({ requests, concurrency, seed, pace }: Served): RequestRecord[] {
  const random = randomNumbers(seed);
  const free = Array.from({ length: concurrency }, (_, client) => client * 3);
  return Array.from({ length: requests }, (_, i) => {
    const client = free.indexOf(Math.min(...free));
    const sentAt = free[client] ?? 0;
    const promptTokens = 128 + Math.floor(random() * 384);
    const host = random() < 0.25 ? 64 : 0;
    const device = random() < 0.4 ? Math.floor(promptTokens / 2) - host : 0;
    const outputTokens = 16 + Math.floor(random() * 80);
    const computed = promptTokens - host - device;
    let at = sentAt + pace * (2 + computed / 40) * Math.exp(0.25 * normalNumber(random));
    const chunks: Chunk[] = [];
    for (let left = outputTokens; left > 0;) {
      const numTokens = Math.min(left, random() < 0.1 ? 2 : 1);
      chunks.push({ at, numTokens });
      left -= numTokens;
      at += pace * (1 + concurrency / 8) * Math.exp(0.2 * normalNumber(random)) * numTokens;
    }
    const endedAt = (chunks.at(-1)?.at ?? sentAt) + 0.2;
    free[client] = endedAt + 1;
    return {
      conversation: `c${i}`,
      turn: 0,
      sentAt,
      chunks,
      endedAt,
      promptTokens,
      outputTokens,
      countedBy: "usage",
      cachedTokens: host + device,
      cachedByTier: { device, host },
      status: 200,
      outcome: "ok",
      text: `answer ${i}`,
    };
  });
}
