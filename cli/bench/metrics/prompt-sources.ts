/**
 * Where the KV of the prompts came from, in tokens: computed, or found in a tier (`device`, `host`, `disk` …). Told by the usage of
 * each request, else by how the server's counters moved over the run.
 */

import type { RequestRecord, Run } from "../types.ts";
import { counterByLabel, counterTotal } from "./counters.ts";

export interface PromptSources {
  /** `unknown`: no usage and no counter says what was cached. */
  readonly toldBy: "usage" | "metrics" | "unknown";
  /** Tokens by source; empty where nobody told. `cached` is a hit whose tier was not told. */
  readonly tokens: Readonly<Record<string, number>>;
}

/** The prompt tokens of one request by source. All count as computed where its usage says nothing. */
export function sourcesOf(record: RequestRecord): Readonly<Record<string, number>> {
  const tiers = Object.entries(record.cachedByTier ?? {}).filter(([, tokens]) => tokens > 0);
  const inTiers = tiers.reduce((total, [, tokens]) => total + tokens, 0);
  const cached = Math.max(record.cachedTokens ?? 0, inTiers);
  const sources: Record<string, number> = { computed: Math.max(0, record.promptTokens - cached) };
  for (const [tier, tokens] of tiers) sources[tier] = tokens;
  if (cached > inTiers) sources["cached"] = cached - inTiers;
  return sources;
}

/** Failed requests are left out, as from every other metric. */
export function promptSources(run: Run): PromptSources {
  const ended = run.records.filter(({ outcome }) => outcome === "ok");
  const told = ended.some(
    ({ cachedTokens, cachedByTier }) => cachedTokens !== undefined || cachedByTier !== undefined,
  );
  if (told) {
    const tokens: Record<string, number> = {};
    for (const record of ended)
      for (const [source, count] of Object.entries(sourcesOf(record)))
        tokens[source] = (tokens[source] ?? 0) + count;
    return { toldBy: "usage", tokens };
  }
  const tokens = fromCounters(run.counters);
  return tokens === undefined ? { toldBy: "unknown", tokens: {} } : { toldBy: "metrics", tokens };
}

/** vLLM's words for the sources of `vllm:prompt_tokens_by_source_total`. */
const VLLM_SOURCES: Readonly<Record<string, string>> = {
  local_compute: "computed",
  local_cache_hit: "device",
  external_kv_transfer: "external",
};

/** Reads the counters of vLLM (and of those with its names, kvengine among them) and of SGLang. */
function fromCounters(counters: Run["counters"]): Record<string, number> | undefined {
  const bySource = counterByLabel(counters, "vllm:prompt_tokens_by_source_total", "source");
  if (bySource !== undefined) {
    const named = Object.entries(bySource).map(([source, n]) => [
      VLLM_SOURCES[source] ?? source,
      n,
    ]);
    return withoutZeros(Object.fromEntries(named) as Record<string, number>);
  }
  const hits = counterTotal(counters, "vllm:prefix_cache_hits_total");
  const prompts = counterTotal(counters, "vllm:prompt_tokens_total");
  if (hits !== undefined && prompts !== undefined) {
    const external = counterTotal(counters, "vllm:external_prefix_cache_hits_total") ?? 0;
    const computed = Math.max(0, prompts - hits - external);
    return withoutZeros({ computed, device: hits, external });
  }
  const bySglang = counterByLabel(counters, "sglang:cached_tokens_total", "cache_source");
  const sglangPrompts = counterTotal(counters, "sglang:prompt_tokens_total");
  if (bySglang !== undefined && sglangPrompts !== undefined) {
    const cached = Object.values(bySglang).reduce((sum, tokens) => sum + tokens, 0);
    return withoutZeros({ computed: Math.max(0, sglangPrompts - cached), ...bySglang });
  }
  return undefined;
}

function withoutZeros(tokens: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(tokens).filter(([, count]) => count > 0));
}
