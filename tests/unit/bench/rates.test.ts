import { describe, expect, test } from "bun:test";
import { gridOf, rowOf } from "../../../cli/bench/engine/grid.ts";
import { deviation, mean, median, ratesOf } from "../../../cli/bench/engine/rates.ts";
import { formatRatio, ratioInterval } from "../../../cli/bench/ratio.ts";

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
    expect([median([]), mean([])]).toEqual([Number.NaN, Number.NaN]);
  });
});

describe("the ratio of two sides", () => {
  test("is the geometric mean over the rounds, the same seen from either side", () => {
    const [a, b] = [
      [2, 8],
      [1, 1],
    ];
    expect(ratioInterval(a!, b!).ratio).toBeCloseTo(4, 12);
    expect(ratioInterval(b!, a!).ratio).toBeCloseTo(1 / 4, 12);
    expect(ratioInterval(b!, a!).low).toBeCloseTo(1 / ratioInterval(a!, b!).high, 12);
  });

  test("has Student's interval: of three rounds 4.303 standard errors to each side", () => {
    const logs = [0.1, 0.2, 0.3];
    const { low, high } = ratioInterval(logs.map(Math.exp), [1, 1, 1]);
    const margin = 4.303 * Math.sqrt(0.01 / 3);
    expect(Math.log(low)).toBeCloseTo(0.2 - margin, 9);
    expect(Math.log(high)).toBeCloseTo(0.2 + margin, 9);
  });

  test("what changes from round to round for both sides cancels", () => {
    const machine = [1, 5, 2, 9];
    const { ratio, low, high } = ratioInterval(
      machine.map((speed) => 3 * speed),
      machine,
    );
    for (const one of [ratio, low, high]) expect(one).toBeCloseTo(3, 9);
  });

  test("of one round has no interval, of equal sides says no difference", () => {
    expect(formatRatio(ratioInterval([3], [2]))).toBe("1.50 (one round)");
    expect(formatRatio(ratioInterval([1, 2, 3], [2, 1, 3]))).toContain("no difference");
    expect(formatRatio(ratioInterval([30, 31, 32], [10, 10, 10]))).toMatch(
      /^3\.\d\d \[\d\.\d\d, \d\.\d\d\]$/,
    );
  });

  test("holds 1 in about 95 of 100 comparisons of equal sides", () => {
    let held = 0;
    let state = 1;
    const noise = (): number => {
      // Sum of uniforms from a seeded generator (Numerical Recipes' ranqd1).
      let sum = -6;
      for (let i = 0; i < 12; i++) {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        sum += state / 2 ** 32;
      }
      return Math.exp(0.05 * sum);
    };
    for (let run = 0; run < 2000; run++) {
      const rounds = Array.from({ length: 5 }, noise);
      const { low, high } = ratioInterval(rounds, rounds.map(noise));
      if (low <= 1 && high >= 1) held++;
    }
    expect(held / 2000).toBeGreaterThan(0.93);
    expect(held / 2000).toBeLessThan(0.97);
  });
});
