/** The smaller parts of a summary. */

import { describe, expect, test } from "bun:test";
import { clientLoad } from "../../../cli/bench/metrics/client-limits.ts";
import { type CompatRow, compatRows } from "../../../cli/bench/metrics/compat.ts";
import { describe as distributionOf } from "../../../cli/bench/metrics/distribution.ts";
import { failureClasses } from "../../../cli/bench/metrics/failures.ts";
import { isGood } from "../../../cli/bench/metrics/goodput.ts";
import { promptSources } from "../../../cli/bench/metrics/prompt-sources.ts";
import { requestTimes } from "../../../cli/bench/metrics/request-times.ts";
import { speculation } from "../../../cli/bench/metrics/speculation.ts";
import { summarize } from "../../../cli/bench/metrics/summary.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";

describe("goodput", () => {
  test("holds at the limit and not past it; a time that a request does not have breaks none", () => {
    const times = requestTimes(recordOf(0, [100, 120]));
    expect(isGood(times, { ttft: 100, tpot: 20, e2el: 120 })).toBe(true);
    expect(isGood(times, { tpot: 19.999 })).toBe(false);
    expect(isGood(requestTimes(recordOf(0, [100])), { tpot: 0 })).toBe(true);
  });
});

describe("prompt tokens by source", () => {
  test("are those of each usage, by tier where it is told", () => {
    const run = runOf([
      recordOf(0, [1], {
        promptTokens: 100,
        cachedTokens: 60,
        cachedByTier: { device: 40, host: 16 },
      }),
      recordOf(0, [1], { promptTokens: 10, cachedByTier: { disk: 8, host: 0 } }),
      recordOf(0, [1], { promptTokens: 5 }),
      recordOf(0, [1], { promptTokens: 1000, cachedTokens: 1000, outcome: "cut" }),
    ]);
    expect(promptSources(run)).toEqual({
      toldBy: "usage",
      tokens: { computed: 47, device: 40, host: 16, cached: 4, disk: 8 },
    });
  });

  test("are read from vLLM's counters by source, summed over engines", () => {
    const name = "vllm:prompt_tokens_by_source_total";
    const counters = {
      [`${name}{engine="0",source="local_compute"}`]: 50,
      [`${name}{engine="1",source="local_compute"}`]: 25,
      [`${name}{engine="0",source="local_cache_hit"}`]: 10,
      [`${name}{engine="0",source="external_kv_transfer"}`]: 5,
      [`${name}{engine="0",source="disk"}`]: 3,
      [`${name}_created{engine="0",source="disk"}`]: 1e9,
    };
    expect(promptSources(runOf([recordOf(0, [1])], { counters }))).toEqual({
      toldBy: "metrics",
      tokens: { computed: 75, device: 10, external: 5, disk: 3 },
    });
  });

  test("are read from hits and prompts where there is no counter by source", () => {
    const counters = {
      'vllm:prompt_tokens_total{model_name="m"}': 100,
      'vllm:prefix_cache_hits_total{model_name="m"}': 30,
      'vllm:external_prefix_cache_hits_total{model_name="m"}': 20,
    };
    expect(promptSources(runOf([recordOf(0, [1])], { counters })).tokens).toEqual({
      computed: 50,
      device: 30,
      external: 20,
    });
  });

  test("are read from SGLang's counters", () => {
    const counters = {
      "sglang:prompt_tokens_total": 100,
      'sglang:cached_tokens_total{cache_source="device"}': 30,
      'sglang:cached_tokens_total{cache_source="host"}': 0,
    };
    expect(promptSources(runOf([recordOf(0, [1])], { counters })).tokens).toEqual({
      computed: 70,
      device: 30,
    });
  });

  test("are unknown where nobody tells", () => {
    const run = runOf([recordOf(0, [1])], { counters: { "llamacpp:prompt_tokens_total": 5 } });
    expect(promptSources(run)).toEqual({ toldBy: "unknown", tokens: {} });
  });
});

describe("speculation", () => {
  test("is read from the counters, by vLLM's formulas", () => {
    const perPosition = "vllm:spec_decode_num_accepted_tokens_per_pos_total";
    expect(
      speculation({
        "vllm:spec_decode_num_drafts_total": 10,
        "vllm:spec_decode_num_draft_tokens_total": 40,
        "vllm:spec_decode_num_accepted_tokens_total": 15,
        [`${perPosition}{position="10"}`]: 1,
        [`${perPosition}{position="2"}`]: 5,
      }),
    ).toEqual({
      drafts: 10,
      draftTokens: 40,
      acceptedTokens: 15,
      acceptanceRate: 37.5,
      acceptanceLength: 2.5,
      byPosition: [0.5, 0.1],
    });
    expect(speculation({ "vllm:spec_decode_num_drafts_total": 0 })).toBeUndefined();
  });
});

describe("failures", () => {
  test("are counted by class, the most frequent first, with what the first one said", () => {
    const failed = (status: number, error: string, outcome: "error" | "cut" = "error") =>
      recordOf(0, [], { status, error, outcome });
    expect(
      failureClasses([
        failed(0, "connection refused"),
        failed(429, "slow down"),
        failed(429, "slower"),
        failed(200, "no JSON"),
        failed(200, "socket closed", "cut"),
        recordOf(0, [1]),
      ]),
    ).toEqual([
      { name: "HTTP 429", count: 2, example: "slow down" },
      { name: "bad answer", count: 1, example: "no JSON" },
      { name: "cut off", count: 1, example: "socket closed" },
      { name: "no answer", count: 1, example: "connection refused" },
    ]);
  });
});

describe("the client's load", () => {
  const times = { ttft: distributionOf([100], []), tpot: distributionOf([15], []) };
  const load = (cpuSeconds: number, lagP99Ms: number) =>
    clientLoad({ durationMs: 10_000, client: { cpuSeconds, lagP99Ms, lagMaxMs: 50 } }, times);

  test("is nothing to worry about below the limits", () => {
    expect(load(8.5, 2)).toEqual({ cores: 0.85, lagP99Ms: 2, lagMaxMs: 50, warnings: [] });
  });

  test("is warned of when the client was busy, and when its timers were late by a tenth of a median", () => {
    expect(load(8.6, 0).warnings).toEqual([expect.stringContaining("0.86 of a core")]);
    expect(load(0, 2.1).warnings).toEqual([expect.stringContaining("median TPOT")]);
    expect(load(0, 11).warnings).toEqual([
      expect.stringContaining("median TTFT"),
      expect.stringContaining("median TPOT"),
    ]);
  });
});

describe("--compat", () => {
  // Chunks of two tokens; the response ends after its last chunk.
  const record = recordOf(0, [], {
    chunks: [
      { at: 100, numTokens: 2 },
      { at: 140, numTokens: 2 },
    ],
    outputTokens: 4,
    endedAt: 150,
  });
  const run = runOf([record], { durationMs: 1000 });
  const summary = summarize(run);
  const meanOf = (rows: readonly CompatRow[], word: string): number | undefined => {
    const value = rows.find((row) => row.word === word)?.value;
    return typeof value === "object" ? value.mean : value;
  };

  test("vllm has ITL by chunks", () => {
    const rows = compatRows("vllm", run, summary);
    expect(meanOf(rows, "ITL (ms)")).toBe(40);
    expect(meanOf(rows, "TPOT (ms)")).toBeCloseTo(40 / 3, 12);
    expect(meanOf(rows, "Output token throughput (tok/s)")).toBe(4);
    expect(summary.latencies.itl?.mean).toBe(20);
  });

  test("guidellm has ITL for TPOT, TPOT with the first token, latency in seconds to the end", () => {
    const rows = compatRows("guidellm", run, summary);
    expect(meanOf(rows, "ITL (ms)")).toBeCloseTo(40 / 3, 12);
    expect(meanOf(rows, "TPOT (ms)")).toBe(35);
    expect(meanOf(rows, "Request Latency (s)")).toBe(0.15);
  });

  test("aiperf has Inter Token Latency for TPOT, and throughput per user", () => {
    const rows = compatRows("aiperf", run, summary);
    expect(meanOf(rows, "Inter Token Latency (ms)")).toBeCloseTo(40 / 3, 12);
    expect(meanOf(rows, "Inter Chunk Latency (ms)")).toBe(40);
    expect(meanOf(rows, "Output Token Throughput Per User (tokens/sec/user)")).toBeCloseTo(75, 12);
  });
});
