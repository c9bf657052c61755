import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  searchRate,
  type SloSearchOptions,
  type SloSearchResult,
} from "../../../cli/bench/load/slo-search.ts";
import { propertyRuns } from "../../support/property-runs.ts";

const OPTIONS: SloSearchOptions = {
  start: 1,
  min: 0.01,
  max: 10_000,
  tolerance: 0.05,
  maxProbes: 60,
};

/** A server that holds up to a rate. */
function search(
  holds: number,
  options: Partial<SloSearchOptions> = {},
): Promise<SloSearchResult<number>> {
  return searchRate({ ...OPTIONS, ...options }, async (rate) => ({
    rate,
    passed: rate <= holds,
    result: rate,
  }));
}

describe("the search for the largest rate", () => {
  test("ends with a rate that holds and one that fails, close together, around the truth", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.double({ min: 0.02, max: 9000, noNaN: true }),
        fc.double({ min: 0.01, max: 10_000, noNaN: true }),
        fc.constantFrom(0.01, 0.05, 0.5),
        async (holds, start, tolerance) => {
          const { best, limit, probes } = await search(holds, { start, tolerance });
          expect(best?.rate).toBeLessThanOrEqual(holds);
          expect(limit?.rate).toBeGreaterThan(holds);
          expect(limit!.rate / best!.rate).toBeLessThanOrEqual(1 + tolerance + 1e-9);
          expect(new Set(probes.map(({ rate }) => rate)).size).toBe(probes.length);
        },
      ),
      propertyRuns(200),
    );
  });

  test("doubles while rates hold, halves while they fail, then goes between", async () => {
    const up = await search(5, { tolerance: 0.2 });
    expect(up.probes.map(({ rate }) => Number(rate.toFixed(3)))).toEqual([
      1, 2, 4, 8, 5.657, 4.757,
    ]);
    const down = await search(0.3, { tolerance: 0.5 });
    expect(down.probes.map(({ rate }) => Number(rate.toFixed(3)))).toEqual([1, 0.5, 0.25, 0.354]);
  });

  test("ends at the largest rate that it may try", async () => {
    const { best, limit, probes } = await search(1e9, { max: 6 });
    expect(probes.map(({ rate }) => rate)).toEqual([1, 2, 4, 6]);
    expect([best?.rate, limit]).toEqual([6, undefined]);
  });

  test("ends at the smallest rate that it may try", async () => {
    const { best, limit, probes } = await search(0, { min: 0.3 });
    expect(probes.map(({ rate }) => rate)).toEqual([1, 0.5, 0.3]);
    expect([best, limit?.rate]).toEqual([undefined, 0.3]);
  });

  test("ends after as many rates as it may try", async () => {
    expect((await search(100, { maxProbes: 4 })).probes.length).toBe(4);
  });

  test("an interrupt leaves what was found", async () => {
    let calls = 0;
    const { best, limit, probes } = await searchRate(OPTIONS, async (rate) =>
      ++calls === 3 ? undefined : { rate, passed: true, result: 0 },
    );
    expect([best?.rate, limit, probes.length]).toEqual([2, undefined, 2]);
  });
});
