import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { SATURATION_RULE, SaturationMonitor } from "../../../cli/bench/load/saturation.ts";
import { SlidingSlope, studentQuantile } from "../../../cli/bench/load/slope.ts";
import { propertyRuns } from "../../support/property-runs.ts";

describe("Student's quantile", () => {
  test("is that of the tables (97.5 %)", () => {
    const table = [
      [3, 3.1824],
      [4, 2.7764],
      [5, 2.5706],
      [10, 2.2281],
      [30, 2.0423],
      [120, 1.9799],
    ] as const;
    for (const [freedom, value] of table)
      expect(Math.abs(studentQuantile(freedom) / value - 1)).toBeLessThan(0.02);
    expect(studentQuantile(1e9)).toBeCloseTo(1.95996, 4);
  });
});

describe("a slope", () => {
  const points = fc.array(fc.integer({ min: -100, max: 100 }), {
    minLength: 3,
    maxLength: 60,
  });

  test("grows as a regression over the points that are left says", () => {
    fc.assert(
      fc.property(
        points,
        fc.nat(20),
        fc.double({ min: 0.1, max: 5, noNaN: true }),
        (ys, drop, margin) => {
          const slope = new SlidingSlope();
          for (const [x, y] of ys.entries()) slope.add(x + 1e6, y);
          for (let i = 0; i < drop; i++) slope.dropOldest();
          const left = ys.slice(drop).map((y, i) => [i, y] as const);
          expect(slope.size).toBe(left.length);
          expect(slope.grows(left.length, margin)).toBe(growsByRegression(left, margin));
        },
      ),
      propertyRuns(300),
    );
  });

  test("of a straight line grows upwards, and not level or downwards", () => {
    const line = (step: number): SlidingSlope => {
      const slope = new SlidingSlope();
      for (let x = 0; x < 10; x++) slope.add(x, x * step);
      return slope;
    };
    expect([1, 0, -1].map((step) => line(step).grows(10, 2))).toEqual([true, false, false]);
  });

  test("needs three points that do not depend on each other", () => {
    const slope = new SlidingSlope();
    for (let x = 0; x < 10; x++) slope.add(x, x);
    expect([2.9, 3].map((independent) => slope.grows(independent, 2))).toEqual([false, true]);
  });
});

/** Least squares, spelled out. */
function growsByRegression(
  points: readonly (readonly [number, number])[],
  margin: number,
): boolean {
  const n = points.length;
  if (n < 3) return false;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n;
  const xx = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const xy = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  if (xy < 1e-6) return false;
  const slope = xy / xx;
  const residual = points.reduce((sum, [x, y]) => sum + (y - meanY - slope * (x - meanX)) ** 2, 0);
  const error = Math.sqrt(residual / (n - 2) / xx);
  return slope > 0 && studentQuantile(n - 2) * error < margin * slope;
}

/** Ten requests a second for a minute: how many run, and how long first tokens take, by the second. */
function watch(
  running: (second: number) => number,
  ttftMs: (second: number) => number,
): number | undefined {
  const monitor = new SaturationMonitor(SATURATION_RULE);
  for (let at = 0; at < 60_000; at += 100) {
    monitor.sent(at, Math.round(running(at / 1000)));
    monitor.firstChunk(at, ttftMs(at / 1000));
    if (monitor.saturated(at)) return at;
  }
  return undefined;
}

describe("over-saturation", () => {
  test("is told when requests pile up and first tokens come later and later, not before half a minute", () => {
    expect(
      watch(
        (s) => 10 * s,
        (s) => 500 * s,
      ),
    ).toBe(30_000);
  });

  test("is not told of a steady load, however slow", () => {
    const wave = (s: number): number => 50 + 10 * Math.sin(s);
    expect(watch(wave, (s) => 4000 + 100 * Math.sin(s))).toBeUndefined();
  });

  test("is not told while most first tokens are quick", () => {
    expect(
      watch(
        (s) => 10 * s,
        (s) => 20 * s,
      ),
    ).toBeUndefined();
  });

  test("is not told when requests pile up behind slow first tokens that get no slower", () => {
    expect(
      watch(
        (s) => 10 * s,
        (s) => 4000 + 100 * Math.sin(s),
      ),
    ).toBeUndefined();
  });

  test("forgets a slow start", () => {
    const start = (s: number): number => Math.min(s, 5);
    expect(
      watch(
        (s) => 10 * start(s),
        (s) => 300 * start(s),
      ),
    ).toBeUndefined();
  });

  test("without any first token the pile alone decides", () => {
    const monitor = new SaturationMonitor(SATURATION_RULE);
    for (let at = 0; at <= 31_000; at += 100) monitor.sent(at, at / 100);
    expect(monitor.saturated(31_000)).toBe(true);
  });
});
