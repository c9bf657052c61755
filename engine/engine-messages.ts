/** What crosses between the HTTP side and the engine's worker. Plain data; requests go by number. */

import type { EngineConfig } from "./config.ts";
import type { LogLevel } from "./connectors/connector-log.ts";
import type { PinAnswer, PinQuery } from "./connectors/pin-query.ts";
import type { SessionAnswer, SessionQuery } from "./connectors/sessions/session-query.ts";
import type { ErrorData } from "./errors.ts";
import type { ExplainQuery, PromptFacts } from "./explain/facts.ts";
import type { GrammarAnswer } from "./grammars.ts";
import type { StepsProfile } from "./runner/profile.ts";
import type { EngineInfo, EngineStats, GenerateRequest, GrammarSource } from "./request.ts";
import type { RequestLimits } from "./request-limits.ts";
import type { StepEvents } from "./scheduler/step-events.ts";

export type ToEngine =
  /** First and once; answered by `ready` or `fatal`. */
  | { readonly type: "start"; readonly config: EngineConfig; readonly hookWord: SharedArrayBuffer }
  | { readonly type: "add"; readonly handle: number; readonly request: GenerateRequest }
  | { readonly type: "abort"; readonly handle: number }
  /** Messages with events of this weight together have been taken: see `ReadAhead`. */
  | { readonly type: "taken"; readonly weight: number }
  /** Answered by `pong` at once: the thread is not held up. */
  | { readonly type: "ping" }
  /** Answered by `grammarCompiled`, in any order. */
  | { readonly type: "compileGrammar"; readonly job: number; readonly source: GrammarSource }
  /** Answered by `prefixCacheReset`, in order. */
  | { readonly type: "resetPrefixCache"; readonly resetExternal: boolean }
  /** Answered by `explained`, in order. */
  | { readonly type: "explain"; readonly query: ExplainQuery }
  /** Answered by `pinned`, in order. */
  | { readonly type: "pin"; readonly query: PinQuery }
  /** Answered by `moved` with the same job, when it has ended. */
  | { readonly type: "session"; readonly job: number; readonly query: SessionQuery }
  /** Answered by `profile`, in order. `on`: whether ops are counted from here on. */
  | { readonly type: "takeProfile"; readonly on: boolean }
  /** Aborts what runs; answered by `stopped`, after which nothing comes. */
  | { readonly type: "stop" };

export type FromEngine =
  | {
      readonly type: "ready";
      readonly info: EngineInfo;
      readonly limits: RequestLimits;
      readonly stats: EngineStats;
    }
  /** What one step, or an abort, brought; without requests when numbers have changed and nothing else. `at`: as `epochMs`. */
  | {
      readonly type: "events";
      readonly events: StepEvents;
      readonly stats: EngineStats;
      readonly at: number;
    }
  /** The request was not queued. */
  | { readonly type: "refused"; readonly handle: number; readonly error: ErrorData }
  | {
      readonly type: "grammarCompiled";
      readonly job: number;
      readonly answer: GrammarAnswer | ErrorData;
    }
  /** `generation`: of the cached KV that is found from here on. */
  | { readonly type: "prefixCacheReset"; readonly generation: number }
  /** Without facts: the request is not remembered. */
  | { readonly type: "explained"; readonly facts: PromptFacts | undefined }
  | { readonly type: "pinned"; readonly answer: PinAnswer | ErrorData }
  | { readonly type: "moved"; readonly job: number; readonly answer: SessionAnswer | ErrorData }
  /** What ops have cost since the last one. */
  | { readonly type: "profile"; readonly profile: StepsProfile }
  /** A line for people, of a connector or about one. */
  | { readonly type: "log"; readonly level: LogLevel; readonly message: string }
  | { readonly type: "pong" }
  | { readonly type: "stopped" }
  /** The engine could not start, or cannot go on. */
  | { readonly type: "fatal"; readonly error: ErrorData };
