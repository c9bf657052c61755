/**
 * The ratio of two sides with a 95 % interval. Everything is computed on logarithms, where "twice as fast" and "half as fast"
 * are equally far from "the same": the answer for b / a is the mirror image of that for a / b.
 *
 * Why Student's t and not a percentile bootstrap: with five to ten pairs that one's intervals hold 1 in 83 to 92 % of A/A sessions
 * with no drift, and its studentized form is longer at the same coverage. `tests/measure/interval-coverage.ts` compares them.
 */

import { criticalT, tailOfT } from "./student-t.ts";

/** Two runs that followed each other, and which was first. Values are positive. */
export interface RunPair {
  readonly a: number;
  readonly b: number;
  readonly aFirst: boolean;
}

export interface RatioInterval {
  /** b / a; geometric mean over the runs. */
  readonly ratio: number;
  /** Ends of the 95 % interval. */
  readonly low: number;
  readonly high: number;
  /** The chance of a ratio at least this far from 1 where the sides are equal. */
  readonly p: number;
  /** Which side is larger; `none` = the interval holds 1. */
  readonly larger: "a" | "b" | "none";
}

/** Of a 95 % interval. */
const OUTSIDE = 0.05;

/** ln(b / a), with as many degrees of freedom as its error was estimated from. */
interface LogRatio {
  readonly mean: number;
  readonly standardError: number;
  readonly df: number;
}

/** From this many pairs on, what the first and the second place of a pair differ by is estimated and taken out. */
const ORDER_EFFECT_FROM = 4;

/** For interleaved runs: drift between pairs cancels. Undefined for fewer than two pairs: one says nothing of the noise. */
export function pairedInterval(pairs: readonly RunPair[]): RatioInterval | undefined {
  if (pairs.length < 2) return undefined;
  const differences = pairs.map(({ a, b }) => Math.log(b) - Math.log(a));
  const order = pairs.map(({ aFirst }) => (aFirst ? 1 : -1));
  return intervalOf(
    pairs.length >= ORDER_EFFECT_FROM && new Set(order).size === 2
      ? meanBesideOrder(differences, order)
      : meanOf(differences),
  );
}

/** For runs that were not interleaved: Welch's t. Undefined where a side has fewer than two runs. */
export function unpairedInterval(
  a: readonly number[],
  b: readonly number[],
): RatioInterval | undefined {
  if (a.length < 2 || b.length < 2) return undefined;
  const [one, two] = [meanOf(a.map(Math.log)), meanOf(b.map(Math.log))];
  const [va, vb] = [one.standardError ** 2, two.standardError ** 2];
  return intervalOf({
    mean: two.mean - one.mean,
    standardError: Math.sqrt(va + vb),
    df: va + vb === 0 ? one.df + two.df : (va + vb) ** 2 / (va ** 2 / one.df + vb ** 2 / two.df),
  });
}

function meanOf(values: readonly number[]): LogRatio {
  const n = values.length;
  const mean = total(values) / n;
  const squares = total(values.map((value) => (value - mean) ** 2));
  return { mean, standardError: Math.sqrt(squares / (n - 1) / n), df: n - 1 };
}

/**
 * Least squares of `difference = mean + effect · order + noise`. A steady drift makes b's share of a pair larger where b came
 * second and smaller where it came first; as an effect of the order it widens no interval.
 */
function meanBesideOrder(differences: readonly number[], order: readonly number[]): LogRatio {
  const n = differences.length;
  const sumOrder = total(order);
  const sumDifferences = total(differences);
  const sumProducts = total(differences.map((value, i) => value * (order[i] ?? 0)));
  const spread = n * n - sumOrder * sumOrder;
  const mean = (n * sumDifferences - sumOrder * sumProducts) / spread;
  const effect = (n * sumProducts - sumOrder * sumDifferences) / spread;
  const squares = total(
    differences.map((value, i) => (value - mean - effect * (order[i] ?? 0)) ** 2),
  );
  const df = n - 2;
  return { mean, standardError: Math.sqrt(((squares / df) * n) / spread), df };
}

function intervalOf({ mean, standardError, df }: LogRatio): RatioInterval {
  const margin = standardError * criticalT(OUTSIDE, df);
  const exact = standardError === 0;
  let larger: RatioInterval["larger"] = "none";
  if (mean > margin) larger = "b";
  if (-mean > margin) larger = "a";
  return {
    ratio: Math.exp(mean),
    low: Math.exp(mean - margin),
    high: Math.exp(mean + margin),
    p: exact ? Number(mean === 0) : tailOfT(mean / standardError, df),
    larger,
  };
}

/** Of positive values; of equal ones it is that value to the last bit. */
export function geometricMean(values: readonly number[]): number {
  const mean = Math.exp(total(values.map(Math.log)) / values.length);
  return Math.min(Math.max(mean, Math.min(...values)), Math.max(...values));
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
