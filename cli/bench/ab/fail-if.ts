/**
 * Conditions of `--fail-if`, for CI: `tpot_p99>1.05x` (b against a), `ttft_p99>200ms` (b alone, or the one run). Several are joined
 * by commas.
 */

import { KvEngineError } from "../../../engine/errors.ts";
import { nearest } from "../../../engine/nearest.ts";
import { METRIC_EXAMPLES, metricKind, type MetricKind } from "../metrics/flat-metrics.ts";
import type { FlatMetrics } from "../metrics/flat-metrics.ts";
import type { Comparison } from "./comparison.ts";

export interface Condition {
  /** As written. */
  readonly text: string;
  readonly metric: MetricKind;
  readonly operator: ">" | ">=" | "<" | "<=";
  /** In the metric's unit, or times a's. */
  readonly limit: number;
  readonly relative: boolean;
}

/** Milliseconds of a unit. */
const TIME_UNITS: ReadonlyMap<string, number> = new Map([
  ["us", 0.001],
  ["ms", 1],
  ["s", 1000],
]);

/** Throws `bad_config` naming what is wrong. An empty text has no condition. */
export function parseFailIf(text: string): Condition[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map(parseCondition);
}

function parseCondition(text: string): Condition {
  const parts = /^([\w.]+)\s*(>=|<=|>|<)\s*(\d+(?:\.\d+)?)\s*(\S*)$/.exec(text);
  if (parts === null) throw refusal(`\`${text}\` is no condition`);
  const [, name = "", operator = "", number = "", unit = ""] = parts;
  const metric = metricKind(name);
  if (metric === undefined) {
    const near = nearest(name, METRIC_EXAMPLES);
    throw refusal(
      `\`${name}\` is no metric${near === undefined ? "" : `: did you mean \`${near}\`?`}`,
    );
  }
  return {
    text,
    metric,
    operator: operator as Condition["operator"],
    limit: Number(number) * factorOf(unit, metric, text),
    relative: unit === "x",
  };
}

/** What a number with this unit is multiplied by. */
function factorOf(unit: string, metric: MetricKind, text: string): number {
  if (unit === "x" || unit === "" || unit === metric.unit) return 1;
  const from = TIME_UNITS.get(unit);
  const to = TIME_UNITS.get(metric.unit);
  if (from !== undefined && to !== undefined) return from / to;
  const allowed = to === undefined ? [metric.unit] : [...TIME_UNITS.keys()];
  const units = ["x", ...allowed.filter((one) => one !== "")].join(", ");
  throw refusal(`\`${unit}\` in \`${text}\` is no unit of ${metric.name}; units are ${units}`);
}

function refusal(what: string): KvEngineError {
  return new KvEngineError("bad_config", `--fail-if: ${what}`, {
    subject: "--fail-if",
    hint: "a condition is METRIC>LIMIT or METRIC<LIMIT: tpot_p99>1.05x against side a, ttft_p99>200ms as it is; commas join several",
  });
}

export interface Failure {
  readonly condition: Condition;
  /** What was found, in words. */
  readonly found: string;
}

/**
 * The conditions that hold for side b. A relative one needs the interval on its side too: what is no difference fails nothing. Where
 * there is no interval (one run a side), the ratio alone decides. Throws `bad_config` for a metric that was not measured.
 */
export function failuresOf(conditions: readonly Condition[], comparison: Comparison): Failure[] {
  return conditions.flatMap((condition) => {
    const found = comparison.metrics.find(({ metric }) => metric.key === condition.metric.key);
    if (found === undefined) throw notMeasured(condition);
    if (!condition.relative) return absoluteFailure(condition, found.b);
    const ratio = found.interval?.ratio ?? found.b / found.a;
    if (!(holds(condition, ratio) && found.verdict !== "no difference")) return [];
    const { low, high } = found.interval ?? { low: Number.NaN, high: Number.NaN };
    const interval =
      found.interval === undefined
        ? "no interval: one run a side"
        : `95 %: ${low.toFixed(3)} … ${high.toFixed(3)}`;
    return { condition, found: `${condition.metric.name} is ${ratio.toFixed(3)}x (${interval})` };
  });
}

/** For a run that is not compared. Throws `bad_config` for a relative condition. */
export function failuresOfRun(conditions: readonly Condition[], metrics: FlatMetrics): Failure[] {
  return conditions.flatMap((condition) => {
    if (condition.relative)
      throw refusal(`\`${condition.text}\` is relative, and there is nothing to compare with`);
    const value = metrics[condition.metric.key];
    if (value === undefined) throw notMeasured(condition);
    return absoluteFailure(condition, value);
  });
}

function absoluteFailure(condition: Condition, value: number): Failure[] {
  if (!holds(condition, value)) return [];
  const { name, unit } = condition.metric;
  return [{ condition, found: `${name} is ${Number(value.toPrecision(6))} ${unit}`.trimEnd() }];
}

function holds({ operator, limit }: Condition, value: number): boolean {
  switch (operator) {
    case ">":
      return value > limit;
    case ">=":
      return value >= limit;
    case "<":
      return value < limit;
    default:
      return value <= limit;
  }
}

function notMeasured(condition: Condition): KvEngineError {
  return new KvEngineError("bad_config", `--fail-if: ${condition.metric.name} was not measured`, {
    subject: "--fail-if",
    hint: "percentiles are those of --metric-percentiles; goodput needs --goodput",
  });
}
