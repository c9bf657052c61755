/**
 * A run as JSON: the keys of vLLM's result files, with their units (seconds in lists), and ours beside them. What was not measured
 * is null. `mean_itl_ms` and its like are per token where the server tells; vLLM's own, per chunk, are those of `icl`.
 */

import { flatMetrics } from "../metrics/flat-metrics.ts";
import { requestTimes } from "../metrics/request-times.ts";
import { speculation } from "../metrics/speculation.ts";
import { LATENCIES } from "../metrics/summary.ts";
import type { RequestRecord } from "../types.ts";
import type { BenchReport, ReportOptions, RunReport } from "./report.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

export function runResult(
  { run, summary }: RunReport,
  metadata: BenchReport["metadata"] = {},
  { detailed = false }: ReportOptions = {},
): JsonObject {
  const { load, target, workload } = run;
  return {
    date: compactDate(run.startedAt),
    backend: target.server,
    endpoint_type: target.server,
    label: run.label,
    model_id: target.model,
    tokenizer_id: target.model,
    num_prompts: summary.requests,
    ...metadata,
    request_rate: finiteOr(load.requestRate, "inf"),
    burstiness: load.burstiness,
    max_concurrency: finiteOr(load.maxConcurrency, null),
    ...ramp(load.ramp, load.requestRate),
    ...unmeasured(summary),
    request_goodput: null,
    ...flatMetrics(summary),
    rtfx: 0,
    ...speculationKeys(run.counters),
    // From here on ours.
    metadata,
    started_at: run.startedAt,
    base_url: target.baseUrl,
    command: target.command ?? null,
    cache_state: run.cacheState,
    dataset_name: workload.name,
    seed: workload.seed,
    dataset: workload.parameters,
    max_duration: finiteOr(load.durationMs / 1000, null),
    stopped: run.stopped ?? null,
    goodput: summary.goodput?.limits ?? null,
    itl_of: summary.itlOf,
    counted_by: summary.countedBy,
    prompt_tokens_told_by: summary.sources.toldBy,
    failures: summary.failures,
    warnings: [...summary.warnings, ...summary.client.warnings],
    counters: run.counters,
    ...(detailed ? detailsOf(run.records) : {}),
  };
}

/** `20260131-235900`, as vLLM writes dates; in UTC. */
function compactDate(iso: string): string {
  return iso.slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
}

/** JSON has no infinity. */
function finiteOr<T>(value: number, otherwise: T): number | T {
  return Number.isFinite(value) ? value : otherwise;
}

/** vLLM's keys for a ramp of rates; one of concurrency has our own names. */
function ramp(
  plan: { shape: string; from: number; to: number } | undefined,
  rate: number,
): JsonObject {
  if (plan === undefined) return {};
  const unit = Number.isFinite(rate) ? "rps" : "concurrency";
  return {
    ramp_up_strategy: plan.shape,
    [`ramp_up_start_${unit}`]: plan.from,
    [`ramp_up_end_${unit}`]: plan.to,
  };
}

/** A reader of vLLM's files finds each key, also where no request has the time. */
function unmeasured({ percentiles }: RunReport["summary"]): JsonObject {
  const words = ["mean", "median", "std", ...percentiles.map((percent) => `p${percent}`)];
  const keys = LATENCIES.flatMap((latency) => words.map((word) => `${word}_${latency}_ms`));
  return Object.fromEntries(keys.map((key) => [key, null]));
}

function speculationKeys(counters: RunReport["run"]["counters"]): JsonObject {
  const found = speculation(counters);
  if (found === undefined) return {};
  return {
    spec_decode_acceptance_rate: found.acceptanceRate,
    spec_decode_acceptance_length: found.acceptanceLength,
    spec_decode_num_drafts: found.drafts,
    spec_decode_draft_tokens: found.draftTokens,
    spec_decode_accepted_tokens: found.acceptedTokens,
    spec_decode_per_position_acceptance_rates: found.byPosition,
  };
}

/** One entry a request in each list, failed ones among them, as vLLM has it: seconds, gaps between chunks. */
function detailsOf(records: readonly RequestRecord[]): JsonObject {
  const times = records.map(requestTimes);
  return {
    input_lens: records.map(({ promptTokens }) => promptTokens),
    output_lens: records.map(({ outcome, outputTokens }) => (outcome === "ok" ? outputTokens : 0)),
    start_times: records.map(({ sentAt }) => sentAt / 1000),
    ttfts: times.map(({ ttft }) => (ttft ?? 0) / 1000),
    itls: times.map(({ chunkGaps }) => chunkGaps.map((gap) => gap / 1000)),
    generated_texts: records.map(({ text }) => text),
    errors: records.map(({ error }) => error ?? ""),
  };
}
