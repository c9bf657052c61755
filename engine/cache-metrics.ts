/** What `/metrics` shows of the prefix cache and of KV that connectors bring. vLLM's names where it has one. */

import { Counter, Gauge, type Registry } from "prom-client";
import type { EngineInfo, EngineStats, HostPoolState } from "./request.ts";

/** Where numbers of the moment come from. */
export interface StatsSource {
  readonly info: EngineInfo;
  stats(): EngineStats;
  /** Calls back with the numbers of each message from the engine. */
  onStats(callback: (stats: EngineStats) => void): void;
  /** Requests in the recorded trace, and missing in it, where one is recorded. */
  recording?(): { readonly written: number; readonly lost: number };
}

export function addCacheMetrics(source: StatsSource, registers: Registry[]): void {
  /** Of values by one label. */
  const counters = (
    name: string,
    help: string,
    label: string,
    read: (stats: EngineStats) => Readonly<Record<string, number>>,
  ): Counter =>
    new Counter({
      name,
      help,
      labelNames: [label],
      registers,
      collect() {
        this.reset();
        for (const [value, count] of Object.entries(read(source.stats())))
          this.inc({ [label]: value }, count);
      },
    });
  const counter = (name: string, help: string, read: (stats: EngineStats) => number): Counter =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read(source.stats()));
      },
    });
  const hostGauge = (name: string, help: string, read: (pool: HostPoolState) => number): Gauge =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const { hostPool } = source.stats();
        this.set(hostPool === undefined ? 0 : read(hostPool));
      },
    });

  counter(
    "vllm:prefix_cache_queries_total",
    "Tokens that were looked up in the prefix cache",
    (stats) => stats.prefixQueries,
  );
  counter(
    "vllm:prefix_cache_hits_total",
    "Tokens that were found in the prefix cache",
    (stats) => stats.prefixHits,
  );
  counter(
    "kvengine:evicted_blocks_total",
    "Blocks with cached content that were given to others",
    (stats) => stats.evictedBlocks,
  );
  counter(
    "vllm:external_prefix_cache_queries_total",
    "Tokens that KV connectors were asked for: the prefix cache did not have them",
    (stats) => stats.externalQueries,
  );
  counter(
    "vllm:external_prefix_cache_hits_total",
    "Tokens that KV connectors brought",
    (stats) => stats.externalHits,
  );
  counter(
    "vllm:prompt_tokens_cached_total",
    "Prompt tokens that were not computed",
    (stats) => stats.prefixHits + loadedOf(stats),
  );
  counters(
    "vllm:prompt_tokens_by_source_total",
    "Prompt tokens, by where their KV came from",
    "source",
    (stats) => ({
      local_compute: computedOf(stats),
      local_cache_hit: stats.prefixHits,
      external_kv_transfer: loadedOf(stats),
    }),
  );
  counters(
    "kvengine:prompt_tokens_loaded_total",
    "Prompt tokens that KV connectors brought, by tier",
    "tier",
    (stats) => stats.loadedPromptTokens,
  );
  counter(
    "kvengine:prompt_seconds_saved_total",
    "Estimate of what computing the cached prompt tokens would have taken longer",
    (stats) => stats.savedMs / 1000,
  );
  hostGauge("kvengine:host_pages", "KV pages of the host pool", ({ numPages }) => numPages);
  hostGauge(
    "kvengine:host_pages_ready",
    "KV pages of the host pool that can be used by now",
    ({ numReady }) => numReady,
  );
  hostGauge(
    "kvengine:host_pages_used",
    "KV pages of the host pool that KV connectors have",
    ({ numUsed }) => numUsed,
  );
  hostGauge(
    "vllm:kv_offload_cpu_cache_usage_perc",
    "KV pages of the host pool in use, 1 = all",
    ({ numPages, numUsed }) => (numPages === 0 ? 0 : numUsed / numPages),
  );
}

function loadedOf({ loadedPromptTokens }: EngineStats): number {
  return Object.values(loadedPromptTokens).reduce((sum, tokens) => sum + tokens, 0);
}

function computedOf(stats: EngineStats): number {
  return stats.promptTokens - stats.prefixHits - loadedOf(stats);
}
