/**
 * Traces of requests as OpenTelemetry spans, sent to a collector over OTLP by HTTP. The SDK comes with this file, which is imported only where
 * traces are wanted. Names of the span and its attributes are vLLM's (`vllm/tracing`, `do_tracing` of its output processor).
 */

import {
  type Attributes,
  type HrTime,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
} from "@opentelemetry/api";
import {
  type ExportResult,
  ExportResultCode,
  W3CTraceContextPropagator,
} from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { RequestTrace, TraceCounts, Tracing } from "./request-trace.ts";

/** Spans that may wait to be sent or be on their way; further ones are lost. */
const MAX_PENDING = 2048;
/** Spans of one message. */
const MAX_BATCH = 512;
/** Milliseconds that a span waits for others. */
const BATCH_DELAY = 2000;

export interface OtlpOptions {
  /** The whole address, path included. Headers for it come from the variable OTEL_EXPORTER_OTLP_HEADERS. */
  readonly endpoint: string;
  /** The program's. */
  readonly version: string;
  /** Milliseconds in which a message is sent, attempts after the first included. */
  readonly timeoutMs: number;
  /** Told in one line when spans begin to be lost, and when they arrive again. */
  readonly onTrouble: (line: string) => void;
}

export class OtlpTracing implements Tracing {
  readonly #exporter: CountingExporter;
  readonly #provider: TracerProvider;
  readonly #tracer: ReturnType<TracerProvider["getTracer"]>;
  readonly #propagator = new W3CTraceContextPropagator();
  #begun = 0;
  #dropped = 0;

  constructor(options: OtlpOptions) {
    const { endpoint, version, timeoutMs } = options;
    this.#exporter = new CountingExporter(
      new OTLPTraceExporter({ url: endpoint, timeoutMillis: timeoutMs }),
      options,
    );
    const processor = new BatchSpanProcessor({
      exporter: this.#exporter,
      maxQueueSize: MAX_PENDING,
      maxExportBatchSize: MAX_BATCH,
      scheduledDelayMillis: BATCH_DELAY,
    });
    const resource = defaultResource()
      .merge(resourceFromAttributes({ "service.name": "kvengine", "service.version": version }))
      .merge(detectResources({ detectors: [envDetector] }));
    this.#provider = new TracerProvider({ resource, spanProcessors: [processor] });
    this.#tracer = this.#provider.getTracer("kvengine", version);
  }

  get counts(): TraceCounts {
    const { sent, failed } = this.#exporter;
    return { sent, lost: failed + this.#dropped };
  }

  get #numPending(): number {
    return this.#begun - this.#exporter.sent - this.#exporter.failed;
  }

  trace(request: RequestTrace): void {
    if (this.#numPending >= MAX_PENDING) {
      this.#dropped++;
      return;
    }
    const { traceparent, tracestate, outcome } = request;
    const parent = this.#propagator.extract(ROOT_CONTEXT, { traceparent, tracestate }, HEADERS);
    const options = {
      kind: SpanKind.SERVER,
      startTime: hrTime(request.arrivedAt),
      attributes: attributesOf(request),
    };
    const span = this.#tracer.startSpan("llm_request", options, parent);
    // Whoever asked wants no trace of it.
    if (!span.isRecording()) return;
    this.#begun++;
    if (outcome === "error") span.setStatus({ code: SpanStatusCode.ERROR });
    span.end(hrTime(request.endedAt));
  }

  /** Sends what there is, for at most `ms` milliseconds; what has not arrived by then is lost. Nothing may be traced after it. */
  async close(ms: number): Promise<void> {
    const { promise: passed, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    // A message that was not taken has been counted and told of.
    const sent = this.#provider.shutdown().catch(() => {});
    await Promise.race([sent, passed]);
    clearTimeout(timer);
    this.#dropped += this.#numPending;
    this.#begun = this.#exporter.sent + this.#exporter.failed;
  }
}

const HEADERS = {
  keys: (headers: Readonly<Record<string, string | undefined>>): string[] => Object.keys(headers),
  get: (headers: Readonly<Record<string, string | undefined>>, name: string): string | undefined =>
    headers[name],
};

/** Times in seconds, as vLLM has them; those that are not known are left out. */
function attributesOf(request: RequestTrace): Attributes {
  const { arrivedAt, firstTokenAt, endedAt, timing, usage } = request;
  const latency = "gen_ai.latency";
  return {
    "gen_ai.request.id": request.requestId,
    "gen_ai.request.max_tokens": request.maxTokens,
    "gen_ai.request.n": request.n,
    "gen_ai.request.temperature": request.temperature,
    "gen_ai.request.top_p": request.topP,
    "gen_ai.response.model": request.model,
    "gen_ai.usage.num_sequences": request.numSequences,
    "gen_ai.usage.prompt_tokens": usage.promptTokens,
    "gen_ai.usage.completion_tokens": usage.completionTokens,
    "kvengine.usage.cached_tokens": usage.cachedTokens,
    "kvengine.outcome": request.outcome,
    [`${latency}.e2e`]: (endedAt - arrivedAt) / 1000,
    ...(firstTokenAt === undefined
      ? {}
      : { [`${latency}.time_to_first_token`]: (firstTokenAt - arrivedAt) / 1000 }),
    ...(timing === undefined
      ? {}
      : {
          [`${latency}.time_in_queue`]: timing.queued / 1000,
          [`${latency}.time_in_model_prefill`]: timing.prefill / 1000,
          [`${latency}.time_in_model_decode`]: timing.decode / 1000,
          [`${latency}.time_in_model_inference`]: (timing.prefill + timing.decode) / 1000,
        }),
  };
}

/** Seconds and nanoseconds since the epoch. */
function hrTime(epochMs: number): HrTime {
  const seconds = Math.floor(epochMs / 1000);
  return [seconds, Math.floor((epochMs - seconds * 1000) * 1e6)];
}

/** Counts what another exporter sends, and says so when that begins to fail. */
class CountingExporter implements SpanExporter {
  sent = 0;
  failed = 0;
  readonly #inner: SpanExporter;
  readonly #options: OtlpOptions;
  /** Spans lost since the collector was last heard of. */
  #failedSince = 0;

  constructor(inner: SpanExporter, options: OtlpOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#inner.export(spans, (result) => {
      if (result.code === ExportResultCode.SUCCESS) this.#succeeded(spans.length);
      else this.#hasFailed(spans.length, result.error);
      done(result);
    });
  }

  shutdown(): Promise<void> {
    return this.#inner.shutdown();
  }

  #succeeded(count: number): void {
    this.sent += count;
    if (this.#failedSince > 0)
      this.#options.onTrouble(`traces arrive again; ${this.#failedSince} were lost`);
    this.#failedSince = 0;
  }

  #hasFailed(count: number, error: Error | undefined): void {
    this.failed += count;
    if (this.#failedSince === 0) {
      const why =
        error === undefined || error.message === "" ? "it does not say why" : error.message;
      this.#options.onTrouble(
        `the collector at ${this.#options.endpoint} takes no traces (${why}): they are lost until it does, and requests go on`,
      );
    }
    this.#failedSince += count;
  }
}
