/** What happened when: tokens and requests by time buckets. Tokens that came count, whatever became of their request. */

import type { RequestRecord } from "../types.ts";
import { sourcesOf } from "./prompt-sources.ts";
import { tokensByChunk } from "./request-times.ts";

/** One value a bucket. */
export interface TimeSeries {
  readonly bucketMs: number;
  /** Milliseconds of the run at which the first bucket begins: the first request was sent. */
  readonly startAt: number;
  readonly outputTokens: readonly number[];
  /** Requests that were open at some time of the bucket: vLLM's concurrency, which counts those that follow each other twice. */
  readonly openRequests: readonly number[];
  /** Requests open at a time: the mean over the bucket. */
  readonly concurrency: readonly number[];
  /** Prompt tokens of the requests whose first token came in the bucket, by where their KV came from. */
  readonly promptTokens: Readonly<Record<string, readonly number[]>>;
}

export function timeSeries(records: readonly RequestRecord[], bucketMs: number): TimeSeries {
  const startAt = records.reduce((least, { sentAt }) => Math.min(least, sentAt), Infinity);
  const endAt = records.reduce((most, record) => Math.max(most, lastAt(record)), -Infinity);
  const count = records.length === 0 ? 0 : Math.floor((endAt - startAt) / bucketMs) + 1;
  const zeros = (): number[] => Array.from({ length: count }, () => 0);
  const bucketOf = (at: number): number => Math.floor((at - startAt) / bucketMs);

  const outputTokens = zeros();
  const openRequests = zeros();
  const concurrency = zeros();
  const promptTokens: Record<string, number[]> = {};
  for (const record of records) {
    const tokens = tokensByChunk(record);
    record.chunks.forEach(({ at }, i) => add(outputTokens, bucketOf(at), tokens[i] ?? 0));
    const last = lastAt(record);
    for (let bucket = bucketOf(record.sentAt); bucket <= bucketOf(last); bucket++) {
      const from = startAt + bucket * bucketMs;
      add(openRequests, bucket, 1);
      const openMs = Math.min(last, from + bucketMs) - Math.max(record.sentAt, from);
      add(concurrency, bucket, openMs / bucketMs);
    }
    const first = record.chunks[0];
    if (first === undefined) continue;
    for (const [source, count] of Object.entries(sourcesOf(record)))
      add((promptTokens[source] ??= zeros()), bucketOf(first.at), count);
  }
  return {
    bucketMs,
    startAt: records.length === 0 ? 0 : startAt,
    outputTokens,
    openRequests,
    concurrency,
    promptTokens,
  };
}

/** When its last output came; its end where none did. */
export function lastAt(record: RequestRecord): number {
  return record.chunks.at(-1)?.at ?? record.endedAt;
}

function add(values: number[], index: number, amount: number): void {
  values[index] = (values[index] ?? 0) + amount;
}
