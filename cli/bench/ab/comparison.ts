/** Two sides of several runs each, metric by metric: a ratio, its interval and what may be said of it. */

import { type FlatMetrics, metricKind, type MetricKind } from "../metrics/flat-metrics.ts";
import { mean } from "../metrics/distribution.ts";
import {
  geometricMean,
  pairedInterval,
  type RatioInterval,
  type RunPair,
  unpairedInterval,
} from "./ratio-interval.ts";

/** One run, as a result file has it. */
export interface ResultRow {
  readonly label: string;
  /** Milliseconds since 1970; absent where the file does not tell. */
  readonly startedAt?: number;
  readonly metrics: FlatMetrics;
  /** What was run, in words: workload, load, cache state. Sides that differ in it did different work. */
  readonly conditions: Readonly<Record<string, string>>;
}

export interface Side {
  readonly label: string;
  readonly runs: readonly ResultRow[];
}

/** `interleaved`: each run of a followed or was followed by one of b. `single`: a side has one run, which says nothing of the noise. */
export type Design = "interleaved" | "apart" | "single";

export interface MetricComparison {
  readonly metric: MetricKind;
  /** Geometric mean over the side's runs; the arithmetic one where a run of either side has 0. */
  readonly a: number;
  readonly b: number;
  /** The figure of each run, for plots. */
  readonly valuesOfA: readonly number[];
  readonly valuesOfB: readonly number[];
  /** Absent with one run a side, and where a run has 0: 0 is no part of a ratio. */
  readonly interval?: RatioInterval;
  readonly verdict: Verdict;
}

/** `unknown`: there is no interval. */
export type Verdict = "a is better" | "b is better" | "no difference" | "unknown";

export interface Comparison {
  readonly a: string;
  readonly b: string;
  readonly runsOfA: number;
  readonly runsOfB: number;
  readonly design: Design;
  readonly metrics: readonly MetricComparison[];
  /** Metrics in which the sides differ when all that were looked at are taken into account (Holm, 5 % for all together). */
  readonly different: readonly string[];
  /** What a reader should know before believing it. */
  readonly warnings: readonly string[];
}

/** What is compared unless more is asked for. */
export const COMPARED: readonly string[] = [
  "output_throughput",
  "steady_output_throughput",
  "request_throughput",
  "request_goodput",
  "ttft_median",
  "ttft_p99",
  "tpot_median",
  "tpot_p99",
  "itl_p99",
  "e2el_median",
  "e2el_p99",
];

/** Compares the metrics of `names` that every run of both sides has. Sides have at least one run each. */
export function compareSides(a: Side, b: Side, names: readonly string[] = COMPARED): Comparison {
  const pairs = pairRuns(a.runs, b.runs);
  const single = a.runs.length < 2 || b.runs.length < 2;
  const kinds = names.flatMap((name) => metricKind(name) ?? []);
  const metrics = kinds.flatMap((kind) => compareMetric(kind, a, b, pairs) ?? []);
  const apart = pairs === undefined ? "apart" : "interleaved";
  const design: Design = single ? "single" : apart;
  return {
    a: a.label,
    b: b.label,
    runsOfA: a.runs.length,
    runsOfB: b.runs.length,
    design,
    metrics,
    different: differentMetrics(metrics),
    warnings: [
      ...designWarnings(design),
      ...conditionWarnings(a, b),
      ...failureWarnings([a, b]),
      ...missingWarnings(kinds, [...a.runs, ...b.runs]),
    ],
  };
}

function compareMetric(
  metric: MetricKind,
  a: Side,
  b: Side,
  pairs: readonly (readonly [ResultRow, ResultRow])[] | undefined,
): MetricComparison | undefined {
  const valueOf = (run: ResultRow): number => run.metrics[metric.key] ?? Number.NaN;
  const valuesOfA = a.runs.map(valueOf);
  const valuesOfB = b.runs.map(valueOf);
  const all = [...valuesOfA, ...valuesOfB];
  if (all.some(Number.isNaN)) return undefined;
  const positive = all.every((value) => value > 0);
  const interval = positive ? intervalFor(valuesOfA, valuesOfB, valueOf, pairs) : undefined;
  return {
    metric,
    a: centre(valuesOfA, positive),
    b: centre(valuesOfB, positive),
    valuesOfA,
    valuesOfB,
    ...(interval === undefined ? {} : { interval }),
    verdict: verdictOf(metric, interval),
  };
}

function intervalFor(
  valuesOfA: readonly number[],
  valuesOfB: readonly number[],
  valueOf: (run: ResultRow) => number,
  pairs: readonly (readonly [ResultRow, ResultRow])[] | undefined,
): RatioInterval | undefined {
  if (pairs === undefined) return unpairedInterval(valuesOfA, valuesOfB);
  return pairedInterval(
    pairs.map(([a, b]): RunPair => ({
      a: valueOf(a),
      b: valueOf(b),
      aFirst: (a.startedAt ?? 0) < (b.startedAt ?? 0),
    })),
  );
}

function verdictOf({ better }: MetricKind, interval: RatioInterval | undefined): Verdict {
  if (interval === undefined) return "unknown";
  if (interval.larger === "none") return "no difference";
  const winner = (interval.larger === "b") === (better === "higher") ? "b" : "a";
  return `${winner} is better`;
}

/** The runs two by two in the order of time, each time one of a and one of b; undefined where they did not run like that. */
function pairRuns(
  a: readonly ResultRow[],
  b: readonly ResultRow[],
): (readonly [ResultRow, ResultRow])[] | undefined {
  const runs = [...a.map((run) => ({ run, ofA: true })), ...b.map((run) => ({ run, ofA: false }))];
  const times = new Set(runs.map(({ run }) => run.startedAt));
  if (a.length !== b.length || times.size !== runs.length || times.has(undefined)) return undefined;
  runs.sort((one, two) => (one.run.startedAt ?? 0) - (two.run.startedAt ?? 0));
  const pairs: (readonly [ResultRow, ResultRow])[] = [];
  for (let i = 0; i < runs.length; i += 2) {
    const [first, second] = [runs[i], runs[i + 1]];
    if (first === undefined || second === undefined || first.ofA === second.ofA) return undefined;
    pairs.push(first.ofA ? [first.run, second.run] : [second.run, first.run]);
  }
  return pairs;
}

function centre(values: readonly number[], positive: boolean): number {
  return positive ? geometricMean(values) : mean(values);
}

/** Holm's step-down: the smallest of m chances must be below 5 % / m, the next below 5 % / (m − 1), … */
function differentMetrics(metrics: readonly MetricComparison[]): string[] {
  const tested = metrics
    .flatMap(({ metric, interval }) =>
      interval === undefined ? [] : { name: metric.name, p: interval.p },
    )
    .sort((one, two) => one.p - two.p);
  const firstEqual = tested.findIndex(({ p }, i) => p > 0.05 / (tested.length - i));
  return tested.slice(0, firstEqual < 0 ? tested.length : firstEqual).map(({ name }) => name);
}

function designWarnings(design: Design): string[] {
  switch (design) {
    case "interleaved":
      return [];
    case "apart":
      return [
        "the runs of a and b did not take turns: what else changed on the machine between them is in the ratios",
      ];
    default:
      return [
        "one run a side says nothing of the noise: there are no intervals and no verdicts; run each side at least twice, better five times",
      ];
  }
}

function conditionWarnings(a: Side, b: Side): string[] {
  const valuesOf = (side: Side, name: string): string =>
    [...new Set(side.runs.map(({ conditions }) => conditions[name] ?? "not told"))]
      .sort()
      .join(", ");
  const names = [a, b].flatMap(({ runs }) => runs.flatMap((run) => Object.keys(run.conditions)));
  return [...new Set(names)].flatMap((name) => {
    const [ofA, ofB] = [valuesOf(a, name), valuesOf(b, name)];
    return ofA === ofB ? [] : `${name} differs: ${ofA} on side a, ${ofB} on side b`;
  });
}

function failureWarnings(sides: readonly Side[]): string[] {
  return sides.flatMap(({ runs }, i) => {
    const failed = runs.reduce((total, run) => total + (run.metrics["failed"] ?? 0), 0);
    return failed === 0
      ? []
      : `${failed} requests of side ${"ab"[i]} failed; they are in no figure`;
  });
}

/** A metric that no run has was not asked for; one that some have is missed. */
function missingWarnings(kinds: readonly MetricKind[], runs: readonly ResultRow[]): string[] {
  return kinds.flatMap(({ key, name }) => {
    const without = runs.filter(({ metrics }) => metrics[key] === undefined).length;
    return without === 0 || without === runs.length
      ? []
      : `${name} is not compared: ${without} of ${runs.length} runs do not have it`;
  });
}
