/** An engine client that tells of each request when it has ended. All else is the engine's. */

import type { PinAnswer, PinQuery } from "../connectors/pin-query.ts";
import type { SessionAnswer, SessionQuery } from "../connectors/sessions/session-query.ts";
import type { EngineClient, Observe, PrefixCacheReset, TokenSource } from "../engine-client.ts";
import type { KvEngineError } from "../errors.ts";
import type { ExplainQuery, PromptFacts } from "../explain/facts.ts";
import type { GrammarAnswer } from "../grammars.ts";
import type { StepsProfile } from "../runner/profile.ts";
import type {
  EngineInfo,
  EngineStats,
  FinishReason,
  GenerateRequest,
  GrammarSource,
  TokenEvent,
} from "../request.ts";
import type { RequestLimits } from "../request-limits.ts";
import type { FinishedRequest } from "./trace-line.ts";
import type { RecordingCounts } from "./trace-writer.ts";

/** Where finished requests go. Must not throw. */
export interface Recorder {
  add(finished: FinishedRequest): void;
  readonly counts: RecordingCounts;
}

export class RecordingClient implements EngineClient {
  readonly #client: EngineClient;
  readonly #recorder: Recorder;

  constructor(client: EngineClient, recorder: Recorder) {
    this.#client = client;
    this.#recorder = recorder;
  }

  generate(request: GenerateRequest, observe?: Observe): TokenSource {
    return new RecordedSource(this.#client.generate(request, observe), request, (finished) =>
      this.#recorder.add(finished),
    );
  }

  compileGrammar(source: GrammarSource): Promise<GrammarAnswer> {
    return this.#client.compileGrammar(source);
  }

  /** For the metrics. */
  recording(): RecordingCounts {
    return this.#recorder.counts;
  }

  get info(): EngineInfo {
    return this.#client.info;
  }

  get limits(): RequestLimits {
    return this.#client.limits;
  }

  stats(): EngineStats {
    return this.#client.stats();
  }

  onStats(callback: (stats: EngineStats) => void): void {
    this.#client.onStats(callback);
  }

  abort(id: string): void {
    this.#client.abort(id);
  }

  resetPrefixCache(options?: PrefixCacheReset): Promise<number> {
    return this.#client.resetPrefixCache(options);
  }

  explain(query: ExplainQuery): Promise<PromptFacts | undefined> {
    return this.#client.explain(query);
  }

  pin(query: PinQuery): Promise<PinAnswer> {
    return this.#client.pin(query);
  }

  session(query: SessionQuery): Promise<SessionAnswer> {
    return this.#client.session(query);
  }

  takeProfile(on: boolean): Promise<StepsProfile> {
    return this.#client.takeProfile(on);
  }

  shutdown(timeoutMs: number): Promise<void> {
    return this.#client.shutdown(timeoutMs);
  }

  onFatal(callback: (error: KvEngineError) => void): void {
    this.#client.onFatal(callback);
  }
}

class RecordedSource implements TokenSource {
  readonly #source: TokenSource;
  readonly #request: GenerateRequest;
  readonly #record: (finished: FinishedRequest) => void;
  readonly #arrival = performance.now();
  readonly #outputIds: number[] = [];
  #firstTokenMs: number | undefined;
  #cachedTokens = 0;
  #ended = false;

  constructor(
    source: TokenSource,
    request: GenerateRequest,
    record: (finished: FinishedRequest) => void,
  ) {
    this.#source = source;
    this.#request = request;
    this.#record = record;
  }

  take(): TokenEvent | undefined {
    const event = this.#source.take();
    if (event !== undefined) this.#see(event);
    return event;
  }

  onEvents(tell: () => void): void {
    this.#source.onEvents(tell);
  }

  leave(): void {
    this.#end("abort", this.#outputIds.length);
    this.#source.leave();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TokenEvent> {
    try {
      for await (const event of this.#source) {
        this.#see(event);
        yield event;
      }
    } finally {
      this.leave();
    }
  }

  #see({ tokenIds, cachedTokens, finish }: TokenEvent): void {
    if (tokenIds.length > 0) this.#firstTokenMs ??= performance.now() - this.#arrival;
    for (const id of tokenIds) this.#outputIds.push(id);
    this.#cachedTokens = finish?.usage.cachedTokens ?? cachedTokens ?? this.#cachedTokens;
    if (finish !== undefined) this.#end(finish.reason, finish.usage.completionTokens);
  }

  #end(finish: FinishReason, outputLength: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#record({
      request: this.#request,
      outputIds: this.#outputIds,
      outputLength,
      cachedTokens: this.#cachedTokens,
      finish,
      firstTokenMs: this.#firstTokenMs,
      durationMs: performance.now() - this.#arrival,
    });
  }
}
