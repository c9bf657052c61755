import { describe, expect, test } from "bun:test";
import { epochMs } from "../../../engine/epoch.ts";
import { tokenBuckets } from "../../../engine/metrics.ts";
import { NO_STATS, say } from "../../support/fake-engine-client.ts";
import { testApp, type TestApp } from "./test-app.ts";

async function scrape({ app }: TestApp): Promise<Map<string, number>> {
  const text = await (await app.request("/metrics")).text();
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [
      line.slice(0, line.lastIndexOf(" ")),
      Number(line.slice(line.lastIndexOf(" ") + 1)),
    ]),
  );
}

const LABELS = '{model_name="tiny",engine="0"}';

describe("/metrics", () => {
  test("reads gauges and token counters when it is asked", async () => {
    const test = testApp();
    test.client.currentStats = {
      ...NO_STATS,
      running: 3,
      waiting: 2,
      usedBlocks: 16,
      totalBlocks: 64,
      preemptions: 1,
      promptTokens: 100,
      generationTokens: 50,
      steps: 7,
      prefixQueries: 90,
      prefixHits: 48,
      drafts: 4,
      draftTokens: 20,
      acceptedTokens: 11,
    };
    for (let i = 0; i < 2; i++) {
      const values = await scrape(test);
      expect(values.get(`vllm:num_requests_running${LABELS}`)).toBe(3);
      expect(values.get(`vllm:num_requests_waiting${LABELS}`)).toBe(2);
      expect(values.get(`vllm:kv_cache_usage_perc${LABELS}`)).toBe(0.25);
      expect(values.get(`vllm:prompt_tokens_total${LABELS}`)).toBe(100);
      expect(values.get(`vllm:generation_tokens_total${LABELS}`)).toBe(50);
      expect(values.get(`vllm:num_preemptions_total${LABELS}`)).toBe(1);
      expect(values.get(`vllm:prefix_cache_queries_total${LABELS}`)).toBe(90);
      expect(values.get(`vllm:prefix_cache_hits_total${LABELS}`)).toBe(48);
      expect(values.get(`vllm:spec_decode_num_drafts_total${LABELS}`)).toBe(4);
      expect(values.get(`vllm:spec_decode_num_draft_tokens_total${LABELS}`)).toBe(20);
      expect(values.get(`vllm:spec_decode_num_accepted_tokens_total${LABELS}`)).toBe(11);
    }
    const info =
      'vllm:cache_config_info{block_size="16",num_gpu_blocks="64",enable_prefix_caching="True",' +
      'prefix_caching_hash_algo="sha256_cbor",cache_dtype="auto",model_name="tiny",engine="0"}';
    expect((await scrape(test)).get(info)).toBe(1);
  });

  test("tells prompt tokens by source and by tier, external hits, and the host pool", async () => {
    const test = testApp();
    test.client.currentStats = {
      ...NO_STATS,
      promptTokens: 100,
      prefixHits: 16,
      loadedPromptTokens: { host: 32, disk: 12 },
      externalQueries: 84,
      externalHits: 44,
      savedMs: 1500,
      hostPool: { numPages: 8, numReady: 6, numUsed: 2, pageBytes: 64, isGrowing: true },
    };
    for (let i = 0; i < 2; i++) {
      const values = await scrape(test);
      const of = (name: string, label: string, value: string): number | undefined =>
        values.get(`${name}{${label}="${value}",model_name="tiny",engine="0"}`);
      const sources = ["local_compute", "local_cache_hit", "external_kv_transfer"];
      const name = "vllm:prompt_tokens_by_source_total";
      expect(sources.map((source) => of(name, "source", source))).toEqual([40, 16, 44]);
      const tiers = ["host", "disk"].map((tier) =>
        of("kvengine:prompt_tokens_loaded_total", "tier", tier),
      );
      expect(tiers).toEqual([32, 12]);
      expect(values.get(`vllm:prompt_tokens_cached_total${LABELS}`)).toBe(60);
      expect(values.get(`vllm:external_prefix_cache_queries_total${LABELS}`)).toBe(84);
      expect(values.get(`vllm:external_prefix_cache_hits_total${LABELS}`)).toBe(44);
      expect(values.get(`kvengine:prompt_seconds_saved_total${LABELS}`)).toBe(1.5);
      expect(values.get(`kvengine:host_pages${LABELS}`)).toBe(8);
      expect(values.get(`kvengine:host_pages_ready${LABELS}`)).toBe(6);
      expect(values.get(`kvengine:host_pages_used${LABELS}`)).toBe(2);
      expect(values.get(`vllm:kv_offload_cpu_cache_usage_perc${LABELS}`)).toBe(0.25);
    }
  });

  test("counts the tokens of every step of every message", async () => {
    const test = testApp();
    test.client.report({ stepTokens: [1, 300] });
    test.client.report({ stepTokens: [] });
    test.client.report({ stepTokens: [20_000] });
    const values = await scrape(test);
    const name = "vllm:iteration_tokens_total";
    expect(values.get(`${name}_count${LABELS}`)).toBe(3);
    expect(values.get(`${name}_sum${LABELS}`)).toBe(20_301);
    const upTo = (bound: string): number | undefined =>
      values.get(`${name}_bucket{le="${bound}",model_name="tiny",engine="0"}`);
    expect([upTo("1"), upTo("256"), upTo("512"), upTo("16384"), upTo("+Inf")]).toEqual([
      1, 1, 2, 2, 3,
    ]);
  });

  test("observes where a sequence's time went", async () => {
    const test = testApp();
    const timing = { queued: 250, prefill: 1500, decode: 2000 };
    test.client.script = say("Hi", { timing });
    await test.chat({});
    const values = await scrape(test);
    const sum = (part: string): number | undefined =>
      values.get(`vllm:request_${part}_time_seconds_sum${LABELS}`);
    expect(["queue", "prefill", "decode", "inference"].map(sum)).toEqual([0.25, 1.5, 2, 3.5]);
  });

  test("latency is the engine's: a client that reads late changes none of it", async () => {
    const test = testApp();
    test.client.script = undefined;
    const answer = test.chat({ stream: true, max_tokens: 4 });
    const [sequence] = await test.client.arrived(1);
    const start = epochMs();
    const events = say("Late")(sequence!.request);
    // They all come at once, as they do when the HTTP thread was busy.
    for (const [i, event] of events.entries()) sequence!.sendAt(start + 3000 + 20 * i, event);
    const values = await scrape(test);
    const value = (name: string): number => values.get(`vllm:${name}${LABELS}`) ?? Number.NaN;
    expect(value("inter_token_latency_seconds_count")).toBe(3);
    expect(value("inter_token_latency_seconds_sum")).toBeCloseTo(0.06, 6);
    const upTo = (bound: string): number | undefined =>
      values.get(
        `vllm:inter_token_latency_seconds_bucket{le="${bound}",model_name="tiny",engine="0"}`,
      );
    expect([upTo("0.01"), upTo("0.025")]).toEqual([0, 3]);
    expect(value("time_to_first_token_seconds_sum")).toBeGreaterThan(2.9);
    expect(value("e2e_request_latency_seconds_sum")).toBeGreaterThan(2.95);
    expect(value("request_time_per_output_token_seconds_sum")).toBeCloseTo(0.02, 6);
    // It ended well, whether its client hears of it or not.
    await (await answer).body?.cancel();
    const ended = (reason: string): string =>
      `vllm:request_success_total{finished_reason="${reason}",model_name="tiny",engine="0"}`;
    const after = await scrape(test);
    expect([after.get(ended("length")), after.get(ended("abort"))]).toEqual([1, 0]);
  });

  test("is in Prometheus' text format", async () => {
    const { headers } = await testApp().app.request("/metrics");
    expect(headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
  });

  test("counts requests by how they ended, and observes them", async () => {
    const test = testApp();
    await test.chat({});
    await test.chat({ max_tokens: 2, n: 2 });
    test.client.script = undefined;
    const reader = (await test.chat({ stream: true })).body?.getReader();
    await reader?.read();
    await reader?.cancel();
    test.client.script = () => {
      throw new Error("broken");
    };
    await test.chat({});
    const values = await scrape(test);
    const ended = (reason: string): number | undefined =>
      values.get(
        `vllm:request_success_total{finished_reason="${reason}",model_name="tiny",engine="0"}`,
      );
    expect([ended("stop"), ended("length"), ended("abort"), ended("error")]).toEqual([1, 2, 1, 0]);
    expect(values.get(`vllm:time_to_first_token_seconds_count${LABELS}`)).toBe(3);
    expect(values.get(`vllm:inter_token_latency_seconds_count${LABELS}`)).toBe(4 + 1 + 1);
    expect(values.get(`vllm:e2e_request_latency_seconds_count${LABELS}`)).toBe(3);
    expect(values.get(`vllm:request_prompt_tokens_sum${LABELS}`)).toBe(3 * 19);
    expect(values.get(`vllm:request_generation_tokens_sum${LABELS}`)).toBe(6 + 2 + 2);
    expect(values.get(`vllm:request_params_n_sum${LABELS}`)).toBe(1 + 2 + 1 + 1);
  });

  test("keeps all of vLLM's buckets and adds finer ones", async () => {
    const values = [...(await scrape(testApp())).keys()];
    const buckets = (name: string): number[] =>
      values
        .filter((key) => key.startsWith(`${name}_bucket{le="`))
        .map((key) => Number(/le="([^"]+)"/.exec(key)?.[1]?.replace("+Inf", "Infinity")));
    const latency = buckets("vllm:inter_token_latency_seconds");
    expect(latency).toEqual(
      expect.arrayContaining([
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
        80,
      ]),
    );
    expect(latency[0]).toBeLessThan(0.001);
    expect(latency).toEqual(latency.toSorted((a, b) => a - b));
    for (const part of [
      "e2e_request_latency",
      "request_queue_time",
      "request_prefill_time",
      "request_decode_time",
      "request_inference_time",
    ]) {
      const found = buckets(`vllm:${part}_seconds`);
      expect(found).toEqual(
        expect.arrayContaining([
          0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920,
          7680,
        ]),
      );
      expect(found[0]).toBeLessThan(0.01);
    }
    expect(buckets("vllm:time_to_first_token_seconds")).toEqual(
      expect.arrayContaining([
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
        40, 80, 160, 640, 2560,
      ]),
    );
  });

  test("two apps in one process have a registry each", async () => {
    const [one, two] = [testApp(), testApp()];
    await one.chat({});
    expect((await scrape(two)).get(`vllm:time_to_first_token_seconds_count${LABELS}`)).toBe(0);
  });

  test("token buckets go by 1, 2, 5 up to the model's length", () => {
    expect(tokenBuckets(8192)).toEqual([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]);
    expect(tokenBuckets(1)).toEqual([1]);
  });
});
