/**
 * Tells when a target cannot keep up: more and more requests run at a time, and their first tokens come later and later. The
 * rule and its numbers are guidellm's (`scheduler/constraints/saturation.py`).
 */

import { SlidingSlope } from "./slope.ts";

/** Times in milliseconds. */
export interface SaturationRule {
  /** No verdict before this. */
  readonly minimumMs: number;
  /** At least half of the newest first tokens must have taken longer than this. */
  readonly slowTtftMs: number;
  /** What is older does not count. */
  readonly windowMs: number;
  /** Only the newest share of all points counts: a slow start is forgotten. */
  readonly windowShare: number;
  /** Fewer independent points (one a second at most) give no verdict. */
  readonly minimumPoints: number;
  /** The margin of a slope must be less than this many times the slope. */
  readonly margin: number;
}

export const SATURATION_RULE: SaturationRule = {
  minimumMs: 30_000,
  slowTtftMs: 2500,
  windowMs: 120_000,
  windowShare: 0.75,
  minimumPoints: 5,
  margin: 2,
};

export class SaturationMonitor {
  readonly #rule: SaturationRule;
  readonly #running = new Series();
  readonly #ttft = new Series();

  constructor(rule: SaturationRule) {
    this.#rule = rule;
  }

  /** A request was sent; `running` counts it. Times are from the start of the run, in milliseconds, and never go back. */
  sent(at: number, running: number): void {
    this.#running.add(at, running, false);
  }

  firstChunk(at: number, ttftMs: number): void {
    this.#ttft.add(at, ttftMs, ttftMs > this.#rule.slowTtftMs);
  }

  saturated(at: number): boolean {
    const { minimumMs, slowTtftMs, minimumPoints, margin } = this.#rule;
    this.#running.forget(at, this.#rule);
    this.#ttft.forget(at, this.#rule);
    if (at < minimumMs || at < slowTtftMs || this.#ttft.size > 2 * this.#ttft.numSlow) return false;
    // Requests of the same second depend on each other: a second counts as one point at most.
    const seconds = at / 1000;
    const numRunning = Math.min(seconds, this.#running.size);
    const numTtft = Math.min(seconds, this.#ttft.size);
    if (numRunning < minimumPoints || !this.#running.slope.grows(numRunning, margin)) return false;
    return numTtft < minimumPoints || this.#ttft.slope.grows(numTtft, margin);
  }
}

/** Points of one kind: how many there were, those that count, and how many of these are slow. */
class Series {
  readonly slope = new SlidingSlope();
  readonly #slow: boolean[] = [];
  #firstSlow = 0;
  numSlow = 0;

  get size(): number {
    return this.slope.size;
  }

  add(at: number, value: number, slow: boolean): void {
    this.slope.add(at / 1000, value);
    this.#slow.push(slow);
    if (slow) this.numSlow++;
  }

  forget(at: number, { windowMs, windowShare }: SaturationRule): void {
    const most = Math.floor(this.#slow.length * windowShare);
    const oldestSecond = (at - windowMs) / 1000;
    while (this.size > most || (this.slope.oldest?.x ?? Number.POSITIVE_INFINITY) < oldestSecond) {
      this.slope.dropOldest();
      if (this.#slow[this.#firstSlow++] === true) this.numSlow--;
    }
  }
}
