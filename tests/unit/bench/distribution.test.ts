import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  describe as distributionOf,
  parsePercentiles,
  percentile,
} from "../../../cli/bench/metrics/distribution.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { thrownBy } from "../../support/thrown.ts";
import vectors from "../../vectors/statistics/numpy-statistics.json" with { type: "json" };

describe("a distribution", () => {
  for (const { values, ...expected } of vectors.cases) {
    test(`of ${values.length} values is numpy's: percentiles to the bit, mean and deviation to rounding`, () => {
      const percents = Object.keys(expected.percentiles).map(Number);
      const found = distributionOf(values, percents);
      expect(found?.percentiles).toEqual(expected.percentiles);
      expect(found?.median).toBe(expected.median);
      expect(found?.mean).toBeCloseTo(expected.mean, 9);
      expect(found?.std).toBeCloseTo(expected.std, 9);
      expect([found?.min, found?.max]).toEqual([Math.min(...values), Math.max(...values)]);
      expect(found?.count).toBe(values.length);
    });
  }

  test("of nothing is none, not zeros", () => {
    expect(distributionOf([], [99])).toBeUndefined();
  });

  test("does not reorder what it is given", () => {
    const values = [3, 1, 2];
    distributionOf(values, [50]);
    expect(values).toEqual([3, 1, 2]);
  });

  test("has percentiles that ascend and stay within the values", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 }),
        fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 2, maxLength: 8 }),
        (values, percents) => {
          const sorted = Float64Array.from(values).sort();
          const found = percents.toSorted((a, b) => a - b).map((p) => percentile(sorted, p));
          expect(found).toEqual(found.toSorted((a, b) => a - b));
          for (const value of found) {
            expect(value).toBeGreaterThanOrEqual(sorted[0] ?? Number.NaN);
            expect(value).toBeLessThanOrEqual(sorted.at(-1) ?? Number.NaN);
          }
        },
      ),
      propertyRuns(200),
    );
  });
});

describe("--metric-percentiles", () => {
  test("are numbers of 0 to 100, ascending, each once", () => {
    expect(parsePercentiles("99, 50,99.9,0,100,50")).toEqual([0, 50, 99, 99.9, 100]);
  });

  for (const text of ["", "50,", "p99", "-1", "100.1", "1e2"]) {
    test(`refuse \`${text}\``, async () => {
      const error = await thrownBy(() => parsePercentiles(text));
      expect([error.code, error.subject]).toEqual(["bad_config", "--metric-percentiles"]);
      expect(error.hint).toContain("0 to 100");
    });
  }
});
