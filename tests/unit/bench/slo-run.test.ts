import { describe, expect, test } from "bun:test";
import { searchSection } from "../../../cli/bench/report/search-section.ts";
import { sectionText } from "../../../cli/bench/report/section.ts";
import { type ProbePlan, rateSearch, runSloSearch } from "../../../cli/bench/serve/slo-run.ts";
import type { SloTargets } from "../../../cli/bench/slo.ts";
import type { RequestRecord, Run } from "../../../cli/bench/types.ts";
import { resolveConfig } from "../../../engine/config-values.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";
import { planWith } from "../../support/bench-workload.ts";

const { values } = resolveConfig("bench serve", { flags: new Map(), env: {} });

/** A run whose percentile p of the time to the first token is p / 99 milliseconds for each request begun a second. */
function runAt(rate: number, changes: Partial<Run> = {}): Run {
  const records = Array.from({ length: 101 }, (_, i) => recordOf(0, [(rate * i) / 99]));
  return runOf(records, { load: planWith({ requestRate: rate }), ...changes });
}

function record(outcome: RequestRecord["outcome"]): RequestRecord {
  return recordOf(0, [1], { outcome });
}

interface Searched {
  readonly result: Awaited<ReturnType<typeof runSloSearch>>;
  readonly asked: readonly ProbePlan[];
  readonly report: string;
}

async function search(
  targets: SloTargets,
  run: (rate: number) => Run = runAt,
  more: Partial<typeof values> = {},
): Promise<Searched> {
  const asked: ProbePlan[] = [];
  const result = await runSloSearch({
    targets,
    values: { ...values, ...more },
    run: async (probe) => {
      asked.push(probe);
      return run(probe.rate);
    },
  });
  return { result, asked, report: sectionText(searchSection(rateSearch(result, targets, 99))) };
}

describe("the search for a rate", () => {
  test("takes a rate for good when the percentile keeps the limit", async () => {
    const { result, report } = await search({ ttft: 10 });
    expect(result.best?.rate).toBeLessThanOrEqual(10);
    expect(result.limit?.rate).toBeGreaterThan(10);
    expect(result.limit?.why).toMatch(/^ttft p99 1\d\.\d ms > 10 ms$/);
    expect(report).toContain("Rates at which 99 % of the requests keep ttft ≤ 10 ms\n");
    expect(report).toMatch(
      /The largest rate that holds is (9|10)\.\d\d\/s; 1\d\.\d\d\/s fails\.\n$/,
    );
  });

  test("looks at the percentile that is asked for", async () => {
    const { result } = await search({ ttft: 10 }, runAt, { sloPercentile: 49.5 });
    expect(result.best?.rate).toBeGreaterThan(19);
  });

  test("begins at the rate that is given, with enough conversations and another seed each time", async () => {
    const { asked } = await search({ ttft: 8 }, runAt, { requestRate: 4, seed: 7 });
    expect(asked.slice(0, 3).map(({ rate, numPrompts, seed }) => [rate, numPrompts, seed])).toEqual(
      [
        [4, 120, 7],
        [8, 240, 8],
        [16, 480, 9],
      ],
    );
    const slow = await search({ ttft: 0.3 }, runAt, { sloProbeTime: 2 });
    expect(slow.asked.map(({ numPrompts }) => numPrompts).slice(0, 2)).toEqual([20, 20]);
  });

  test("gives up on probes that cannot keep up by the limit of the first token", async () => {
    const { asked } = await search({ ttft: 10 });
    expect(asked[0]?.saturation).toMatchObject({ minimumMs: 10_000, slowTtftMs: 10 });
    const other = await search({ e2el: 10 });
    expect(other.asked[0]?.saturation.slowTtftMs).toBe(2500);
  });

  test("takes a rate for bad when requests failed, or the run was stopped", async () => {
    const failing = await search({ ttft: 1e6 }, (rate) =>
      runAt(rate, { records: [record("ok"), record(rate > 2 ? "cut" : "ok")] }),
    );
    expect(failing.result.limit?.why).toBe("1 of 2 requests failed");
    const stopped = await search({ ttft: 1e6 }, (rate) =>
      runAt(rate, rate > 2 ? { stopped: "over-saturation", records: [record("cut")] } : {}),
    );
    expect(stopped.result.limit?.why).toBe("over-saturation");
  });

  test("ends with what there is when it is interrupted", async () => {
    const { result, report } = await search({ ttft: 1e6 }, (rate) =>
      runAt(rate, rate > 2 ? { stopped: "interrupted" } : {}),
    );
    expect(result.probes.map(({ rate }) => rate)).toEqual([1, 2]);
    expect(report).toContain("The largest rate that holds is 2/s; none that was tried fails.");
    const none = await search({ ttft: 1 }, (rate) => runAt(rate, { stopped: "interrupted" }));
    expect(none.report).toContain("No rate was tried to its end.");
  });

  test("says so when no rate holds", async () => {
    const { report } = await search({ ttft: 1e-9 });
    expect(report).toContain("No rate that was tried holds; the smallest is 0.00100/s.");
  });
});
