/** Every format, read back by something that did not write it. */

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { parse } from "csv-parse/sync";
import { compareSides } from "../../../cli/bench/ab/comparison.ts";
import { parseResults } from "../../../cli/bench/ab/result-file.ts";
import { DEFAULT_SUMMARY, summarize } from "../../../cli/bench/metrics/summary.ts";
import { VOCABULARY } from "../../../cli/bench/metrics/vocabulary.ts";
import {
  comparisonsCsv,
  reportJson,
  requestsJsonl,
  runsCsv,
} from "../../../cli/bench/report/json.ts";
import { reportHtml } from "../../../cli/bench/report/html/html.ts";
import { benchReport } from "../../../cli/bench/report/bench-report.ts";
import type { BenchReport, RunReport } from "../../../cli/bench/report/report.ts";
import { sectionMarkdown, sectionText } from "../../../cli/bench/report/section.ts";
import { reportMarkdown, reportText } from "../../../cli/bench/report/text.ts";
import { parseReportFiles, writeReports } from "../../../cli/bench/report/write.ts";
import type { Run } from "../../../cli/bench/types.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const RECORDS = [
  recordOf(0, [100, 110, 130, 160], { text: 'a "quoted", text\nof two lines' }),
  recordOf(1000, [1200, 1240, 1280], { cachedTokens: 4, cachedByTier: { host: 4 } }),
  recordOf(1500, [1600], { outcome: "cut", error: "closed; early", endedAt: 1710 }),
];

function runReport(more: Partial<Run> = {}): RunReport {
  const run = runOf(RECORDS, { durationMs: 2000, ...more });
  return { run, summary: summarize(run, DEFAULT_SUMMARY) };
}

const ONE: BenchReport = {
  version: "0.1.0",
  runs: [runReport()],
  comparisons: [],
  warnings: [],
  metadata: { commit: "1a2b3c4" },
};

/** Two runs a side, in turns. */
const AB: BenchReport = benchReport(
  ["a", "b", "b", "a"].map((label, i) =>
    runOf(RECORDS, {
      label,
      startedAt: `2026-01-31T23:0${i}:00.000Z`,
      durationMs: 2000 + 10 * i,
    }),
  ),
  { version: "0.1.0" },
);

describe("JSON", () => {
  /** All that `vllm bench serve --save-result --save-detailed` writes for a text model. */
  const VLLM_KEYS = [
    ...["date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts"],
    ...["request_rate", "burstiness", "max_concurrency", "duration", "completed", "failed"],
    ...["total_input_tokens", "total_output_tokens", "request_throughput", "request_goodput"],
    ...["output_throughput", "total_token_throughput", "max_output_tokens_per_s"],
    ...["max_concurrent_requests", "rtfx"],
    ...["ttft", "tpot", "itl", "e2el"].flatMap((metric) =>
      ["mean", "median", "std", "p99"].map((word) => `${word}_${metric}_ms`),
    ),
  ];
  const DETAILS = [
    ...["input_lens", "output_lens", "start_times", "ttfts", "itls", "generated_texts", "errors"],
  ];

  test("of a run has vLLM's keys, and a list a request only where that is asked for", () => {
    const plain = JSON.parse(reportJson(ONE)) as Record<string, unknown>;
    const detailed = JSON.parse(reportJson(ONE, { detailed: true })) as Record<string, unknown>;
    expect(VLLM_KEYS.filter((key) => !(key in plain))).toEqual([]);
    expect(DETAILS.filter((key) => key in plain)).toEqual([]);
    expect(detailed).toMatchObject({
      input_lens: [10, 10, 10],
      output_lens: [4, 3, 0],
      start_times: [0, 1, 1.5],
      ttfts: [0.1, 0.2, 0.1],
      itls: [[0.01, 0.02, 0.03], [0.04, 0.04], []],
      errors: ["", "", "closed; early"],
    });
  });

  test("says what was run, in vLLM's words and in ours", () => {
    expect(JSON.parse(reportJson(ONE))).toMatchObject({
      kvengine_version: "0.1.0",
      date: "20260131-235900",
      request_rate: "inf",
      max_concurrency: 4,
      commit: "1a2b3c4",
      output_throughput: 3.5,
      mean_ttft_ms: 150,
      request_goodput: null,
      cache_state: "cold",
      itl_of: "tokens",
      counted_by: { usage: 2 },
      prompt_tokens_host: 4,
      failures: [{ name: "cut off", count: 1, example: "closed; early" }],
    });
  });

  test("has null, not 0, for what no request has", () => {
    const report = { ...ONE, runs: [{ ...runReport(), summary: summarize(runOf([])) }] };
    expect(JSON.parse(reportJson(report))).toMatchObject({ mean_ttft_ms: null, p99_itl_ms: null });
  });

  test("has the speculation and the ramp under vLLM's keys", () => {
    const run = runReport({
      load: { ...runOf([]).load, requestRate: 4, ramp: { shape: "linear", from: 1, to: 4 } },
      counters: {
        "vllm:spec_decode_num_drafts_total": 10,
        "vllm:spec_decode_num_draft_tokens_total": 40,
        "vllm:spec_decode_num_accepted_tokens_total": 10,
      },
    });
    expect(JSON.parse(reportJson({ ...ONE, runs: [run] }))).toMatchObject({
      ramp_up_strategy: "linear",
      ramp_up_start_rps: 1,
      ramp_up_end_rps: 4,
      spec_decode_acceptance_rate: 25,
      spec_decode_acceptance_length: 2,
      spec_decode_num_drafts: 10,
    });
  });

  test("of a session is what `bench compare` reads, with the same verdicts", () => {
    const rows = parseResults(reportJson(AB), "ab.json");
    expect(rows.map(({ label }) => label)).toEqual(["a", "b", "b", "a"]);
    const again = compareSides(
      { label: "a", runs: rows.filter(({ label }) => label === "a") },
      { label: "b", runs: rows.filter(({ label }) => label === "b") },
    );
    expect(again).toEqual(AB.comparisons[0] ?? again);
  });
});

describe("a report", () => {
  const runs = ["a", "b", "c", "c", "b", "a"].map((label, i) =>
    runOf(RECORDS, {
      label,
      startedAt: `2026-01-31T23:0${i}:00.000Z`,
      cacheState: i === 2 ? "warm" : "cold",
    }),
  );

  test("compares each other side with the first, and more metrics where that is asked for", () => {
    const { comparisons } = benchReport(runs, { version: "1", alsoCompared: ["ttft_max"] });
    expect(comparisons.map(({ a, b }) => [a, b])).toEqual([
      ["a", "b"],
      ["a", "c"],
    ]);
    expect(comparisons[0]?.metrics.at(-1)?.metric.name).toBe("ttft_max");
    expect(comparisons[1]?.warnings).toContain(
      "cache_state differs: cold on side a, cold, warm on side b",
    );
  });

  test("says in every format why a session ended early", () => {
    const warnings = ["it ended in round 3 of 6: the server died"];
    const report = benchReport(runs, { version: "1", warnings });
    expect(JSON.parse(reportJson(report))).toMatchObject({ warnings });
    for (const text of [reportText(report), reportMarkdown(report), reportHtml(report)])
      expect(text).toContain("it ended in round 3 of 6: the server died");
  });

  test("of one side compares nothing", () => {
    expect(benchReport(runs.slice(0, 1), { version: "1" }).comparisons).toEqual([]);
    expect(benchReport([], { version: "1" })).toEqual({
      version: "1",
      runs: [],
      comparisons: [],
      warnings: [],
      metadata: {},
    });
  });
});

describe("JSONL", () => {
  test("has a line a request of each run", () => {
    const lines = requestsJsonl(AB).trimEnd().split("\n");
    const parsed = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(parsed).toHaveLength(12);
    expect(parsed[4]).toMatchObject({
      run: 1,
      label: "b",
      ttft_ms: 200,
      tpot_ms: 40,
      e2el_ms: 280,
      prompt_tokens: 10,
      cached_by_tier: { host: 4 },
      chunks: [
        [1200, 1],
        [1240, 1],
        [1280, 1],
      ],
    });
    expect(parsed[2]).toMatchObject({ outcome: "cut", error: "closed; early", tpot_ms: null });
    expect(parsed[0]?.["text"]).toBe('a "quoted", text\nof two lines');
  });
});

describe("CSV", () => {
  test("has a row a run, which a CSV parser reads back", () => {
    const metadata = { note: 'a "b", c\nd', commit: "1" };
    const rows: Record<string, string>[] = parse(runsCsv({ ...AB, metadata }), { columns: true });
    expect(rows.map(({ label }) => label)).toEqual(["a", "b", "b", "a"]);
    expect(rows[1]).toMatchObject({
      started_at: "2026-01-31T23:01:00.000Z",
      request_rate: "inf",
      note: 'a "b", c\nd',
      mean_ttft_ms: "150",
    });
    expect(Number(rows[1]?.["output_throughput"])).toBeCloseTo(7 / 2.01, 12);
  });

  test("of comparisons has a row a metric", () => {
    const rows: Record<string, string>[] = parse(comparisonsCsv(AB), { columns: true });
    expect(rows.map(({ metric }) => metric)).toEqual(
      AB.comparisons[0]?.metrics.map(({ metric }) => metric.name) ?? [],
    );
    expect(rows[0]).toMatchObject({ a: "a", b: "b", unit: "tokens/s", design: "interleaved" });
  });
});

describe("text", () => {
  test("of a run shows each part, and every report the words of others", () => {
    const text = reportText(ONE, { compat: "guidellm" });
    for (const part of [
      "Run kvengine",
      "random (input-len 10, output-len 4), seed 0",
      "2 of 3 completed",
      "Throughput, a second",
      "TTFT   150",
      "ITL is per token",
      "host           4   20 %",
      "cut off  1      closed; early",
      "In the words of guidellm",
      "Request Latency (s)",
    ])
      expect(text).toContain(part);
    for (const report of [reportText(ONE), reportText(AB), reportMarkdown(ONE), reportMarkdown(AB)])
      for (const { means } of VOCABULARY) expect(report).toContain(means);
  });

  test("of a session shows a row a run, ratios, intervals and one sentence over all", () => {
    const text = reportText(AB);
    expect(text).toContain("The runs, in order");
    expect(text).toContain("a = a (2 runs), b = b (2 runs); runs in turns");
    expect(text).toMatch(/ttft_p99 +ms +199 +199 +1\.000 +1\.000 … 1\.000 +no difference/);
    expect(text).toContain("Taken together, no difference: 10 metrics");
  });

  test("is aligned: text to the left, numbers to the right", () => {
    const section = {
      title: "T",
      columns: ["", "n"],
      rows: [
        ["a", "1"],
        ["bcd", "100"],
      ],
    };
    expect(sectionText(section)).toBe("T\n         n\n  a      1\n  bcd  100\n");
    expect(sectionMarkdown(section)).toBe(
      "### T\n\n|  | n |\n| --- | ---: |\n| a | 1 |\n| bcd | 100 |\n",
    );
  });

  test("keeps tables whole where a cell holds a bar or a line feed", () => {
    const section = { title: "T", columns: ["x"], rows: [["a|b\nc"]], notes: ["A note."] };
    expect(sectionMarkdown(section)).toBe("### T\n\n| x |\n| --- |\n| a\\|b c |\n\nA note.\n");
  });
});

describe("--report", () => {
  test("writes each file in the format of its ending", async () => {
    const folder = temporaryFolder();
    const names = ["deep/run.json", "run.jsonl", "run.csv", "run.md", "run.html"];
    const paths = names.map((name) => join(folder, name));
    await writeReports(parseReportFiles(paths.join(", ")), ONE);
    const texts = await Promise.all(paths.map((path) => Bun.file(path).text()));
    expect(texts.slice(0, 4)).toEqual([
      reportJson(ONE),
      requestsJsonl(ONE),
      runsCsv(ONE),
      reportMarkdown(ONE),
    ]);
    expect(texts[4]).toStartWith("<!doctype html>");
    expect(parseReportFiles("")).toEqual([]);
  });

  test("refuses an ending that is no format, and one that is none here", async () => {
    for (const [text, formats] of [
      ["run.xlsx", undefined],
      ["run", undefined],
      ["a.json,b", undefined],
      ["run.jsonl", [".json"]],
      ["run.constructor", undefined],
    ] as const) {
      const error = await thrownBy(() => parseReportFiles(text, formats));
      expect([error.code, error.subject]).toEqual(["bad_config", "--report"]);
      expect(error.message).toContain("is of no format");
    }
  });

  test("names the file that cannot be written", async () => {
    const path = join(import.meta.path, "below-a-file.json");
    const error = await thrownBy(() => writeReports(parseReportFiles(path), ONE));
    expect(error.message).toBe(`the report ${path} cannot be written`);
  });
});
