/**
 * `summarize`: all that is said of a run. Definitions are vLLM's (`vocabulary.ts` has everyone's words for them). Times and
 * throughputs are those of requests that were answered whole; what came of the others is counted apart.
 */

import type { SloTargets } from "../slo.ts";
import type { RequestRecord, Run } from "../types.ts";
import { clientLoad, type ClientLoad } from "./client-limits.ts";
import { describe, type Distribution, sum } from "./distribution.ts";
import { type FailureClass, failureClasses } from "./failures.ts";
import { isGood } from "./goodput.ts";
import { type PromptSources, promptSources } from "./prompt-sources.ts";
import { requestTimes, type RequestTimes } from "./request-times.ts";
import { peakConcurrency, steadyState, type SteadyState } from "./steady-state.ts";
import { type TimeSeries, timeSeries } from "./time-series.ts";

/** In the order of reports. */
export const LATENCIES = ["ttft", "tpot", "itl", "icl", "e2el"] as const;
export type Latency = (typeof LATENCIES)[number];

export interface SummaryOptions {
  /** In percent. */
  readonly percentiles: readonly number[];
  /** Which latencies have percentiles. */
  readonly percentileMetrics: readonly Latency[];
  readonly goodput: SloTargets;
  /** The share of the peak concurrency that counts as full load. */
  readonly steadyStateRatio: number;
}

export const DEFAULT_SUMMARY: SummaryOptions = {
  percentiles: [90, 95, 99],
  percentileMetrics: LATENCIES,
  goodput: {},
  steadyStateRatio: 0.9,
};

/** Throughputs are of a second, latencies in milliseconds. */
export interface Summary {
  readonly requests: number;
  /** Answered whole. */
  readonly completed: number;
  readonly failed: number;
  readonly failures: readonly FailureClass[];
  readonly durationMs: number;
  /** Of the completed requests. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Tokens that came for requests which did not end. */
  readonly lostOutputTokens: number;
  readonly requestThroughput: number;
  readonly inputThroughput: number;
  readonly outputThroughput: number;
  readonly totalThroughput: number;
  /** Absent where no limit is set. */
  readonly goodput?: {
    readonly limits: SloTargets;
    readonly good: number;
    /** Good requests a second. */
    readonly rate: number;
  };
  readonly steady?: SteadyState;
  /** In the best second. */
  readonly peakOutputTokens: number;
  /** vLLM's: requests open in the fullest second, those that follow each other counted both. */
  readonly openInASecond: number;
  /** Most requests open at one moment. */
  readonly peakConcurrency: number;
  /** Those that were asked for, in percent. */
  readonly percentiles: readonly number[];
  /** `icl` = between chunks. Absent where no request has it. */
  readonly latencies: Readonly<Partial<Record<Latency, Distribution>>>;
  /** What `itl` counts: the server told the tokens of each chunk for all requests, for some, or for none. */
  readonly itlOf: "tokens" | "tokens and chunks" | "chunks";
  /** Who counted the output tokens, and for how many requests. */
  readonly countedBy: Readonly<Partial<Record<RequestRecord["countedBy"], number>>>;
  readonly sources: PromptSources;
  readonly client: ClientLoad;
  /** Of the run and of its whole answers, those alike counted together. */
  readonly warnings: readonly string[];
  /** By seconds. */
  readonly series: TimeSeries;
}

export function summarize(run: Run, options: SummaryOptions = DEFAULT_SUMMARY): Summary {
  const completed = run.records.filter(({ outcome }) => outcome === "ok");
  const rest = run.records.filter(({ outcome }) => outcome !== "ok");
  const times = completed.map(requestTimes);
  const seconds = run.durationMs / 1000;
  const inputTokens = sum(completed.map((record) => record.promptTokens));
  const outputTokens = sum(completed.map((record) => record.outputTokens));
  const series = timeSeries(run.records, 1000);
  const steady = steadyState(run.records, options.steadyStateRatio);
  const latencies = distributions(times, options);
  return {
    requests: run.records.length,
    completed: completed.length,
    failed: rest.length,
    failures: failureClasses(rest),
    durationMs: run.durationMs,
    inputTokens,
    outputTokens,
    lostOutputTokens: sum(rest.map((record) => record.outputTokens)),
    requestThroughput: rate(completed.length, seconds),
    inputThroughput: rate(inputTokens, seconds),
    outputThroughput: rate(outputTokens, seconds),
    totalThroughput: rate(inputTokens + outputTokens, seconds),
    ...goodput(times, options.goodput, seconds),
    ...(steady === undefined ? {} : { steady }),
    peakOutputTokens: Math.max(0, ...series.outputTokens),
    openInASecond: Math.max(0, ...series.openRequests),
    peakConcurrency: peakConcurrency(run.records),
    percentiles: options.percentiles,
    latencies,
    itlOf: itlBasis(times),
    countedBy: countBy(completed.map((record) => record.countedBy)),
    sources: promptSources(run),
    client: clientLoad(run, latencies),
    warnings: [...(run.warnings ?? []), ...answerWarnings(completed)],
    series,
  };
}

function rate(count: number, seconds: number): number {
  return seconds > 0 ? count / seconds : 0;
}

function goodput(
  times: readonly RequestTimes[],
  limits: SloTargets,
  seconds: number,
): Pick<Summary, "goodput"> {
  if (Object.keys(limits).length === 0) return {};
  const good = times.filter((one) => isGood(one, limits)).length;
  return { goodput: { limits, good, rate: rate(good, seconds) } };
}

/** TTFT, TPOT and E2EL have one value a request; ITL and ICL are pooled over all requests. */
function distributions(
  times: readonly RequestTimes[],
  { percentiles, percentileMetrics }: SummaryOptions,
): Summary["latencies"] {
  const values: Readonly<Record<Latency, readonly number[]>> = {
    ttft: times.flatMap(({ ttft }) => ttft ?? []),
    tpot: times.flatMap(({ tpot }) => tpot ?? []),
    itl: times.flatMap(({ tokenGaps }) => tokenGaps),
    icl: times.flatMap(({ chunkGaps }) => chunkGaps),
    e2el: times.map(({ e2el }) => e2el),
  };
  const found: Partial<Record<Latency, Distribution>> = {};
  for (const latency of LATENCIES) {
    const percents = percentileMetrics.includes(latency) ? percentiles : [];
    const distribution = describe(values[latency], percents);
    if (distribution !== undefined) found[latency] = distribution;
  }
  return found;
}

function itlBasis(times: readonly RequestTimes[]): Summary["itlOf"] {
  const withGaps = times.filter(({ chunkGaps }) => chunkGaps.length > 0);
  const told = withGaps.filter(({ perToken }) => perToken).length;
  if (told === 0) return "chunks";
  return told === withGaps.length ? "tokens" : "tokens and chunks";
}

/** Those that begin alike, up to a colon, are of one kind: the first of them stands for all. */
function answerWarnings(records: readonly RequestRecord[]): string[] {
  const found = records.flatMap(({ warning }) => warning ?? []);
  const kindOf = (warning: string): string => warning.split(":")[0] ?? warning;
  const counts = countBy(found.map(kindOf));
  return Object.entries(counts).map(([kind, count]) => {
    const first = found.find((warning) => kindOf(warning) === kind) ?? kind;
    return `${count} ${count === 1 ? "answer" : "answers"}: ${first}`;
  });
}

function countBy<T extends string>(words: readonly T[]): Partial<Record<T, number>> {
  const counts: Partial<Record<T, number>> = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}
