import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { type Comparison, compareSides, type Side } from "../../../cli/bench/ab/comparison.ts";
import { pairedInterval, unpairedInterval } from "../../../cli/bench/ab/ratio-interval.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { sideInTurns } from "../../support/result-rows.ts";
import { randomNumbers, simulatedPairs } from "../../support/simulated-runs.ts";

const SLOW = { output_throughput: [100, 101, 99, 100], p99_ttft_ms: [50, 51, 50, 49] };
const FAST = { output_throughput: [110, 111, 109, 110], p99_ttft_ms: [40, 42, 39, 41] };

function verdicts({ metrics }: Comparison): Record<string, string> {
  return Object.fromEntries(metrics.map(({ metric, verdict }) => [metric.name, verdict]));
}

/** With times so far apart that no run of one side followed one of the other. */
function afterwards(side: Side): Side {
  return {
    ...side,
    runs: side.runs.map((run) => ({ ...run, startedAt: (run.startedAt ?? 0) + 1e9 })),
  };
}

describe("two sides", () => {
  test("are compared pair by pair where their runs took turns", () => {
    const found = compareSides(sideInTurns("a", SLOW), sideInTurns("b", FAST));
    expect(found).toMatchObject({ design: "interleaved", runsOfA: 4, runsOfB: 4, warnings: [] });
    const pairs = SLOW.output_throughput.map((a, i) => ({
      a,
      b: FAST.output_throughput[i] ?? 0,
      aFirst: i % 2 === 0,
    }));
    expect(found.metrics[0]?.interval).toEqual(pairedInterval(pairs));
    expect(verdicts(found)).toEqual({ output_throughput: "b is better", ttft_p99: "b is better" });
    expect(found.metrics[0]?.a).toBeCloseTo((100 * 101 * 99 * 100) ** 0.25, 9);
  });

  test("are compared as groups, with a warning, where they did not", () => {
    const found = compareSides(sideInTurns("a", SLOW), afterwards(sideInTurns("b", FAST)));
    expect(found.design).toBe("apart");
    expect(found.warnings[0]).toContain("did not take turns");
    expect(found.metrics[0]?.interval).toEqual(
      unpairedInterval(SLOW.output_throughput, FAST.output_throughput),
    );
  });

  test("are compared as groups where times are missing, alike, or the numbers of runs differ", () => {
    const a = sideInTurns("a", SLOW);
    const b = sideInTurns("b", FAST);
    const without = b.runs.map(({ label, metrics, conditions }) => ({
      label,
      metrics,
      conditions,
    }));
    const alike = b.runs.map((run, i) => ({ ...run, startedAt: a.runs[i]?.startedAt ?? 0 }));
    for (const runs of [without, alike, b.runs.slice(1)])
      expect(compareSides(a, { label: "b", runs }).design).toBe("apart");
  });

  test("have no interval and no verdict with one run", () => {
    const one = { output_throughput: [100] };
    const found = compareSides(
      sideInTurns("a", one),
      sideInTurns("b", { output_throughput: [110] }),
    );
    expect(found.design).toBe("single");
    expect(found.warnings[0]).toContain("one run a side");
    expect(found.metrics[0]).toMatchObject({ verdict: "unknown" });
    expect(found.metrics[0]?.a).toBeCloseTo(100, 9);
    expect(found.metrics[0]?.interval).toBeUndefined();
    expect(found.different).toEqual([]);
  });

  test("have no ratio where a run has 0, and are not compared where a run lacks the figure", () => {
    const found = compareSides(
      sideInTurns("a", { request_goodput: [0, 2], p99_tpot_ms: [1, 2] }),
      sideInTurns("b", { request_goodput: [1, 2], p99_tpot_ms: [1] }),
    );
    expect(found.metrics).toHaveLength(1);
    expect(found.metrics[0]).toMatchObject({ a: 1, b: 1.5, verdict: "unknown" });
    expect(found.warnings).toContain("tpot_p99 is not compared: 1 of 4 runs do not have it");
  });

  test("are no difference where the interval holds 1", () => {
    const found = compareSides(
      sideInTurns("a", { output_throughput: [100, 102, 98, 101] }),
      sideInTurns("b", { output_throughput: [101, 99, 100, 102] }),
    );
    expect(verdicts(found)).toEqual({ output_throughput: "no difference" });
    expect(found.different).toEqual([]);
  });

  test("that did different work are warned of, by what differs", () => {
    const found = compareSides(
      sideInTurns("a", SLOW, { dataset_name: "random", cache_state: "cold" }),
      sideInTurns("b", FAST, { dataset_name: "random", cache_state: "warm", max_concurrency: "8" }),
    );
    expect(found.warnings).toEqual([
      "cache_state differs: cold on side a, warm on side b",
      "max_concurrency differs: not told on side a, 8 on side b",
    ]);
  });

  test("whose requests failed are warned of", () => {
    const found = compareSides(
      sideInTurns("a", { ...SLOW, failed: [0, 1, 2, 0] }),
      sideInTurns("b", { ...FAST, failed: [0, 0, 0, 0] }),
    );
    expect(found.warnings).toEqual(["3 requests of side a failed; they are in no figure"]);
  });

  test("give the same verdicts in both orders", () => {
    const figure = fc.double({ min: 0.5, max: 2, noNaN: true });
    const figures = fc.array(fc.tuple(figure, figure, figure, figure), {
      minLength: 2,
      maxLength: 8,
    });
    const swapped: Readonly<Record<string, string>> = {
      "a is better": "b is better",
      "b is better": "a is better",
    };
    fc.assert(
      fc.property(figures, fc.boolean(), (rows, turns) => {
        const column = (i: 0 | 1 | 2 | 3): number[] => rows.map((row) => row[i]);
        const a = sideInTurns("a", { output_throughput: column(0), p99_ttft_ms: column(1) });
        const inTurns = sideInTurns("b", { output_throughput: column(2), p99_ttft_ms: column(3) });
        const b = turns ? inTurns : afterwards(inTurns);
        const one = compareSides(a, b);
        const two = compareSides(b, a);
        expect(two.design).toBe(one.design);
        expect(two.different).toEqual(one.different);
        for (const [name, verdict] of Object.entries(verdicts(one)))
          expect(verdicts(two)[name] ?? "").toBe(swapped[verdict] ?? verdict);
      }),
      propertyRuns(300),
    );
  });
});

describe("all metrics taken together", () => {
  test("name those with a difference that chance would not show among so many", () => {
    const found = compareSides(
      sideInTurns("a", { ...SLOW, p99_tpot_ms: [10, 10.3, 9.8, 10] }),
      sideInTurns("b", { ...FAST, p99_tpot_ms: [9.9, 10.4, 9.7, 10.1] }),
    );
    expect(found.different.toSorted()).toEqual(["output_throughput", "ttft_p99"]);
  });

  test("say 'no difference' in at least 94 % of 500 A/A sessions, though ten metrics are looked at", () => {
    const random = randomNumbers(11);
    const keys = [
      ...["output_throughput", "request_throughput", "median_ttft_ms", "p99_ttft_ms"],
      ...["median_tpot_ms", "p99_tpot_ms", "p99_itl_ms", "median_e2el_ms", "p99_e2el_ms"],
      "steady_output_throughput",
    ];
    let same = 0;
    for (let session = 0; session < 500; session++) {
      const pairs = keys.map((key) => ({
        key,
        pairs: simulatedPairs(random, 6, { run: 0.02, drift: 0.005, wander: 0.005 }),
      }));
      const figures = (side: "a" | "b"): Record<string, number[]> =>
        Object.fromEntries(pairs.map(({ key, pairs }) => [key, pairs.map((pair) => pair[side])]));
      const found = compareSides(sideInTurns("a", figures("a")), sideInTurns("b", figures("b")));
      if (found.different.length === 0) same += 1;
    }
    expect(same / 500).toBeGreaterThanOrEqual(0.94);
  });
});
