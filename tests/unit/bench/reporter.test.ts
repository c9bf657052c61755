/** What `bench serve` and `bench throughput` print, write and exit with, for the flags of the report. */

import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createLogger } from "../../../cli/output.ts";
import type { BenchOutcome } from "../../../cli/bench/parts.ts";
import { createReporter } from "../../../cli/bench/report/reporter.ts";
import type { RateSearch } from "../../../cli/bench/report/report.ts";
import { reportRequest } from "../../../cli/bench/report/report-request.ts";
import { resultFileName } from "../../../cli/bench/report/result-file-name.ts";
import type { OptionName } from "../../../engine/config.ts";
import type { FlagValue } from "../../../engine/config-values.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";
import { resolveFlags } from "../../support/flag-values.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

type Flags = readonly (readonly [OptionName, FlagValue])[];

const RECORDS = [recordOf(0, [100, 110, 130, 160]), recordOf(1000, [1200, 1240, 1280])];
const ONE: BenchOutcome = { runs: [runOf(RECORDS, { durationMs: 2000 })], sides: [] };

/** a b b a; b takes 1.1 times as long. */
const AB: BenchOutcome = {
  sides: ["a", "b"],
  runs: ["a", "b", "b", "a"].map((label, i) =>
    runOf(RECORDS, {
      label,
      startedAt: `2026-01-31T23:0${i}:00.000Z`,
      durationMs: (label === "a" ? 2000 : 2200) + i,
    }),
  ),
};

const SEARCH: RateSearch = {
  targets: { ttft: 500 },
  percentile: 99,
  probes: [
    { rate: 1, requests: 20, passed: true },
    { rate: 2, requests: 40, passed: false, why: "ttft p99 812.0 ms > 500 ms" },
  ],
  best: 1,
  limit: 2,
};

let printed = "";
let stdout: ReturnType<typeof spyOn>;
beforeEach(() => {
  printed = "";
  stdout = spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += String(text);
    return true;
  });
});
afterEach(() => {
  stdout.mockRestore();
});

async function report(flags: Flags, outcome: BenchOutcome = ONE): Promise<number> {
  const values = resolveFlags("bench serve", new Map(flags));
  return createReporter(values, createLogger("silent"))(outcome);
}

async function json(flags: Flags, outcome: BenchOutcome = ONE): Promise<Record<string, unknown>> {
  await report([["json", true], ...flags], outcome);
  return JSON.parse(printed) as Record<string, unknown>;
}

describe("what is printed", () => {
  test("is text, or one JSON document", async () => {
    expect(await report([])).toBe(0);
    expect(printed).toStartWith("Run kvengine\n");
    printed = "";
    expect(await json([])).toMatchObject({ label: "kvengine", completed: 2 });
  });

  test("has the percentiles of the metrics that were asked for, and no others", async () => {
    const result = await json([
      ["metric-percentiles", "99.9,75"],
      ["percentile-metrics", "ttft, e2el"],
    ]);
    expect(result).toMatchObject({ p75_ttft_ms: 175, p75_tpot_ms: null, mean_tpot_ms: 30 });
    expect(result).toHaveProperty(["p99.9_e2el_ms"]);
    expect(result).not.toHaveProperty(["p99_ttft_ms"]);
  });

  test("has goodput within the limits, and metadata", async () => {
    const flags: Flags = [
      ["goodput", ["ttft:150", "tpot:25"]],
      ["metadata", ["commit=1a2b3c4", " note = a=b "]],
    ];
    expect(await json(flags)).toMatchObject({
      request_goodput: 0.5,
      goodput: { ttft: 150, tpot: 25 },
      commit: "1a2b3c4",
      metadata: { commit: "1a2b3c4", note: "a=b" },
    });
  });

  test("has the steady state by the share of the peak that was asked for", async () => {
    const overlapping = [recordOf(0, [1000]), recordOf(500, [600]), recordOf(500, [700])];
    const outcome = { runs: [runOf(overlapping, { durationMs: 1000 })], sides: [] };
    expect(await json([], outcome)).toMatchObject({ steady_duration: 0.1 });
    printed = "";
    expect(await json([["steady-state-ratio", "0.3"]], outcome)).toMatchObject({
      steady_duration: 1,
    });
  });

  test("has another tool's words where they are asked for", async () => {
    await report([["compat", "guidellm"]]);
    expect(printed).toContain("In the words of guidellm\n");
    printed = "";
    await report([]);
    expect(printed).not.toContain("In the words of");
  });

  test("has the rates of a search, as text and in JSON", async () => {
    const outcome = { ...ONE, search: SEARCH };
    await report([], outcome);
    expect(printed).toContain("The largest rate that holds is 1/s; 2/s fails.");
    printed = "";
    expect(await json([], outcome)).toMatchObject({ slo_search: SEARCH, completed: 2 });
  });

  test("says why a session ended early", async () => {
    const outcome = { ...AB, warnings: ["the comparison ended early: a server died"] };
    await report([], outcome);
    expect(printed).toContain("Warning: the comparison ended early: a server died.");
  });
});

describe("what is written", () => {
  test("is a file of vLLM's keys in the folder and under the name that were given", async () => {
    const folder = join(temporaryFolder(), "made", "for it");
    await report([
      ["save-result", true],
      ["result-dir", folder],
      ["result-filename", "mine"],
    ]);
    const result = JSON.parse(await Bun.file(join(folder, "mine")).text()) as object;
    expect(result).toMatchObject({ completed: 2, model_id: "tiny" });
    expect(result).not.toHaveProperty("ttfts");
  });

  test("has a name of its own where none was given, and every request where they are wanted", async () => {
    const folder = temporaryFolder();
    await report([
      ["save-result", true],
      ["save-detailed", true],
      ["result-dir", folder],
    ]);
    const names = readdirSync(folder);
    expect(names).toEqual(["kvengine-infqps-concurrency4-tiny-20260131-235900.json"]);
    const result = JSON.parse(await Bun.file(join(folder, names[0] ?? "")).text()) as object;
    expect(result).toMatchObject({ ttfts: [0.1, 0.2], input_lens: [10, 10] });
  });

  test("is each file of --report, in its format", async () => {
    const folder = temporaryFolder();
    const paths = ["a.json", "a.jsonl", "a.csv", "a.md", "a.html"].map((name) =>
      join(folder, name),
    );
    await report([["report", paths.join(",")]]);
    const heads = await Promise.all(paths.map(async (path) => (await Bun.file(path).text())[0]));
    expect(heads).toEqual(["{", "{", "l", "#", "<"]);
  });

  test("never leaves its folder because of a label or a model's name", () => {
    const run = runOf(RECORDS, {
      label: "../a b/c",
      target: { baseUrl: "", server: "s", model: "org/model:8" },
    });
    expect(resultFileName([run])).toBe(".._a_b_c-infqps-concurrency4-model_8-20260131-235900.json");
    expect(resultFileName(AB.runs)).toStartWith("a-b-infqps-");
  });
});

describe("the exit code", () => {
  for (const [condition, outcome, code] of [
    ["ttft_p99>300ms", ONE, 0],
    ["ttft_p99>100ms", ONE, 1],
    ["output_throughput<0.95x", AB, 1],
    ["output_throughput<0.9x", AB, 0],
    // A run in which nothing was answered is a failure of its own, with no figure to hold to anything.
    ["ttft_p99>1ms", { runs: [runOf([])], sides: [] }, 0],
  ] as const) {
    test(`is ${code} for ${condition} of ${outcome.runs.length} runs`, async () => {
      const sides: Flags = outcome === AB ? [["ab", ["a:", "b:"]]] : [];
      expect(await report([["fail-if", condition], ...sides], outcome)).toBe(code);
    });
  }
});

describe("before anything is measured", () => {
  for (const [flags, subject] of [
    [[["fail-if", "ttft_p99>1.05x"]], "--fail-if"],
    [[["fail-if", "ttft_p98>1ms"]], "--fail-if"],
    [
      [
        ["fail-if", "tpot_p99>1ms"],
        ["percentile-metrics", "ttft"],
      ],
      "--fail-if",
    ],
    [[["fail-if", "request_goodput<1"]], "--fail-if"],
    [[["goodput", ["itl:5"]]], "--goodput"],
    [[["percentile-metrics", "ttft,latency"]], "--percentile-metrics"],
    [[["metric-percentiles", "101"]], "--metric-percentiles"],
    [[["metadata", ["commit"]]], "--metadata"],
    [[["metadata", ["a=1", "a=2"]]], "--metadata"],
    [[["report", "a.txt"]], "--report"],
    [[["save-detailed", true]], "--save-detailed"],
    [[["result-dir", "x"]], "--result-dir"],
    [[["result-filename", "x"]], "--result-filename"],
  ] as const) {
    test(`${JSON.stringify(flags)} is refused`, async () => {
      const values = resolveFlags("bench serve", new Map<OptionName, FlagValue>(flags));
      const error = await thrownBy(() => reportRequest(values));
      expect([error.code, error.subject]).toEqual(["bad_config", subject]);
    });
  }

  test("what a condition needs may be asked for with it", () => {
    const flags = new Map<OptionName, FlagValue>([
      ["fail-if", "ttft_p98>1ms,request_goodput<1,tpot_median>2x"],
      ["metric-percentiles", "98"],
      ["goodput", ["ttft:1"]],
      ["ab", ["a:", "b:"]],
    ]);
    expect(reportRequest(resolveFlags("bench serve", flags)).conditions.length).toBe(3);
  });
});
