/** The engine's verbs, as the HTTP side speaks them. */

import type { PinAnswer, PinQuery } from "./connectors/pin-query.ts";
import type { SessionAnswer, SessionQuery } from "./connectors/sessions/session-query.ts";
import type { KvEngineError } from "./errors.ts";
import type { ExplainQuery, PromptFacts } from "./explain/facts.ts";
import type { GrammarAnswer } from "./grammars.ts";
import type {
  EngineInfo,
  EngineStats,
  GenerateRequest,
  GrammarSource,
  TokenEvent,
} from "./request.ts";
import type { RequestLimits } from "./request-limits.ts";
import type { StepsProfile } from "./runner/profile.ts";
import type { TokenSource } from "./token-stream.ts";

export interface PrefixCacheReset {
  readonly resetExternal?: boolean;
}
/** Sees an event, and when the engine had it (as `epochMs`). Must not throw. */
export type Observe = (event: TokenEvent, at: number) => void;

export interface EngineClient {
  readonly info: EngineInfo;
  /** What `generate` refuses by. */
  readonly limits: RequestLimits;
  /** As of the last message from the engine. */
  stats(): EngineStats;
  /** Called with the numbers of each message, so that no step is missed. Must not throw. */
  onStats(callback: (stats: EngineStats) => void): void;
  /**
   * Queues a request at once. Throws, before anything is queued, when it can never be served (`invalid_request`,
   * `context_length_exceeded`) or nothing is served any more (`unavailable`). The events can be read once; the last has
   * `finish`, also after an error. Leaving them early aborts the request. `observe` sees them as they come, until they are left.
   */
  generate(request: GenerateRequest, observe?: Observe): TokenSource;
  /** For `GenerateRequest.grammar`. Throws what is wrong with the source, before anything is queued. */
  compileGrammar(source: GrammarSource): Promise<GrammarAnswer>;
  /** Ends a live request of this id; its stream ends with reason `abort`. */
  abort(id: string): void;
  /**
   * Later requests find no KV that was computed before, with `resetExternal` (the default) none that connectors keep either; running ones
   * keep theirs. Answers the new generation's number.
   */
  resetPrefixCache(options?: PrefixCacheReset): Promise<number>;
  /** What of a request's prompt was cached, and why the rest was not; undefined = the request is not remembered. */
  explain(query: ExplainQuery): Promise<PromptFacts | undefined>;
  /** Makes, ends or lists pins: content that is to stay in the host's pages. Throws what is wrong with the query. */
  pin(query: PinQuery): Promise<PinAnswer>;
  /** Lists or moves sessions. Rejects with what is wrong with the query. */
  session(query: SessionQuery): Promise<SessionAnswer>;
  /** What ops have cost since the last call, where it was counted; `on`: whether it is from here on. For measurement. */
  takeProfile(on: boolean): Promise<StepsProfile>;
  /** Refuses new requests, waits up to `timeoutMs` for those that run, aborts the rest, ends the engine. */
  shutdown(timeoutMs: number): Promise<void>;
  /** Called once when the engine has died; every request has had its error then. At once if it is dead already. */
  onFatal(callback: (error: KvEngineError) => void): void;
}
