/** Reports for programs: JSON, JSONL and CSV. */

import { flatMetrics } from "../metrics/flat-metrics.ts";
import { requestTimes } from "../metrics/request-times.ts";
import type { Run } from "../types.ts";
import type { BenchReport, ReportOptions } from "./report.ts";
import { csvTable } from "./csv.ts";
import { type JsonObject, runResult } from "./run-result.ts";

/** One run is an object of vLLM's keys; several are `runs` of such objects, with the comparisons beside them. */
export function reportJson(report: BenchReport, options: ReportOptions = {}): string {
  const results = report.runs.map((run) => runResult(run, report.metadata, options));
  const [only, ...more] = results;
  const { version, comparisons, warnings, search, kv } = report;
  const nothingElse = comparisons.length === 0 && warnings.length === 0;
  const document =
    only !== undefined && more.length === 0 && nothingElse
      ? { ...only, kvengine_version: version }
      : { kvengine_version: version, warnings, runs: results, comparisons };
  const found = {
    ...document,
    ...(search === undefined ? {} : { slo_search: search }),
    ...(kv === undefined ? {} : { kv }),
  };
  return `${JSON.stringify(found, null, 2)}\n`;
}

/** A line a request, of all runs in order; times in milliseconds. */
export function requestsJsonl({ runs }: BenchReport): string {
  return runs
    .flatMap(({ run }, index) => run.records.map((_, i) => requestLine(run, index, i)))
    .map((line) => `${JSON.stringify(line)}\n`)
    .join("");
}

function requestLine(run: Run, runIndex: number, i: number): JsonObject {
  const record = run.records[i];
  if (record === undefined) return {};
  const times = requestTimes(record);
  return {
    run: runIndex,
    label: run.label,
    conversation: record.conversation,
    turn: record.turn,
    outcome: record.outcome,
    status: record.status,
    error: record.error ?? null,
    sent_at_ms: record.sentAt,
    ended_at_ms: record.endedAt,
    ttft_ms: times.ttft ?? null,
    tpot_ms: times.tpot ?? null,
    e2el_ms: times.e2el,
    prompt_tokens: record.promptTokens,
    output_tokens: record.outputTokens,
    counted_by: record.countedBy,
    cached_tokens: record.cachedTokens ?? null,
    cached_by_tier: record.cachedByTier ?? null,
    chunks: record.chunks.map(({ at, numTokens }) => [at, numTokens]),
    text: record.text,
  };
}

/** A row a run; columns that a run does not have are empty. */
export function runsCsv({ runs, metadata }: BenchReport): string {
  const rows = runs.map(({ run, summary }): Readonly<Record<string, string | number>> => ({
    label: run.label,
    started_at: run.startedAt,
    server: run.target.server,
    model_id: run.target.model,
    dataset_name: run.workload.name,
    seed: run.workload.seed,
    request_rate: Number.isFinite(run.load.requestRate) ? run.load.requestRate : "inf",
    max_concurrency: Number.isFinite(run.load.maxConcurrency) ? run.load.maxConcurrency : "",
    cache_state: run.cacheState,
    stopped: run.stopped ?? "",
    ...metadata,
    ...flatMetrics(summary),
  }));
  return csvTable(rows);
}

/** A row a metric of each comparison. */
export function comparisonsCsv({ comparisons }: BenchReport): string {
  return csvTable(
    comparisons.flatMap(({ a, b, design, metrics }) =>
      metrics.map((row) => ({
        a,
        b,
        design,
        metric: row.metric.name,
        unit: row.metric.unit,
        value_a: row.a,
        value_b: row.b,
        ratio: row.interval?.ratio ?? "",
        low: row.interval?.low ?? "",
        high: row.interval?.high ?? "",
        p: row.interval?.p ?? "",
        verdict: row.verdict,
      })),
    ),
  );
}
