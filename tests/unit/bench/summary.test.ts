/** Every figure of a summary, computed by hand from scripted records. */

import { describe, expect, test } from "bun:test";
import { flatMetrics, metricKind } from "../../../cli/bench/metrics/flat-metrics.ts";
import { DEFAULT_SUMMARY, summarize } from "../../../cli/bench/metrics/summary.ts";
import type { RequestRecord, Run } from "../../../cli/bench/types.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";

/** TTFT 100, 200; gaps 10 20 30 and 40 40; two failed. */
const RECORDS: readonly RequestRecord[] = [
  recordOf(0, [100, 110, 130, 160], { promptTokens: 8, cachedTokens: 3 }),
  recordOf(1000, [1200, 1240, 1280], { promptTokens: 6, endedAt: 1281 }),
  recordOf(1500, [1600, 1700], { outcome: "cut", error: "closed", endedAt: 1710 }),
  recordOf(1800, [], { outcome: "error", status: 503, error: "full", endedAt: 1801 }),
];

const RUN: Run = runOf(RECORDS, { durationMs: 2000 });

describe("the summary of a run", () => {
  const summary = summarize(RUN, {
    percentiles: [50, 75],
    percentileMetrics: ["ttft", "tpot", "itl"],
    goodput: { ttft: 150, tpot: 25 },
    steadyStateRatio: 1,
  });

  test("counts requests, and tokens of those that were answered whole", () => {
    expect(summary).toMatchObject({
      requests: 4,
      completed: 2,
      failed: 2,
      inputTokens: 14,
      outputTokens: 7,
      lostOutputTokens: 2,
    });
  });

  test("divides them by the duration of the whole run", () => {
    expect(summary).toMatchObject({
      requestThroughput: 1,
      inputThroughput: 7,
      outputThroughput: 3.5,
      totalThroughput: 10.5,
    });
  });

  test("has one TTFT, TPOT and E2EL a request and pools the gaps of all", () => {
    const { ttft, tpot, itl, icl, e2el } = summary.latencies;
    expect(ttft).toEqual({
      count: 2,
      mean: 150,
      median: 150,
      std: 50,
      min: 100,
      max: 200,
      percentiles: { 50: 150, 75: 175 },
    });
    // (160 − 100) / 3 and (1280 − 1200) / 2.
    expect(tpot).toMatchObject({ mean: 30, std: 10, percentiles: { 75: 35 } });
    expect(e2el).toMatchObject({ mean: 220, min: 160, max: 280 });
    // 10 20 30 40 40.
    expect(itl).toMatchObject({ count: 5, mean: 28, median: 30, percentiles: { 75: 40 } });
    expect(itl?.std).toBeCloseTo(Math.sqrt((18 ** 2 + 8 ** 2 + 2 ** 2 + 2 * 12 ** 2) / 5), 12);
    // ICL was not among those with percentiles; without a chunk of several tokens it is ITL.
    expect(icl).toEqual({ ...itl!, percentiles: {} });
    expect(summary.itlOf).toBe("tokens");
  });

  test("counts a request as good that keeps every limit", () => {
    expect(summary.goodput).toEqual({ limits: { ttft: 150, tpot: 25 }, good: 1, rate: 0.5 });
    expect(summarize(RUN).goodput).toBeUndefined();
  });

  test("finds the best second and the fullest one", () => {
    // Seconds from 0: 4 tokens of the first, then 3 + 2.
    expect(summary.series.outputTokens).toEqual([4, 5]);
    expect(summary).toMatchObject({ peakOutputTokens: 5, openInASecond: 3, peakConcurrency: 1 });
  });

  test("says where prompt tokens came from, who counted output tokens and what failed", () => {
    expect(summary.sources).toEqual({ toldBy: "usage", tokens: { computed: 11, cached: 3 } });
    expect(summary.countedBy).toEqual({ usage: 2 });
    expect(summary.failures).toEqual([
      { name: "cut off", count: 1, example: "closed" },
      { name: "HTTP 503", count: 1, example: "full" },
    ]);
  });

  test("of a run that sent nothing divides by nothing", () => {
    const empty = summarize(runOf([], { durationMs: 0 }));
    expect(empty).toMatchObject({
      requests: 0,
      requestThroughput: 0,
      outputThroughput: 0,
      peakOutputTokens: 0,
      latencies: {},
      itlOf: "chunks",
    });
    expect(empty.steady).toBeUndefined();
  });

  test("groups what is odd about answers by what stands before the colon", () => {
    const odd = ["no usage: counted by chunks", "no usage: counted by text", "late: 3 s"];
    const records = odd.map((warning, i) => recordOf(i, [i + 5], { warning }));
    expect(summarize(runOf(records, { warnings: ["the cache was not emptied"] })).warnings).toEqual(
      [
        "the cache was not emptied",
        "2 answers: no usage: counted by chunks",
        "1 answer: late: 3 s",
      ],
    );
  });

  test("says that ITL is per chunk, or both, where the server does not tell tokens", () => {
    const untold = recordOf(0, [], {
      chunks: [
        { at: 1, numTokens: 0 },
        { at: 2, numTokens: 0 },
      ],
    });
    expect(summarize(runOf([untold])).itlOf).toBe("chunks");
    expect(summarize(runOf([untold, recordOf(0, [5, 6])])).itlOf).toBe("tokens and chunks");
    // A request without a gap says nothing of it.
    expect(summarize(runOf([recordOf(0, [3]), recordOf(0, [5, 6])])).itlOf).toBe("tokens");
  });
});

describe("the flat table", () => {
  const flat = flatMetrics(summarize(RUN, { ...DEFAULT_SUMMARY, percentiles: [99, 99.9] }));

  test("has vLLM's keys", () => {
    expect(flat).toMatchObject({
      duration: 2,
      completed: 2,
      failed: 2,
      total_input_tokens: 14,
      total_output_tokens: 7,
      output_throughput: 3.5,
      total_token_throughput: 10.5,
      max_output_tokens_per_s: 5,
      max_concurrent_requests: 3,
      mean_ttft_ms: 150,
      p99_ttft_ms: 199,
      "p99.9_ttft_ms": 199.9,
      prompt_tokens_cached: 3,
    });
    expect("request_goodput" in flat).toBe(false);
  });

  test("has a name for each metric, in vLLM's notation and in ours", () => {
    expect(metricKind("p99.9_tpot_ms")).toEqual({
      key: "p99.9_tpot_ms",
      name: "tpot_p99.9",
      unit: "ms",
      better: "lower",
    });
    expect(metricKind("tpot_p99.9")?.key).toBe("p99.9_tpot_ms");
    expect(metricKind("output_throughput")).toMatchObject({ unit: "tokens/s", better: "higher" });
    for (const name of ["tpot", "p99_tpot", "tpot_p", "client_cores", "toString", ""])
      expect(metricKind(name)).toBeUndefined();
  });
});
