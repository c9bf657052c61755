/** What the HTTP side is given. */

import type { Context } from "hono";
import type { EngineClient } from "../engine-client.ts";
import type { KvEngineError } from "../errors.ts";
import type { Metrics } from "../metrics.ts";
import type { ExplainBook } from "./explain/explain-book.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { AccessLog, AccessRecord } from "./access-log.ts";
import type { ApiKey } from "./access/api-keys.ts";
import type { Caller } from "./access/caller.ts";
import type { QueuePlaces } from "./queue-places.ts";
import type { ResponseStore } from "./responses/store.ts";
import type { Tracing } from "./tracing/request-trace.ts";
import type { Turns } from "./turns.ts";
import type { SessionBook } from "./sessions/session-book.ts";

export interface ServedModel {
  /** The name in answers and in `/v1/models`. */
  readonly name: string;
  /** Further names that clients may ask for. */
  readonly aliases?: readonly string[] | undefined;
}

/** The vocabulary's tokens with a role of their own. */
export interface SpecialTokens {
  /** Texts, for the chat template; empty where the vocabulary has none. */
  readonly bosToken: string;
  readonly eosToken: string;
  /** Every token that ends an answer. */
  readonly endIds: readonly number[];
}

export interface AppDeps {
  readonly client: EngineClient;
  readonly model: ServedModel;
  readonly tokenizer: Tokenizer;
  readonly special: SpecialTokens;
  /** Jinja; without one, `/v1/chat/completions` is refused. */
  readonly chatTemplate?: string | undefined;
  /** How the model's reasoning is marked, a name of `REASONING_FORMATS`, `none` or `auto` (the default): by the chat template. */
  readonly reasoningParser?: string | undefined;
  /** How the model calls tools: a name of `CALL_FORMATS` or `auto` (the default): by the chat template. */
  readonly toolCallParser?: string | undefined;
  /** The program's version, for `/version` and `system_fingerprint`. */
  readonly version: string;
  /** Default: a registry of the app's own. */
  readonly metrics?: Metrics | undefined;
  /** While true, new requests are refused and running ones go on. */
  readonly isDraining?: (() => boolean) | undefined;
  /** When given and not empty, what is not for monitoring asks for one of them as a bearer token. */
  readonly apiKeys?: readonly ApiKey[] | undefined;
  /** Origins that browsers may call from; `*` = any. Default: none. */
  readonly corsOrigins?: readonly string[] | undefined;
  /** Bytes of a request's body; default 16 MiB. */
  readonly bodyLimit?: number | undefined;
  /** Most sequences that may wait before a request is refused with 429; default: no limit. */
  readonly maxQueued?: number | undefined;
  /** Whether requests are remembered, so that they can be explained; default: yes. */
  readonly explains?: boolean | undefined;
  /** A path under which a proxy offers the server: `/llm`. Requests with and without it are taken. */
  readonly rootPath?: string | undefined;
  /** Seconds that one request may take; default: no limit. */
  readonly requestTimeout?: number | undefined;
  /** Seconds after which a stream without news sends a comment, and a reader is cut that takes nothing; see `StreamTimes`. */
  readonly streamTimes?: StreamTimes | undefined;
  /** How many responses are kept; default 1000. */
  readonly maxStoredResponses?: number | undefined;
  /** Every stream ends with the usage, asked for or not. */
  readonly forceUsage?: boolean | undefined;
  /** Where traces of requests go; default: nowhere. */
  readonly tracing?: Tracing | undefined;
  /** Told of every request that was answered. */
  readonly onAccess?: AccessLog | undefined;
  /** Told of each prompt. */
  readonly onPrompt?: ((requestId: string, prompt: string) => void) | undefined;
  /** Told of errors that are no client's fault. */
  readonly onError?: ((error: KvEngineError, requestId: string) => void) | undefined;
}

/** In seconds; 0 = never. */
export interface StreamTimes {
  /** Without an event for this long, a comment says where in the queue the request is. */
  readonly keepAlive: number;
  /** A reader that has taken nothing for this long while there was something is cut. */
  readonly slowReader: number;
}

/** What the handlers of one app share. */
export interface AppContext {
  readonly deps: AppDeps;
  readonly metrics: Metrics;
  readonly fingerprint: string;
  /** Undefined where nothing is explained. */
  readonly explainBook: ExplainBook | undefined;
  readonly sessionBook: SessionBook;
  readonly bodyLimit: number;
  /** Seconds since the epoch at which the app was made. */
  readonly created: number;
  /** Throws `unavailable` when nothing new is served: draining, or the engine has stopped. */
  checkServing(): void;
  /** Throws `unavailable` or `too_many_requests` when no new request of this caller may start. */
  admit(c: Context<Env>): void;
  readonly responses: ResponseStore;
  readonly places: QueuePlaces;
  readonly turns: Turns;
  readonly streamTimes: StreamTimes;
  /** A number that no other call of this app has got. */
  nextId(): number;
}

/** What the listening socket offers to a handler. */
export interface Bindings {
  /** Lets this request take as long as it likes. */
  readonly keepOpen?: (() => void) | undefined;
  /** Ends the connection when nothing has moved on it for some seconds. */
  readonly closeIdle?: (() => void) | undefined;
}

export interface Env {
  Bindings: Bindings;
  /** `isDrawnId`: the id is the server's own, drawn at random. */
  Variables: { requestId: string; isDrawnId: boolean; caller: Caller; access: AccessRecord };
}
