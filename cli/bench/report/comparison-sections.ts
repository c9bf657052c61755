/** What a report says of two sides, and of the runs behind them. */

import type { Comparison, Design } from "../ab/comparison.ts";
import { flatMetrics, type FlatMetrics, metricKind } from "../metrics/flat-metrics.ts";
import { formatNumber } from "./format.ts";
import type { RunReport } from "./report.ts";
import type { Section } from "./section.ts";

const DESIGNS: Readonly<Record<Design, string>> = {
  interleaved: "runs in turns, compared pair by pair",
  apart: "runs not in turns, compared as two groups",
  single: "too few runs for intervals",
};

export function comparisonSection(comparison: Comparison): Section {
  const { a, b, runsOfA, runsOfB, design, metrics } = comparison;
  return {
    title: `b / a with 95 % intervals: a = ${a} (${runsOfA} runs), b = ${b} (${runsOfB} runs); ${DESIGNS[design]}`,
    columns: ["", "unit", "a", "b", "b / a", "95 % interval", "verdict"],
    rows: metrics.map(({ metric, a, b, interval, verdict }) => [
      metric.name,
      metric.unit,
      formatNumber(a),
      formatNumber(b),
      formatRatio(interval?.ratio ?? (a === 0 ? Number.NaN : b / a)),
      interval === undefined ? "–" : `${formatRatio(interval.low)} … ${formatRatio(interval.high)}`,
      verdict,
    ]),
    notes: [
      overall(comparison),
      ...howMade(design),
      ...comparison.warnings.map((warning) => `Warning: ${warning}.`),
    ],
  };
}

/** Three decimals; what is beyond all measure is said in words. */
function formatRatio(ratio: number): string {
  if (Number.isNaN(ratio)) return "–";
  if (ratio > 999) return "> 999";
  return ratio < 0.001 ? "< 0.001" : ratio.toFixed(3);
}

/** With few runs a bootstrap's intervals are too narrow: `tests/measure/interval-coverage.ts`. */
function howMade(design: Design): string[] {
  if (design === "single") return [];
  const of =
    design === "interleaved"
      ? "Student's t on the logarithms of the pairs' ratios"
      : "Welch's t on the logarithms";
  return [
    `Intervals are ${of}; those of a percentile bootstrap would be narrower, and with 5 to 10 runs hold 1 in 83 to 92 % of sessions with equal sides, not in 95 %.`,
  ];
}

/** One sentence over all metrics. */
function overall({ design, metrics, different }: Comparison): string {
  const compared = metrics.filter(({ interval }) => interval !== undefined).length;
  if (design === "single" || compared === 0) return "No verdict: there are no intervals.";
  const kept = `${compared} metrics, 5 % error for all of them together (Holm)`;
  return different.length === 0
    ? `Taken together, no difference: ${kept}.`
    : `Taken together, a and b differ in ${different.join(", ")}: ${kept}.`;
}

const SHOWN = [
  "output_throughput",
  "steady_output_throughput",
  "ttft_median",
  "ttft_p99",
  "tpot_median",
  "tpot_p99",
  "e2el_p99",
];

export interface RunRow {
  readonly label: string;
  readonly cacheState: string;
  readonly metrics: FlatMetrics;
}

export function runsSection(runs: readonly RunReport[]): Section {
  return runsTable(
    runs.map(({ run, summary }) => ({
      label: run.label,
      cacheState: run.cacheState,
      metrics: flatMetrics(summary),
    })),
  );
}

/** A row a run, in the order in which they ran. */
export function runsTable(runs: readonly RunRow[]): Section {
  const kinds = SHOWN.flatMap((name) => metricKind(name) ?? []);
  return {
    title: "The runs, in order",
    columns: [
      "",
      "cache",
      "completed",
      "failed",
      ...kinds.map(({ name, unit }) => `${name} ${unit}`),
    ],
    rows: runs.map(({ label, cacheState, metrics }) => [
      label,
      cacheState,
      formatNumber(metrics["completed"]),
      formatNumber(metrics["failed"]),
      ...kinds.map(({ key }) => formatNumber(metrics[key])),
    ]),
    texts: ["cache"],
  };
}
