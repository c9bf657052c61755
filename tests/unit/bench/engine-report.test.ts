import { describe, expect, test } from "bun:test";
import { renderReport, type Report } from "../../../cli/bench/engine/report.ts";
import { Results } from "../../../cli/bench/engine/results.ts";
import { type Test } from "../../../cli/bench/engine/grid.ts";

const PROMPT: Test = { kind: "single", nPrompt: 100, nGen: 0, nDepth: 0 };
const GEN: Test = { kind: "single", nPrompt: 0, nGen: 10, nDepth: 32 };
const SETTING = {
  model: "m",
  backend: "cpu/avx2",
  threads: 2,
  work: {
    weightBytes: 1000,
    kv: [],
    perToken: { int8: 1, fp32: 0 },
    perSample: { int8: 0, fp32: 0 },
  },
  maxBatchedTokens: 512,
};

function resultsOf(fill: (results: Results) => void): Results {
  const results = new Results();
  const peaks = { read: 1e4, int8: 1e3, fp32: 1e3 };
  for (const [test, ns] of [
    [PROMPT, 1e9],
    [GEN, 2e9],
  ] as const) {
    for (const slower of [1, 1.25])
      results.add(test, "both", { ns: ns * slower, peaks }, new Date(0));
  }
  fill(results);
  return results;
}

function reportOf(fill: (results: Results) => void = () => {}): Report {
  return {
    modelSize: 2048,
    modelParameters: 999,
    results: resultsOf(fill).rows([PROMPT, GEN], SETTING),
    limits: {
      threads: 2,
      footprint: 1000,
      read: 1e10,
      operations: { avx512: {}, avx2: { int8: 2e12 }, neon: {}, portable: { fp32: 1e9 } },
    },
  };
}

/** Rates of pp100 at two settings, in two rounds. */
function addPeer(results: Results): void {
  for (const rate of [40, 50])
    for (const [settings, faster] of [
      ["-fa 0", 1],
      ["-fa 1", 1.6],
    ] as const)
      results.addPeer({
        test: "single pp100",
        part: "both",
        settings,
        tokensPerSecond: rate * faster,
      });
}

describe("rows", () => {
  test("hold llama-bench's fields, and the share of the limit of each run", () => {
    const [prompt, gen] = reportOf().results;
    expect(prompt).toMatchObject({
      ...{ model: "m", backend: "cpu/avx2", threads: 2, n_prompt: 100, n_gen: 0, n_depth: 0 },
      ...{ avg_ts: 90, samples_ts: [100, 80], test_time: "1970-01-01T00:00:00.000Z" },
      // 1000 bytes once at 1e4 a second, 100 multiply-accumulates at 1000: equal, and then reading is named.
      limit: { bound: ["read"], share: 0.09, samples: [0.1, 0.08] },
    });
    expect(prompt).not.toHaveProperty("peer");
    expect(gen).toMatchObject({ n_gen: 10, n_depth: 32, avg_ts: 4.5, limit: { bound: ["read"] } });
  });

  test("have the peer at its best settings, and the ratio to that", () => {
    const [prompt, gen] = reportOf(addPeer).results;
    expect(prompt?.peer).toMatchObject({ settings: "-fa 1", samples_ts: [64, 80], avg_ts: 72 });
    expect(prompt?.peer?.ratio).toBeCloseTo(Math.sqrt((100 / 64) * (80 / 80)), 12);
    expect(gen).not.toHaveProperty("peer");
  });
});

describe("forms", () => {
  test("json keeps the fields of all versions", () => {
    const json = JSON.parse(renderReport(reportOf(), "json")) as Record<string, unknown>;
    expect(json).toMatchObject({ model_size: 2048, model_n_params: 999, limits: { read: 1e10 } });
    expect(json["results"]).toHaveLength(2);
    expect(json).toHaveProperty("version");
  });

  test("jsonl has a line for the limits and one for each row", () => {
    const lines = renderReport(reportOf(), "jsonl").trimEnd().split("\n");
    const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(objects.map(({ test }) => test)).toEqual([undefined, "pp100", "tg10 @ d32"]);
    expect(objects.every((one) => one["model_size"] === 2048)).toBe(true);
  });

  test("csv has the same columns in each row, empty where there is no peer", () => {
    const lines = renderReport(reportOf(addPeer), "csv").trimEnd().split("\n");
    const [heads, prompt, gen] = lines.map((line) => line.split(","));
    expect(heads).toContain("avg_ts");
    expect(prompt).toHaveLength(heads!.length);
    expect(gen).toHaveLength(heads!.length);
    expect(gen![heads!.indexOf("peer")]).toBe("");
    expect(prompt![heads!.indexOf("peer_settings")]).toBe("-fa 1");
  });

  test("a table shows rates, shares, the peer and the limits", () => {
    const table = renderReport(reportOf(addPeer), "table");
    expect(table).toContain("  pp100       90.00 ± 14.14  9 % of read       72.00  -fa 1 ");
    expect(table).toMatch(/  1\.25 \[.*\] no difference\n/);
    expect(table).toContain("  int8 on avx2, 2 threads      2000.0 Gop/s\n");
    expect(renderReport({ ...reportOf(), limits: undefined }, "md")).not.toContain("Gop/s");
  });
});
