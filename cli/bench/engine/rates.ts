/** From times to rates. Times in nanoseconds, rates in tokens a second, deviations of the sample (n - 1): llama-bench's JSON. */

import { mean } from "../metrics/distribution.ts";
import { type Row, tokensOf } from "./grid.ts";

export interface Rates {
  readonly avg_ns: number;
  readonly stddev_ns: number;
  readonly avg_ts: number;
  readonly stddev_ts: number;
  readonly samples_ns: readonly number[];
  readonly samples_ts: readonly number[];
}

export function ratesOf(row: Row, samples: readonly number[]): Rates {
  const tokens = tokensOf(row);
  const rates = samples.map((ns) => (tokens * 1e9) / ns);
  return {
    avg_ns: mean(samples),
    stddev_ns: deviation(samples),
    avg_ts: mean(rates),
    stddev_ts: deviation(rates),
    samples_ns: samples,
    samples_ts: rates,
  };
}

/** 0 of fewer than two. */
export function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const middle = mean(values);
  return Math.sqrt(
    values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1),
  );
}

/** NaN of nothing; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return mean(sorted.slice(Math.ceil(half) - 1, Math.floor(half) + 1));
}
