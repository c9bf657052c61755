/** What the charts of a page show, computed here so that the page only draws. Embedded as JSON; see `page.js`. */

import { percentile } from "../../metrics/distribution.ts";
import { flatMetrics, metricKind } from "../../metrics/flat-metrics.ts";
import { requestTimes } from "../../metrics/request-times.ts";
import { type TimeSeries, timeSeries } from "../../metrics/time-series.ts";
import type { RequestRecord } from "../../types.ts";
import type { RunReport } from "../report.ts";

/** Times in seconds of the run. One entry a request, in the order of sending. */
export interface TimelinePlot {
  readonly sent: readonly number[];
  /** The first output; null where none came. */
  readonly first: readonly (number | null)[];
  readonly ended: readonly number[];
  /** Row in which it is drawn: no two requests of a row overlap. */
  readonly lane: readonly number[];
  readonly numLanes: number;
  readonly whole: readonly boolean[];
  /** What a pointer shows. */
  readonly title: readonly string[];
}

/** Times are the middles of the buckets. */
export interface SeriesPlot {
  readonly time: readonly number[];
  /** A second. */
  readonly outputTokens: readonly number[];
  /** Requests open at a time. */
  readonly concurrency: readonly number[];
  /** In coarser buckets: prompts come in lumps. */
  readonly promptTime: readonly number[];
  /** A second, by source. */
  readonly promptTokens: readonly { readonly source: string; readonly values: readonly number[] }[];
}

export interface DistributionPlot {
  readonly title: string;
  readonly logarithmic: boolean;
  /** Milliseconds, ascending; the entry i of a side is of what lies between edge i − 1 and edge i. */
  readonly edges: readonly number[];
  readonly sides: readonly {
    readonly label: string;
    /** In percent; nothing at the first edge. */
    readonly share: readonly (number | null)[];
    /** In percent, up to the edge. */
    readonly cumulative: readonly number[];
  }[];
}

/** A figure of each run, in order. */
export interface RunsPlot {
  readonly title: string;
  readonly sides: readonly {
    readonly label: string;
    readonly values: readonly (number | null)[];
  }[];
}

export interface PlotData {
  readonly runs: readonly {
    readonly label: string;
    readonly timeline: TimelinePlot;
    readonly series: SeriesPlot;
  }[];
  readonly distributions: readonly DistributionPlot[];
  /** Empty for one run. */
  readonly perRun: readonly RunsPlot[];
}

export function plotData(runs: readonly RunReport[]): PlotData {
  return {
    runs: runs.map(({ run }) => ({
      label: run.label,
      timeline: timeline(run.records),
      series: series(run.records),
    })),
    distributions: distributions(runs),
    perRun: runs.length > 1 ? perRun(runs) : [],
  };
}

function timeline(records: readonly RequestRecord[]): TimelinePlot {
  const inOrder = [...records].sort((a, b) => a.sentAt - b.sentAt);
  const freeFrom: number[] = [];
  const lane = inOrder.map(({ sentAt, endedAt }) => {
    const free = freeFrom.findIndex((at) => at <= sentAt);
    const row = free < 0 ? freeFrom.length : free;
    freeFrom[row] = endedAt;
    return row;
  });
  return {
    sent: inOrder.map(({ sentAt }) => seconds(sentAt)),
    first: inOrder.map(({ chunks }) => (chunks[0] === undefined ? null : seconds(chunks[0].at))),
    ended: inOrder.map(({ endedAt }) => seconds(endedAt)),
    lane,
    numLanes: freeFrom.length,
    whole: inOrder.map(({ outcome }) => outcome === "ok"),
    title: inOrder.map(titleOf),
  };
}

function titleOf(record: RequestRecord): string {
  const { ttft, tpot, e2el } = requestTimes(record);
  const ms = (value: number | undefined): string =>
    value === undefined ? "–" : `${value.toFixed(1)} ms`;
  return [
    `${record.conversation}, turn ${record.turn}`,
    `${record.promptTokens} → ${record.outputTokens} tokens`,
    `TTFT ${ms(ttft)}, TPOT ${ms(tpot)}, E2EL ${ms(e2el)}`,
    ...(record.outcome === "ok" ? [] : [`${record.outcome}: ${record.error ?? ""}`]),
  ].join("\n");
}

/** Milliseconds. */
const BUCKETS = [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 900_000];

function series(records: readonly RequestRecord[]): SeriesPlot {
  const fine = bucketed(records, 160);
  const coarse = bucketed(records, 40);
  return {
    time: fine.time,
    outputTokens: fine.perSecond(fine.buckets.outputTokens),
    concurrency: fine.buckets.concurrency,
    promptTime: coarse.time,
    promptTokens: Object.entries(coarse.buckets.promptTokens).map(([source, values]) => ({
      source,
      values: coarse.perSecond(values),
    })),
  };
}

interface Bucketed {
  readonly buckets: TimeSeries;
  readonly time: readonly number[];
  perSecond(values: readonly number[]): number[];
}

/** The finest buckets of which there are no more than `most`. */
function bucketed(records: readonly RequestRecord[], most: number): Bucketed {
  const startAt = records.reduce((least, { sentAt }) => Math.min(least, sentAt), Infinity);
  const endAt = records.reduce((latest, { endedAt }) => Math.max(latest, endedAt), startAt);
  const bucketMs = BUCKETS.find((bucket) => (endAt - startAt) / bucket <= most) ?? 3_600_000;
  const buckets = timeSeries(records, bucketMs);
  return {
    buckets,
    time: buckets.outputTokens.map((_, i) => seconds(buckets.startAt + (i + 0.5) * bucketMs)),
    perSecond: (values) => values.map((value) => (value * 1000) / bucketMs),
  };
}

const NUM_BINS = 48;

/** Runs with the same label are one side. */
function distributions(runs: readonly RunReport[]): DistributionPlot[] {
  const labels = [...new Set(runs.map(({ run }) => run.label))];
  const plots = [
    { title: "TTFT", of: (record: RequestRecord) => requestTimes(record).ttft ?? [] },
    { title: "TPOT", of: (record: RequestRecord) => requestTimes(record).tpot ?? [] },
    { title: "ITL", of: (record: RequestRecord) => requestTimes(record).tokenGaps },
    { title: "E2EL", of: (record: RequestRecord) => requestTimes(record).e2el },
  ];
  return plots.flatMap(({ title, of }) => {
    const sides = labels.map((label) => ({
      label,
      values: runs
        .filter(({ run }) => run.label === label)
        .flatMap(({ run }) => run.records.filter(({ outcome }) => outcome === "ok").flatMap(of)),
    }));
    return distributionPlot(title, sides) ?? [];
  });
}

/** Undefined where there is no value. */
export function distributionPlot(
  title: string,
  sides: readonly { readonly label: string; readonly values: readonly number[] }[],
): DistributionPlot | undefined {
  const all = Float64Array.from(sides.flatMap(({ values }) => values)).sort();
  if (all.length === 0) return undefined;
  const [low, high] = [all[0] ?? 0, all.at(-1) ?? 0];
  // Long tails squeeze the bulk into a few bins.
  const logarithmic = low > 0 && high > 20 * percentile(all, 50);
  const edges = binEdges(low, high, logarithmic);
  return {
    title,
    logarithmic,
    edges,
    sides: sides.map(({ label, values }) => {
      const sorted = Float64Array.from(values).sort();
      const cumulative = edges.map((edge) => (countUpTo(sorted, edge) / sorted.length) * 100);
      const share = cumulative.map((upTo, i) => (i === 0 ? null : upTo - (cumulative[i - 1] ?? 0)));
      return { label, share, cumulative };
    }),
  };
}

/** Ascending: the first edge lies below every value, the last one at the largest. */
function binEdges(low: number, high: number, logarithmic: boolean): number[] {
  const [from, to] = logarithmic ? [Math.log(low), Math.log(high)] : [low, high];
  // One value has no span: any will do.
  const step = (to - from) / (NUM_BINS - 1) || Math.max(Math.abs(to), 1) / NUM_BINS;
  return Array.from({ length: NUM_BINS + 1 }, (_, i) => {
    const edge = to - (NUM_BINS - i) * step;
    if (i === NUM_BINS) return high;
    return logarithmic ? Math.exp(edge) : edge;
  });
}

/** How many values are at most `edge`. */
function countUpTo(sorted: Float64Array, edge: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) <= edge) low = middle + 1;
    else high = middle;
  }
  return low;
}

const PER_RUN = ["output_throughput", "ttft_p99", "tpot_median", "e2el_p99"];

function perRun(runs: readonly RunReport[]): RunsPlot[] {
  const labels = [...new Set(runs.map(({ run }) => run.label))];
  const flat = runs.map(({ summary }) => flatMetrics(summary));
  return PER_RUN.flatMap((name) => {
    const kind = metricKind(name);
    if (kind === undefined || flat.every((metrics) => metrics[kind.key] === undefined)) return [];
    const sides = labels.map((label) => ({
      label,
      values: flat.map((metrics, i) =>
        runs[i]?.run.label === label ? (metrics[kind.key] ?? null) : null,
      ),
    }));
    return [{ title: `${kind.name}, ${kind.unit}`, sides }];
  });
}

/** Of milliseconds, to a tenth of one. */
function seconds(ms: number): number {
  return Math.round(ms * 10) / 10_000;
}
