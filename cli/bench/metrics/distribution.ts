/** What is said of a set of values, with numpy's arithmetic, which is vLLM's: population deviation, linear interpolation. */

import { KvEngineError } from "../../../engine/errors.ts";

export interface Distribution {
  readonly count: number;
  readonly mean: number;
  readonly median: number;
  /** Of the population (divided by n), as `numpy.std`. */
  readonly std: number;
  readonly min: number;
  readonly max: number;
  /** By percent as written: `99`, `99.9`. */
  readonly percentiles: Readonly<Record<string, number>>;
}

/** Undefined where there is no value: nothing is said of what was not measured. */
export function describe(
  values: readonly number[],
  percents: readonly number[],
): Distribution | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  const mean = sum(sorted) / sorted.length;
  const squares = sorted.reduce((total, value) => total + (value - mean) ** 2, 0);
  return {
    count: sorted.length,
    mean,
    median: percentile(sorted, 50),
    std: Math.sqrt(squares / sorted.length),
    min: sorted[0] ?? Number.NaN,
    max: sorted.at(-1) ?? Number.NaN,
    percentiles: Object.fromEntries(
      percents.map((percent) => [String(percent), percentile(sorted, percent)]),
    ),
  };
}

/**
 * `numpy.percentile(sorted, percent)`, bit for bit: between two ranks, from the nearer one. `sorted` ascends and is not
 * empty, `percent` lies in 0 … 100.
 */
export function percentile(sorted: ArrayLike<number>, percent: number): number {
  const rank = (sorted.length - 1) * (percent / 100);
  const below = Math.floor(rank);
  const low = sorted[below] ?? Number.NaN;
  const high = sorted[Math.min(below + 1, sorted.length - 1)] ?? Number.NaN;
  const share = rank - below;
  const step = high - low;
  return share < 0.5 ? low + step * share : high - step * (1 - share);
}

/** NaN of nothing. */
export function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

export function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

/** `50,90,99.9`, as `--metric-percentiles` has it: ascending, each once. Throws `bad_config`. */
export function parsePercentiles(text: string): number[] {
  const percents = text.split(",").map((part) => {
    const word = part.trim();
    const percent = /^\d+(\.\d+)?$/.test(word) ? Number(word) : Number.NaN;
    if (percent >= 0 && percent <= 100) return percent;
    throw new KvEngineError("bad_config", `--metric-percentiles: \`${word}\` is no percentile`, {
      subject: "--metric-percentiles",
      hint: "percentiles are numbers of 0 to 100 joined by commas: 50,90,99.9",
    });
  });
  return [...new Set(percents)].sort((a, b) => a - b);
}
