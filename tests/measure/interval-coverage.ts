/**
 * Which 95 % interval to believe with five to ten runs a side: each candidate on simulated A/A sessions (how often does it hold 1?)
 * and its length. `cli/bench/ab/ratio-interval.ts` uses the one that this speaks for.
 *
 *   bun tests/measure/interval-coverage.ts [SESSIONS]
 */

import {
  pairedInterval,
  type RunPair,
  unpairedInterval,
} from "../../cli/bench/ab/ratio-interval.ts";
import { criticalT, tailOfT } from "../../cli/bench/ab/student-t.ts";
import { NOISES, randomNumbers, simulatedPairs } from "../support/simulated-runs.ts";

/** Ends on the logarithmic scale. */
type Interval = readonly [low: number, high: number];
type Candidate = (pairs: readonly RunPair[], random: () => number) => Interval;

const RESAMPLES = 999;

const CANDIDATES: Readonly<Record<string, Candidate>> = {
  "Student's t beside the order (used)": (pairs) => logEnds(pairedInterval(pairs)),
  "Student's t over pairs": (pairs) => {
    const { mean, error } = meanAndError(differencesOf(pairs));
    const margin = error * criticalT(0.05, pairs.length - 1);
    return [mean - margin, mean + margin];
  },
  "Student's t over ABBA blocks": (pairs) => {
    const blocks = blocksOf(differencesOf(pairs));
    const { mean, error } = meanAndError(blocks);
    const margin = error * criticalT(0.05, blocks.length - 1);
    return [mean - margin, mean + margin];
  },
  "Welch's t, unpaired": (pairs) =>
    logEnds(
      unpairedInterval(
        pairs.map(({ a }) => a),
        pairs.map(({ b }) => b),
      ),
    ),
  "bootstrap, percentile": (pairs, random) => {
    const means = resampledMeans(differencesOf(pairs), random);
    return [at(means, 0.025), at(means, 0.975)];
  },
  "bootstrap, percentile of blocks": (pairs, random) => {
    const means = resampledMeans(blocksOf(differencesOf(pairs)), random);
    return [at(means, 0.025), at(means, 0.975)];
  },
  "bootstrap, BCa": (pairs, random) => biasCorrected(differencesOf(pairs), random),
  "bootstrap, expanded percentile": (pairs, random) => {
    const n = pairs.length;
    const tail = normalTail(Math.sqrt(n / (n - 1)) * criticalT(0.05, n - 1));
    const means = resampledMeans(differencesOf(pairs), random);
    return [at(means, tail), at(means, 1 - tail)];
  },
  "bootstrap, studentized": (pairs, random) => {
    const values = differencesOf(pairs);
    const { mean, error } = meanAndError(values);
    const ts = Float64Array.from({ length: RESAMPLES }, () => {
      const drawn = resample(values, random);
      const one = meanAndError(drawn);
      return one.error === 0 ? 0 : (one.mean - mean) / one.error;
    }).sort();
    return [mean - error * at(ts, 0.975), mean - error * at(ts, 0.025)];
  },
};

function differencesOf(pairs: readonly RunPair[]): number[] {
  return pairs.map(({ a, b }) => Math.log(b / a));
}

/** Means of two pairs; an odd last pair is left out. */
function blocksOf(values: readonly number[]): number[] {
  return Array.from(
    { length: Math.floor(values.length / 2) },
    (_, i) => ((values[2 * i] ?? 0) + (values[2 * i + 1] ?? 0)) / 2,
  );
}

function logEnds(interval: { low: number; high: number } | undefined): Interval {
  return interval === undefined
    ? [Number.NaN, Number.NaN]
    : [Math.log(interval.low), Math.log(interval.high)];
}

function meanAndError(values: readonly number[]): { mean: number; error: number } {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, error: Math.sqrt(squares / (n - 1) / n) };
}

function resample(values: readonly number[], random: () => number): number[] {
  return values.map(() => values[Math.floor(random() * values.length)] ?? 0);
}

function resampledMeans(values: readonly number[], random: () => number): Float64Array {
  return Float64Array.from(
    { length: RESAMPLES },
    () => meanAndError(resample(values, random)).mean,
  ).sort();
}

function at(sorted: Float64Array, share: number): number {
  const index = Math.min(
    sorted.length - 1,
    Math.max(0, Math.round(share * (sorted.length + 1)) - 1),
  );
  return sorted[index] ?? Number.NaN;
}

/** Efron's: corrects the percentiles by the bootstrap's bias and by the skewness of the jackknife. */
function biasCorrected(values: readonly number[], random: () => number): Interval {
  const means = resampledMeans(values, random);
  const { mean } = meanAndError(values);
  const below = means.filter((one) => one < mean).length / means.length;
  const bias = normalQuantile(Math.min(0.999, Math.max(0.001, below)));
  const left = values.map((_, i) => meanAndError(values.filter((_, j) => j !== i)).mean);
  const centre = meanAndError(left).mean;
  const cubes = left.reduce((sum, one) => sum + (centre - one) ** 3, 0);
  const squares = left.reduce((sum, one) => sum + (centre - one) ** 2, 0);
  const skew = squares === 0 ? 0 : cubes / (6 * squares ** 1.5);
  const share = (tail: number): number => {
    const z = bias + normalQuantile(tail);
    return 1 - normalTail(bias + z / (1 - skew * z));
  };
  return [at(means, share(0.025)), at(means, share(0.975))];
}

/** P(Z > z): Student's t with so many degrees of freedom is the normal distribution. */
function normalTail(z: number): number {
  const tail = tailOfT(z, 1e9) / 2;
  return z > 0 ? tail : 1 - tail;
}

function normalQuantile(share: number): number {
  if (share === 0.5) return 0;
  const upper = criticalT(2 * Math.min(share, 1 - share), 1e9);
  return share > 0.5 ? upper : -upper;
}

const sessions = Number(process.argv[2] ?? 2000);
process.stdout.write(
  `share of ${sessions} A/A sessions whose interval holds 1, and its mean length\n`,
);
for (const [noise, parameters] of Object.entries(NOISES)) {
  for (const numPairs of [5, 6, 8, 10]) {
    process.stdout.write(`\n${noise}, ${numPairs} pairs\n`);
    for (const [name, candidate] of Object.entries(CANDIDATES)) {
      // The same sessions for each candidate.
      const random = randomNumbers(numPairs);
      const resampling = randomNumbers(1);
      let held = 0;
      let length = 0;
      for (let session = 0; session < sessions; session++) {
        const [low, high] = candidate(simulatedPairs(random, numPairs, parameters), resampling);
        if (low <= 0 && high >= 0) held += 1;
        length += high - low;
      }
      const share = ((held / sessions) * 100).toFixed(1).padStart(5);
      process.stdout.write(
        `  ${share} %  ${((length / sessions) * 100).toFixed(2).padStart(6)} %  ${name}\n`,
      );
    }
  }
}
