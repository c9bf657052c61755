/**
 * Seeded random numbers, the same on every machine and in every later version: a workload is named by its seed. A stream is
 * found by the name of its family and its place in it, not by what was drawn before, so that the first hundred prompts are the
 * same whether a hundred are asked for or a thousand.
 */

import { createHash } from "node:crypto";

/** Rounds after which all of the state depends on all of the seed. */
const WARM_UP = 15;

/** sfc32: 128 bits of state, integers only. */
export class RandomNumbers {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(a: number, b: number, c: number) {
    this.#a = a | 0;
    this.#b = b | 0;
    this.#c = c | 0;
    for (let round = 0; round < WARM_UP; round++) this.next();
  }

  /** An integer of 32 bits, unsigned. */
  next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** From 0 up to, not including, 1. */
  unit(): number {
    return this.next() / 2 ** 32;
  }

  /** An integer from 0 to `count - 1`. */
  below(count: number): number {
    return Math.floor(this.unit() * count);
  }

  /** An integer from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }
}

/** The streams of one family, each found by its place, an integer from 0. */
export type Streams = (place: number) => RandomNumbers;

export function streams(seed: number, family: string): Streams {
  const digest = createHash("sha256")
    .update(JSON.stringify([seed, family]))
    .digest();
  const [a, b, c] = [digest.readInt32LE(0), digest.readInt32LE(4), digest.readInt32LE(8)];
  // Places may have more than 32 bits: hashes of blocks have 53.
  return (place) => new RandomNumbers(a ^ place, b ^ Math.floor(place / 2 ** 32), c);
}

/** 0 to `count - 1` in random order (Fisher-Yates). */
export function shuffled(count: number, random: RandomNumbers): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const held = order[i] as number;
    order[i] = order[j] as number;
    order[j] = held;
  }
  return order;
}

/** A length from `length * (1 - ratio)` to `length * (1 + ratio)`, both included, rounded away from it as vLLM does; at least 1. */
export function spread(random: RandomNumbers, length: number, ratio: number): number {
  const low = Math.max(1, Math.floor(length * (1 - ratio)));
  return random.between(low, Math.max(low, Math.ceil(length * (1 + ratio))));
}

/** Whole milliseconds, exponentially distributed. */
export function exponentialMs(random: RandomNumbers, mean: number): number {
  return Math.round(-mean * Math.log(1 - random.unit()));
}

/** Whole milliseconds, log-normally distributed: half of them below `median`, one in a hundred above `p99`. */
export function logNormalMs(random: RandomNumbers, median: number, p99: number): number {
  if (median === 0) return 0;
  const sigma = Math.log(p99 / median) / STANDARD_P99;
  // Box-Muller.
  const radius = Math.sqrt(-2 * Math.log(1 - random.unit()));
  return Math.round(median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * random.unit())));
}

/** The 99th percentile of the standard normal distribution. */
const STANDARD_P99 = 2.326_347_874;
