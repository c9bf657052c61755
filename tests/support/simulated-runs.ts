/** Seeded sessions of interleaved runs with the noise of a shared machine, for what is said of intervals. */

import type { RunPair } from "../../cli/bench/ab/ratio-interval.ts";

/** Shares: 0.02 = two percent. */
export interface Noise {
  /** Of each run, lognormal. */
  readonly run: number;
  /** Added by each run after the first: heat, a filling disk. */
  readonly drift: number;
  /** Step of a random walk from run to run. */
  readonly wander: number;
  /** Chance that a run is slowed by other work, and by how much. */
  readonly disturbed?: { readonly chance: number; readonly factor: number };
  /** The figure is a percentile of so many requests, lognormal with this deviation. */
  readonly requests?: { readonly count: number; readonly sigma: number; readonly percent: number };
}

/** mulberry32. */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Box and Muller. */
export function normalNumber(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** A B B A A B B A …, where b is `ratio` times a. */
export function simulatedPairs(
  random: () => number,
  numPairs: number,
  noise: Noise,
  ratio = 1,
): RunPair[] {
  let level = 0;
  const next = (side: number): number => {
    level += noise.drift + noise.wander * normalNumber(random);
    return side * Math.exp(level + noise.run * normalNumber(random)) * disturbance() * statistic();
  };
  const disturbance = (): number =>
    noise.disturbed !== undefined && random() < noise.disturbed.chance ? noise.disturbed.factor : 1;
  const statistic = (): number => {
    if (noise.requests === undefined) return 100;
    const { count, sigma, percent } = noise.requests;
    const values = Float64Array.from({ length: count }, () =>
      Math.exp(sigma * normalNumber(random)),
    ).sort();
    return values[Math.round((count - 1) * (percent / 100))] ?? Number.NaN;
  };
  return Array.from({ length: numPairs }, (_, pair) => {
    const aFirst = pair % 2 === 0;
    const [first, second] = aFirst ? [next(1), next(ratio)] : [next(ratio), next(1)];
    return aFirst ? { a: first, b: second, aFirst } : { a: second, b: first, aFirst };
  });
}

/** What a busy laptop, a quiet server and a percentile of few requests look like. */
export const NOISES: Readonly<Record<string, Noise>> = {
  "quiet machine": { run: 0.005, drift: 0, wander: 0 },
  "noisy machine": { run: 0.05, drift: 0, wander: 0 },
  "steady drift": { run: 0.01, drift: 0.01, wander: 0 },
  "drift and wander": { run: 0.01, drift: 0.004, wander: 0.01 },
  "disturbed runs": { run: 0.02, drift: 0, wander: 0, disturbed: { chance: 0.1, factor: 1.2 } },
  "p99 of 200 requests": {
    run: 0.01,
    drift: 0.002,
    wander: 0,
    requests: { count: 200, sigma: 0.5, percent: 99 },
  },
};
