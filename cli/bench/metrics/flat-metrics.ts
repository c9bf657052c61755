/**
 * The figures of a run as a flat table: JSON, CSV, comparisons and `--fail-if` all read it. Keys are those of vLLM's result
 * files where vLLM has them.
 */

import { LATENCIES, type Summary } from "./summary.ts";

/** Numbers by key; what was not measured has no key. */
export type FlatMetrics = Readonly<Record<string, number>>;

export function flatMetrics(summary: Summary): FlatMetrics {
  const { steady, goodput, client } = summary;
  const flat: Record<string, number> = {
    duration: summary.durationMs / 1000,
    completed: summary.completed,
    failed: summary.failed,
    total_input_tokens: summary.inputTokens,
    total_output_tokens: summary.outputTokens,
    lost_output_tokens: summary.lostOutputTokens,
    request_throughput: summary.requestThroughput,
    input_throughput: summary.inputThroughput,
    output_throughput: summary.outputThroughput,
    total_token_throughput: summary.totalThroughput,
    max_output_tokens_per_s: summary.peakOutputTokens,
    max_concurrent_requests: summary.openInASecond,
    peak_concurrency: summary.peakConcurrency,
    client_cores: client.cores,
    client_lag_p99_ms: client.lagP99Ms,
    client_lag_max_ms: client.lagMaxMs,
  };
  if (goodput !== undefined) flat["request_goodput"] = goodput.rate;
  if (steady !== undefined) {
    flat["steady_duration"] = (steady.endAt - steady.startAt) / 1000;
    flat["steady_request_throughput"] = steady.requestThroughput;
    flat["steady_input_throughput"] = steady.inputThroughput;
    flat["steady_output_throughput"] = steady.outputThroughput;
    flat["steady_mean_concurrency"] = steady.meanConcurrency;
  }
  for (const [source, tokens] of Object.entries(summary.sources.tokens))
    flat[`prompt_tokens_${source}`] = tokens;
  for (const latency of LATENCIES) {
    const distribution = summary.latencies[latency];
    if (distribution === undefined) continue;
    for (const word of ["mean", "median", "std", "min", "max"] as const)
      flat[`${word}_${latency}_ms`] = distribution[word];
    for (const [percent, value] of Object.entries(distribution.percentiles))
      flat[`p${percent}_${latency}_ms`] = value;
  }
  return flat;
}

export interface MetricKind {
  /** In vLLM's notation. */
  readonly key: string;
  /** As tables and `--fail-if` have it: `tpot_p99`. */
  readonly name: string;
  readonly unit: "ms" | "s" | "tokens/s" | "requests/s" | "requests" | "tokens" | "";
  readonly better: "lower" | "higher";
}

const STATISTIC = "mean|median|std|min|max|p\\d+(?:\\.\\d+)?";
const LATENCY = LATENCIES.join("|");
const BY_KEY = new RegExp(`^(${STATISTIC})_(${LATENCY})_ms$`);
const BY_NAME = new RegExp(`^(${LATENCY})_(${STATISTIC})$`);

/** All but latencies. */
const OTHERS = new Map<string, Pick<MetricKind, "unit" | "better">>(
  Object.entries({
    duration: { unit: "s", better: "lower" },
    completed: { unit: "requests", better: "higher" },
    failed: { unit: "requests", better: "lower" },
    lost_output_tokens: { unit: "tokens", better: "lower" },
    request_throughput: { unit: "requests/s", better: "higher" },
    request_goodput: { unit: "requests/s", better: "higher" },
    input_throughput: { unit: "tokens/s", better: "higher" },
    output_throughput: { unit: "tokens/s", better: "higher" },
    total_token_throughput: { unit: "tokens/s", better: "higher" },
    max_output_tokens_per_s: { unit: "tokens/s", better: "higher" },
    steady_request_throughput: { unit: "requests/s", better: "higher" },
    steady_input_throughput: { unit: "tokens/s", better: "higher" },
    steady_output_throughput: { unit: "tokens/s", better: "higher" },
  } satisfies Record<string, Pick<MetricKind, "unit" | "better">>),
);

/** What names look like, for messages. */
export const METRIC_EXAMPLES: readonly string[] = [
  "ttft_p99",
  "tpot_median",
  "itl_p99.9",
  "e2el_mean",
  ...OTHERS.keys(),
];

/** `tpot_p99`, `p99_tpot_ms`, `output_throughput`; undefined for what is no metric. */
export function metricKind(text: string): MetricKind | undefined {
  const byKey = BY_KEY.exec(text);
  const byName = BY_NAME.exec(text);
  const statistic = byKey?.[1] ?? byName?.[2];
  const latency = byKey?.[2] ?? byName?.[1];
  if (statistic !== undefined && latency !== undefined) {
    return {
      key: `${statistic}_${latency}_ms`,
      name: `${latency}_${statistic}`,
      unit: "ms",
      better: "lower",
    };
  }
  const other = OTHERS.get(text);
  return other === undefined ? undefined : { key: text, name: text, ...other };
}
