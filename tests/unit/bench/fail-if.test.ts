import { describe, expect, test } from "bun:test";
import { compareSides } from "../../../cli/bench/ab/comparison.ts";
import { failuresOf, failuresOfRun, parseFailIf } from "../../../cli/bench/ab/fail-if.ts";
import { sideInTurns } from "../../support/result-rows.ts";
import { thrownBy } from "../../support/thrown.ts";

/** TPOT of b is 1.10 times a's; TTFT is noise; throughput of b is 0.9 times a's. */
const COMPARISON = compareSides(
  sideInTurns("a", {
    output_throughput: [100, 101, 99, 100],
    p99_ttft_ms: [190, 230, 200, 180],
    p99_tpot_ms: [10, 10.1, 9.9, 10],
  }),
  sideInTurns("b", {
    output_throughput: [90, 91, 89, 90],
    p99_ttft_ms: [250, 180, 220, 230],
    p99_tpot_ms: [11, 11.1, 10.9, 11],
  }),
);

function failed(text: string): string[] {
  return failuresOf(parseFailIf(text), COMPARISON).map(({ condition }) => condition.text);
}

describe("--fail-if", () => {
  for (const [text, fails] of [
    ["tpot_p99>1.05x", true],
    ["p99_tpot_ms>1.05x", true],
    ["tpot_p99 >= 1.05 x", true],
    ["tpot_p99>1.2x", false],
    ["tpot_p99<1.05x", false],
    ["output_throughput<0.95x", true],
    ["output_throughput<=0.5x", false],
    // 1.09 times, but the interval holds 1.
    ["ttft_p99>1.05x", false],
    ["ttft_p99>200ms", true],
    ["ttft_p99>200", true],
    ["ttft_p99>0.2s", true],
    ["ttft_p99>200000us", true],
    ["ttft_p99>0.3s", false],
    ["output_throughput<95", true],
    ["output_throughput<95tokens/s", true],
    ["output_throughput<80", false],
  ] as const) {
    test(`\`${text}\` ${fails ? "fails" : "passes"}`, () => {
      expect(failed(text)).toEqual(fails ? [text] : []);
    });
  }

  test("takes several conditions and reports those that hold, with what was found", () => {
    const found = failuresOf(
      parseFailIf("tpot_p99>1.05x, ttft_p99>1s,, output_throughput<95"),
      COMPARISON,
    );
    expect(found.map((failure) => failure.found)).toEqual([
      expect.stringMatching(/^tpot_p99 is 1\.100x \(95 %: 1\.\d+ … 1\.\d+\)$/),
      expect.stringMatching(/^output_throughput is 89\.99\d\d? tokens\/s$/),
    ]);
    expect(parseFailIf("")).toEqual([]);
  });

  test("holds at its limit only with =", () => {
    const metrics = { p99_ttft_ms: 200 };
    const holds = (text: string): boolean => failuresOfRun(parseFailIf(text), metrics).length > 0;
    expect(["ttft_p99>200", "ttft_p99<200", "ttft_p99>=200", "ttft_p99<=200"].map(holds)).toEqual([
      false,
      false,
      true,
      true,
    ]);
  });

  test("lets the ratio alone decide where there is no interval", () => {
    const single = compareSides(
      sideInTurns("a", { p99_tpot_ms: [10] }),
      sideInTurns("b", { p99_tpot_ms: [11] }),
    );
    const [failure] = failuresOf(parseFailIf("tpot_p99>1.05x"), single);
    expect(failure?.found).toBe("tpot_p99 is 1.100x (no interval: one run a side)");
  });

  for (const [text, says] of [
    ["tpot_p99", "`tpot_p99` is no condition"],
    ["tpot_p99>", "`tpot_p99>` is no condition"],
    ["tpot_p99>fast", "`tpot_p99>fast` is no condition"],
    ["tpot_p99=1.05x", "`tpot_p99=1.05x` is no condition"],
    ["tpot_p99>1.05x ttft_p99>2", "`tpot_p99>1.05x ttft_p99>2` is no condition"],
    ["topt_p99>1.05x", "`topt_p99` is no metric: did you mean `ttft_p99`?"],
    ["constructor>1", "`constructor` is no metric"],
    ["tpot_p99>5%", "`%` in `tpot_p99>5%` is no unit of tpot_p99; units are x, us, ms, s"],
    ["output_throughput<5ms", "units are x, tokens/s"],
    ["output_throughput<5constructor", "is no unit of output_throughput"],
  ] as const) {
    test(`refuses \`${text}\``, async () => {
      const error = await thrownBy(() => parseFailIf(text));
      expect([error.code, error.subject]).toEqual(["bad_config", "--fail-if"]);
      expect(error.message).toContain(says);
      expect(error.hint).toContain("tpot_p99>1.05x");
    });
  }

  test("refuses a metric that was not measured, and a relative condition for one run", async () => {
    const missing = parseFailIf("itl_p99.9>5ms");
    for (const call of [
      () => failuresOf(missing, COMPARISON),
      () => failuresOfRun(missing, { p99_ttft_ms: 1 }),
    ])
      expect((await thrownBy(call)).message).toBe("--fail-if: itl_p99.9 was not measured");
    const relative = parseFailIf("ttft_p99>1.1x");
    const error = await thrownBy(() => failuresOfRun(relative, { p99_ttft_ms: 1 }));
    expect(error.message).toContain("there is nothing to compare with");
  });
});
