/**
 * The part of a run in which it was under full load: the longest window with at least a share of the peak concurrency. A run's
 * ramp and its tail, where the last requests have the server for themselves, are left out.
 */

import type { RequestRecord } from "../types.ts";
import { tokensByChunk } from "./request-times.ts";

/** A dip this short does not end the window: between the end of one request and the start of the next the client must turn round. */
const HANDOVER_MS = 50;

export interface SteadyState {
  /** Milliseconds of the run. */
  readonly startAt: number;
  readonly endAt: number;
  /** Requests at a time that count as full load. */
  readonly threshold: number;
  /** A second: requests that ended, tokens that came, prompt tokens of requests whose first token came in the window. */
  readonly requestThroughput: number;
  readonly outputThroughput: number;
  readonly inputThroughput: number;
  readonly meanConcurrency: number;
}

interface Span {
  readonly from: number;
  readonly to: number;
  readonly open: number;
}

/** How many requests were open from when to when; spans follow each other without a gap. */
function concurrencySpans(records: readonly RequestRecord[]): Span[] {
  const changes = new Map<number, number>();
  const change = (at: number, by: number): void => {
    changes.set(at, (changes.get(at) ?? 0) + by);
  };
  for (const { sentAt, endedAt } of records) {
    change(sentAt, 1);
    change(endedAt, -1);
  }
  const times = [...changes.keys()].sort((a, b) => a - b);
  const spans: Span[] = [];
  let open = 0;
  for (const [i, from] of times.entries()) {
    open += changes.get(from) ?? 0;
    const to = times[i + 1];
    if (to !== undefined) spans.push({ from, to, open });
  }
  return spans;
}

/** Most requests that were open at one moment. */
export function peakConcurrency(records: readonly RequestRecord[]): number {
  return concurrencySpans(records).reduce((most, { open }) => Math.max(most, open), 0);
}

/** `ratio` of the peak concurrency is full load (0 … 1). Undefined where no request took any time. */
export function steadyState(
  records: readonly RequestRecord[],
  ratio: number,
): SteadyState | undefined {
  const spans = concurrencySpans(records);
  const threshold = Math.max(1, Math.ceil(ratio * peakConcurrency(records)));
  const window = longestWindow(spans, threshold);
  if (window === undefined) return undefined;
  const { startAt, endAt } = window;
  const inside = (at: number): boolean => at > startAt && at <= endAt;
  let ended = 0;
  let outputTokens = 0;
  let promptTokens = 0;
  for (const record of records) {
    if (record.outcome === "ok" && inside(record.endedAt)) ended += 1;
    const tokens = tokensByChunk(record);
    for (const [i, { at }] of record.chunks.entries())
      if (inside(at)) outputTokens += tokens[i] ?? 0;
    const first = record.chunks[0];
    if (first !== undefined && inside(first.at)) promptTokens += record.promptTokens;
  }
  let openTime = 0;
  for (const { from, to, open } of spans)
    openTime += open * Math.max(0, Math.min(to, endAt) - Math.max(from, startAt));
  const seconds = (endAt - startAt) / 1000;
  return {
    startAt,
    endAt,
    threshold,
    requestThroughput: ended / seconds,
    outputThroughput: outputTokens / seconds,
    inputThroughput: promptTokens / seconds,
    meanConcurrency: openTime / (endAt - startAt),
  };
}

/** The first of the longest ones. Begins and ends in spans of full load; short dips lie inside. */
function longestWindow(
  spans: readonly Span[],
  threshold: number,
): { startAt: number; endAt: number } | undefined {
  let longest: { startAt: number; endAt: number } | undefined;
  let current: { startAt: number; endAt: number } | undefined;
  for (const { from, to, open } of spans) {
    if (open < threshold || to === from) continue;
    const goesOn = current !== undefined && from - current.endAt <= HANDOVER_MS;
    current = { startAt: goesOn && current !== undefined ? current.startAt : from, endAt: to };
    if (longest === undefined || to - current.startAt > longest.endAt - longest.startAt)
      longest = current;
  }
  return longest;
}
