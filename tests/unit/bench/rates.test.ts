import { describe, expect, test } from "bun:test";
import { gridOf, rowOf } from "../../../cli/bench/engine/grid.ts";
import { deviation, median, ratesOf } from "../../../cli/bench/engine/rates.ts";

const ROW = rowOf({ kind: "single", nPrompt: 100, nGen: 20, nDepth: 512 }, "both");

describe("rates", () => {
  test("are tokens by time, averaged over rates and not over times, as llama-bench has it", () => {
    const rates = ratesOf(ROW, [1e9, 3e9]);
    expect(rates.samples_ts).toEqual([120, 40]);
    expect(rates.avg_ts).toBe(80);
    expect(rates.stddev_ts).toBeCloseTo(Math.sqrt(2 * 40 ** 2), 9);
    expect(rates.avg_ns).toBe(2e9);
    expect(rates.stddev_ns).toBeCloseTo(Math.SQRT2 * 1e9, 0);
  });

  test("agree with what llama-bench printed for the same samples", async () => {
    // The samples of its README.
    const samples = [74_601_900, 71_632_900, 71_745_200, 71_952_700, 70_745_500];
    const test = gridOf({
      ...{ nPrompt: [512], nGen: [], nPromptGen: [], nDepth: [0], nParallel: [] },
      ...{ nParallelPrompt: [], nParallelGen: [], sharedPrompt: false },
    })[0]!;
    const rates = ratesOf(rowOf(test, "both"), samples);
    expect(Math.floor(rates.avg_ns)).toBe(72_135_640);
    expect(Math.floor(rates.stddev_ns)).toBe(1_453_752);
    expect(rates.avg_ts).toBeCloseTo(7100.002165, 5);
    expect(rates.stddev_ts).toBeCloseTo(140.34152, 5);
  });

  test("one run has no deviation", () => {
    expect(ratesOf(ROW, [1e9]).stddev_ts).toBe(0);
    expect(deviation([])).toBe(0);
  });

  test("the median of an even number is between the two in the middle", () => {
    expect([median([3, 1, 2]), median([4, 1, 3, 2]), median([7])]).toEqual([2, 2.5, 7]);
    expect(median([])).toBeNaN();
  });
});
