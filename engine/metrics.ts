/**
 * What `/metrics` shows. Names and buckets are vLLM's, so that its dashboards and routers read them as they are; latency
 * histograms have more buckets below vLLM's first ones. Gauges are read when they are asked for.
 */

import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { addCacheMetrics, type StatsSource } from "./cache-metrics.ts";
import { ConnectorMetrics } from "./connector-metrics.ts";
import type { EngineInfo, EngineStats, Timing, Usage } from "./request.ts";
import { TokenHistogram } from "./token-histogram.ts";

export interface SequenceEnd {
  readonly reason: "stop" | "length";
  /** From arrival. */
  readonly seconds: number;
  /** From the first token to the last. */
  readonly decodeSeconds: number;
  /** Inside the engine. */
  readonly timing: Timing;
  readonly usage: Usage;
  readonly maxTokens: number;
}

export interface Metrics {
  /** A sequence's first token came this long after its arrival. */
  firstToken(seconds: number): void;
  /** `tokens` came this long after the ones before. */
  nextTokens(seconds: number, tokens: number): void;
  /** A sequence came to its end. */
  finished(end: SequenceEnd): void;
  /** A sequence was given up. */
  unfinished(reason: "abort" | "error"): void;
  /** A body asked for this many choices. */
  requested(choices: number): void;
  /** So many sessions are known by the requests that have named them. */
  namedSessions(count: number): void;
  /** The exposition format's text, and its content type. */
  text(): Promise<string>;
  readonly contentType: string;
}

const TIME_TO_FIRST_TOKEN = [
  0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5,
  5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const BETWEEN_TOKENS = [
  0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
  0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
/** Of the whole time and of its parts. */
const WHOLE_REQUEST = [
  0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10,
  15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];

const STEP_TOKENS = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384];

/** 1, 2, 5, 10, 20, 50 … up to `max`. */
export function tokenBuckets(max: number): number[] {
  const buckets: number[] = [];
  for (let decade = 1; ; decade *= 10) {
    for (const step of [1, 2, 5]) {
      if (step * decade > max) return buckets;
      buckets.push(step * decade);
    }
  }
}

/** What has become of the spans of traces. */
export interface TraceSource {
  readonly counts: { readonly sent: number; readonly lost: number };
}

/** Each call makes a registry of its own. `traces`: where there are any. */
export function createMetrics(
  source: StatsSource,
  modelName: string,
  traces?: TraceSource,
): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ model_name: modelName, engine: "0" });
  const registers = [registry];
  addEngineMetrics(source, registers);
  addRecordingMetrics(source, registers);
  if (traces !== undefined) addTraceMetrics(traces, registers);

  const success = new Counter({
    name: "vllm:request_success_total",
    help: "Sequences that ended, by reason",
    labelNames: ["finished_reason"],
    registers,
  });
  // A series that appears with its first event hides that event from rate().
  for (const reason of ["stop", "length", "abort", "error"])
    success.inc({ finished_reason: reason }, 0);

  const histogram = (name: string, help: string, buckets: number[]): Histogram =>
    new Histogram({ name, help, buckets, registers });
  const firstToken = histogram(
    "vllm:time_to_first_token_seconds",
    "From arrival to the first token",
    TIME_TO_FIRST_TOKEN,
  );
  const betweenTokens = new TokenHistogram({
    name: "vllm:inter_token_latency_seconds",
    help: "From one token to the next",
    buckets: BETWEEN_TOKENS,
    registers,
  });
  const perToken = histogram(
    "vllm:request_time_per_output_token_seconds",
    "A sequence's mean time from one token to the next",
    BETWEEN_TOKENS,
  );
  const whole = histogram(
    "vllm:e2e_request_latency_seconds",
    "From arrival to the end",
    WHOLE_REQUEST,
  );
  const queued = histogram(
    "vllm:request_queue_time_seconds",
    "From arrival at the engine to the first step",
    WHOLE_REQUEST,
  );
  const prefill = histogram(
    "vllm:request_prefill_time_seconds",
    "From the first step to the first token",
    WHOLE_REQUEST,
  );
  const decode = histogram(
    "vllm:request_decode_time_seconds",
    "From the first token to the last",
    WHOLE_REQUEST,
  );
  const inference = histogram(
    "vllm:request_inference_time_seconds",
    "From the first step to the last token",
    WHOLE_REQUEST,
  );
  const stepTokens = histogram(
    "vllm:iteration_tokens_total",
    "Tokens computed in a step",
    STEP_TOKENS,
  );
  const connectors = new ConnectorMetrics(registry);
  connectors.apply(source.stats().connectors ?? []);
  source.onStats((stats) => {
    connectors.apply(stats.connectors ?? []);
    for (const tokens of stats.stepTokens) stepTokens.observe(tokens);
  });
  const lengths = tokenBuckets(source.info.maxModelLen);
  const prompt = histogram("vllm:request_prompt_tokens", "Prompt tokens of a sequence", lengths);
  const generation = histogram(
    "vllm:request_generation_tokens",
    "Generated tokens of a sequence",
    lengths,
  );
  const maxTokens = histogram(
    "vllm:request_params_max_tokens",
    "max_tokens of a sequence",
    lengths,
  );
  const choices = histogram("vllm:request_params_n", "Choices of a request", [1, 2, 5, 10, 20]);

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    namedSessions: (value) =>
      connectors.apply([
        { name: "kvengine:sessions", type: "gauge", labels: { state: "named" }, value },
      ]),
    requested: (n) => choices.observe(n),
    firstToken: (seconds) => firstToken.observe(seconds),
    nextTokens: (seconds, tokens) => betweenTokens.add(seconds / tokens, tokens),
    unfinished: (reason) => success.inc({ finished_reason: reason }),
    finished({ reason, seconds, decodeSeconds, timing, usage, maxTokens: limit }) {
      success.inc({ finished_reason: reason });
      whole.observe(seconds);
      queued.observe(timing.queued / 1000);
      prefill.observe(timing.prefill / 1000);
      decode.observe(timing.decode / 1000);
      inference.observe((timing.prefill + timing.decode) / 1000);
      maxTokens.observe(limit);
      prompt.observe(usage.promptTokens);
      generation.observe(usage.completionTokens);
      if (usage.completionTokens > 1)
        perToken.observe(decodeSeconds / (usage.completionTokens - 1));
    },
  };
}

function addEngineMetrics(source: StatsSource, registers: Registry[]): void {
  const gauge = (name: string, help: string, read: (stats: EngineStats) => number): Gauge =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read(source.stats()));
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
  gauge("vllm:num_requests_running", "Sequences that are computed", (stats) => stats.running);
  gauge(
    "vllm:num_requests_waiting",
    "Sequences that wait to be computed",
    (stats) => stats.waiting,
  );
  gauge("vllm:kv_cache_usage_perc", "KV blocks in use, 1 = all", (stats) =>
    stats.totalBlocks === 0 ? 0 : stats.usedBlocks / stats.totalBlocks,
  );
  counter(
    "vllm:num_preemptions_total",
    "Preemptions of running sequences",
    (stats) => stats.preemptions,
  );
  counter(
    "vllm:prompt_tokens_total",
    "Prompt tokens, those found in the prefix cache among them",
    (stats) => stats.promptTokens,
  );
  counter("vllm:generation_tokens_total", "Tokens generated", (stats) => stats.generationTokens);
  counter(
    "vllm:spec_decode_num_drafts_total",
    "Times that tokens were guessed",
    (stats) => stats.drafts,
  );
  counter(
    "vllm:spec_decode_num_draft_tokens_total",
    "Tokens guessed",
    (stats) => stats.draftTokens,
  );
  counter(
    "vllm:spec_decode_num_accepted_tokens_total",
    "Guessed tokens that were right",
    (stats) => stats.acceptedTokens,
  );
  counter("kvengine:engine_steps_total", "Steps of the engine", (stats) => stats.steps);

  addCacheMetrics(source, registers);
  addCacheConfig(source.info, registers);
  gauge("process_resident_memory_bytes", "Resident memory size in bytes.", () =>
    process.memoryUsage.rss(),
  );
}

function addRecordingMetrics(source: StatsSource, registers: Registry[]): void {
  const counts = source.recording?.bind(source);
  if (counts === undefined) return;
  const counter = counterIn(registers);
  counter(
    "kvengine:recorded_requests_total",
    "Requests written to the recorded trace",
    () => counts().written,
  );
  counter(
    "kvengine:unrecorded_requests_total",
    "Requests missing in the recorded trace",
    () => counts().lost,
  );
}

function addTraceMetrics(traces: TraceSource, registers: Registry[]): void {
  const counter = counterIn(registers);
  counter(
    "kvengine:trace_spans_sent_total",
    "Spans that a collector took",
    () => traces.counts.sent,
  );
  counter("kvengine:trace_spans_lost_total", "Spans that none took", () => traces.counts.lost);
}

/** Makes counters that are read when they are asked for. */
function counterIn(
  registers: Registry[],
): (name: string, help: string, read: () => number) => Counter {
  return (name, help, read) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
}

/** A series whose labels are the settings, as text in vLLM's (Python's) notation. */
function addCacheConfig(info: EngineInfo, registers: Registry[]): void {
  const labels = {
    block_size: String(info.blockSize),
    num_gpu_blocks: String(info.numBlocks),
    enable_prefix_caching: info.enablePrefixCaching ? "True" : "False",
    prefix_caching_hash_algo: "sha256_cbor",
    cache_dtype: "auto",
  };
  new Gauge({
    name: "vllm:cache_config_info",
    help: "How the KV cache is set up",
    labelNames: Object.keys(labels),
    registers,
  }).set(labels, 1);
}
