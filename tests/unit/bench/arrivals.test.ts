import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { arrivals } from "../../../cli/bench/load/arrivals.ts";
import type { LoadPlan } from "../../../cli/bench/types.ts";
import { planWith, singleTurns } from "../../support/bench-workload.ts";
import { propertyRuns } from "../../support/property-runs.ts";

function times(count: number, changes: Partial<LoadPlan>): number[] {
  return arrivals(singleTurns(count).conversations, planWith(changes)).map(({ due }) => due);
}

function gaps(due: readonly number[]): number[] {
  return due.map((time, i) => time - (due[i - 1] ?? 0));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Standard deviation by the mean. */
function variation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2))) / middle;
}

describe("arrivals", () => {
  test("without a rate all are due at once, in the order of the workload", () => {
    const due = arrivals(singleTurns(3).conversations, planWith());
    expect(due.map(({ conversation, due }) => [conversation.id, due])).toEqual([
      ["c0", 0],
      ["c1", 0],
      ["c2", 0],
    ]);
  });

  test("the last is due at count / rate, for every seed and shape", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0.1, max: 1000, noNaN: true }),
        fc.constantFrom(0.1, 0.5, 1, 3, Number.POSITIVE_INFINITY),
        (count, seed, requestRate, burstiness) => {
          const due = times(count, { requestRate, seed, burstiness });
          expect(due.at(-1)).toBeCloseTo((count / requestRate) * 1000, 3);
          expect(due).toEqual(due.toSorted((a, b) => a - b));
          expect(due[0]).toBeGreaterThanOrEqual(0);
        },
      ),
      propertyRuns(100),
    );
  });

  test("gaps of a Poisson process are exponential (Kolmogorov and Smirnov, 1 %)", () => {
    const count = 20_000;
    const sorted = gaps(times(count, { requestRate: 100, seed: 3 })).toSorted((a, b) => a - b);
    const distance = Math.max(
      ...sorted.map((gap, i) => Math.abs(1 - Math.exp(-gap / 10) - (i + 0.5) / count)),
    );
    expect(distance).toBeLessThan(1.628 / Math.sqrt(count));
  });

  test("gaps of a Poisson process do not depend on the one before", () => {
    const all = gaps(times(20_000, { requestRate: 100, seed: 5 }));
    const middle = mean(all);
    const products = all.slice(1).map((gap, i) => (gap - middle) * ((all[i] ?? 0) - middle));
    expect(Math.abs(mean(products)) / middle ** 2).toBeLessThan(0.03);
  });

  test("burstiness is the shape of the gamma distribution: gaps vary by 1 / its root", () => {
    for (const burstiness of [0.25, 0.5, 1, 4, 16]) {
      const all = gaps(times(40_000, { requestRate: 50, burstiness, seed: 11 }));
      expect(variation(all) * Math.sqrt(burstiness)).toBeCloseTo(1, 1);
      expect(mean(all)).toBeCloseTo(20, 6);
    }
  });

  test("with infinite burstiness the gaps are even", () => {
    expect(times(4, { requestRate: 2, burstiness: Number.POSITIVE_INFINITY })).toEqual([
      500, 1000, 1500, 2000,
    ]);
  });

  test("the same seed gives the same times, another seed others", () => {
    const plan = { requestRate: 10, seed: 1 };
    expect(times(50, plan)).toEqual(times(50, plan));
    expect(times(50, plan)).not.toEqual(times(50, { ...plan, seed: 2 }));
  });

  test("a linear ramp goes from its first rate to its last by the place of the conversation", () => {
    const ramp = { shape: "linear", from: 1, to: 3 } as const;
    const even = { requestRate: 1, burstiness: Number.POSITIVE_INFINITY, ramp };
    expect(gaps(times(3, even))).toEqual([1000, 500, expect.closeTo(1000 / 3, 6)]);
  });

  test("an exponential ramp multiplies the rate by the same factor", () => {
    const ramp = { shape: "exponential", from: 1, to: 4 } as const;
    const even = { requestRate: 1, burstiness: Number.POSITIVE_INFINITY, ramp };
    expect(gaps(times(3, even))).toEqual([1000, 500, 250].map((gap) => expect.closeTo(gap, 6)));
  });

  test("a ramp over a duration goes by time, and stays at its last rate after it", () => {
    const ramp = { shape: "linear", from: 1, to: 2 } as const;
    const even = {
      requestRate: 1,
      burstiness: Number.POSITIVE_INFINITY,
      ramp,
      durationMs: 2000,
    };
    const due = gaps(times(20, even));
    expect(due[0]).toBe(1000);
    expect(due[1]).toBeCloseTo(1000 / 1.5, 6);
    expect(due.at(-1)).toBeCloseTo(500, 6);
  });

  test("a timed trace is sent at its own times, whatever the rate, in their order", () => {
    const timed = singleTurns(3).conversations.map(({ id, turns }, i) => ({
      id,
      turns,
      at: [300, 0, 150][i] as number,
    }));
    const due = arrivals(timed, planWith({ requestRate: 1 }));
    expect(due.map(({ conversation, due }) => [conversation.id, due])).toEqual([
      ["c1", 0],
      ["c2", 150],
      ["c0", 300],
    ]);
  });
});
