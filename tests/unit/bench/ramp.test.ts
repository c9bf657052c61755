import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { concurrencyLimit, nextGrowth } from "../../../cli/bench/load/concurrency.ts";
import { rampProgress, rampValue } from "../../../cli/bench/load/ramp.ts";
import { planWith } from "../../support/bench-workload.ts";
import { propertyRuns } from "../../support/property-runs.ts";

const ramps = fc.record({
  shape: fc.constantFrom("linear" as const, "exponential" as const),
  from: fc.double({ min: 0.1, max: 100, noNaN: true }),
  to: fc.double({ min: 100.5, max: 1000, noNaN: true }),
});

describe("a ramp", () => {
  test("has its ends at the ends, before and after them too", () => {
    for (const shape of ["linear", "exponential"] as const) {
      const ramp = { shape, from: 2, to: 8 };
      expect([-1, 0, 1, 2].map((progress) => rampValue(ramp, progress))).toEqual([2, 2, 8, 8]);
    }
    expect(rampValue({ shape: "linear", from: 2, to: 8 }, 0.5)).toBe(5);
    expect(rampValue({ shape: "exponential", from: 2, to: 8 }, 0.5)).toBe(4);
  });

  test("reaches a value where it has it", () => {
    fc.assert(
      fc.property(ramps, fc.double({ min: 0, max: 1, noNaN: true }), (ramp, progress) => {
        expect(rampProgress(ramp, rampValue(ramp, progress))).toBeCloseTo(progress, 6);
      }),
      propertyRuns(200),
    );
  });

  test("never reaches what is beyond its end", () => {
    expect(rampProgress({ shape: "linear", from: 1, to: 2 }, 2.1)).toBe(Number.POSITIVE_INFINITY);
    expect(rampProgress({ shape: "linear", from: 3, to: 2 }, 4)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("the limit of conversations at a time", () => {
  const ramp = { shape: "linear", from: 1, to: 5 } as const;

  test("is the plan's where there is no ramp, or one of the rate", () => {
    const standing = { now: 50, begun: 5, total: 10 };
    expect(concurrencyLimit(planWith({ maxConcurrency: 7 }), standing)).toBe(7);
    const rated = planWith({ maxConcurrency: 7, ramp, requestRate: 1 });
    expect(concurrencyLimit(rated, standing)).toBe(7);
    expect(nextGrowth(rated, standing)).toBe(Number.POSITIVE_INFINITY);
  });

  test("grows by what has begun where the run ends by its workload", () => {
    const plan = planWith({ ramp });
    const limits = [0, 2, 4, 6, 8].map((begun) =>
      concurrencyLimit(plan, { now: 0, begun, total: 9 }),
    );
    expect(limits).toEqual([1, 2, 3, 4, 5]);
    expect(nextGrowth(plan, { now: 0, begun: 0, total: 9 })).toBe(Number.POSITIVE_INFINITY);
  });

  test("grows by time where the run ends by time, and says when", () => {
    const plan = planWith({ ramp, durationMs: 4000 });
    const at = (now: number): number => concurrencyLimit(plan, { now, begun: 0, total: 9 });
    expect([0, 999, 1000, 2500, 4000].map(at)).toEqual([1, 1, 2, 3, 5]);
    expect(nextGrowth(plan, { now: 10, begun: 0, total: 9 })).toBe(1000);
    expect(nextGrowth(plan, { now: 1000, begun: 0, total: 9 })).toBe(2000);
  });

  test("stays under the plan's, and never falls under 1", () => {
    const capped = planWith({ ramp, durationMs: 4000, maxConcurrency: 2 });
    expect(concurrencyLimit(capped, { now: 4000, begun: 0, total: 9 })).toBe(2);
    expect(nextGrowth(capped, { now: 4000, begun: 0, total: 9 })).toBe(Number.POSITIVE_INFINITY);
    const low = planWith({ ramp: { shape: "linear", from: 0.2, to: 0.9 }, durationMs: 1000 });
    expect(concurrencyLimit(low, { now: 0, begun: 0, total: 9 })).toBe(1);
  });
});
