/**
 * The nouns of `kvengine bench`: a workload is sent to a target under a load, and leaves a record of each request. All times are
 * milliseconds; those called `At` count from the start of the run, on a monotonic clock.
 */

/** Time as the bench sees it, so that tests run on a virtual one. */
export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Ends `ms` later, at once where that is not positive; earlier, without an error, when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

/** What is sent. Token ids and text go to `/v1/completions`, messages to `/v1/chat/completions`. */
export type Prompt =
  | { readonly kind: "tokens"; readonly tokenIds: readonly number[] }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "chat"; readonly messages: readonly ChatMessage[] };

/** What a conversation has got so far: one for each turn that has ended. */
export interface Answer {
  readonly text: string;
  /** Where the server tells them. */
  readonly tokenIds?: readonly number[];
}

/** One request of a conversation, sent when the one before it has ended and the think time has passed. */
export interface Turn {
  /** Milliseconds between the end of the turn before and this one; 0 for a first turn. */
  readonly thinkTimeMs: number;
  /** Output tokens asked for; with `ignoreEos` exactly as many come. */
  readonly maxTokens: number;
  readonly ignoreEos: boolean;
  /** Prompt tokens, where they are known before it is sent. */
  readonly numPromptTokens?: number;
  /** The prompt, given what the turns before were answered. */
  prompt(before: readonly Answer[]): Prompt;
}

/** Requests that follow each other; a single request is a conversation of one turn. */
export interface Conversation {
  /** Unique in its workload. */
  readonly id: string;
  /** When its first turn is due, where the workload is a timed trace. */
  readonly at?: number;
  readonly turns: readonly Turn[];
}

/** What is sent, the same for the same parameters and seed on every machine. */
export interface Workload {
  /** As `--dataset-name` has it. */
  readonly name: string;
  readonly seed: number;
  /** What it was made from, for the report. */
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  readonly conversations: readonly Conversation[];
  /** Conversations at a time that it stands for, where it says so; a load with a limit of its own goes before it. */
  readonly clients?: number;
}

/** How a workload is sent. */
export interface LoadPlan {
  /** Conversations started a second; Infinity = as soon as the concurrency lets them. */
  readonly requestRate: number;
  /** Shape of the gamma distribution of gaps: 1 = Poisson, less = bursts, more = even. */
  readonly burstiness: number;
  /** Most conversations at a time; Infinity = no limit. */
  readonly maxConcurrency: number;
  /** Changes the rate, or the concurrency where the rate is infinite, over the run. */
  readonly ramp?: {
    readonly shape: "linear" | "exponential";
    readonly from: number;
    readonly to: number;
  };
  /** Starts no request later than this; Infinity = until the workload ends. */
  readonly durationMs: number;
  readonly seed: number;
}

/** A piece of a stream. */
export interface Chunk {
  readonly at: number;
  /** Output tokens that it brought, where the server tells; else 0. */
  readonly numTokens: number;
}

/** `cut`: it began to answer and did not end. */
export type Outcome = "ok" | "cut" | "error";

/** What became of one request. */
export interface RequestRecord {
  readonly conversation: string;
  /** From 0. */
  readonly turn: number;
  readonly sentAt: number;
  /** Those with output (text or tokens), in order; a role without content is none. */
  readonly chunks: readonly Chunk[];
  readonly endedAt: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Who counted the tokens. */
  readonly countedBy: "usage" | "tokenizer" | "chunks";
  /** Prompt tokens whose KV was there, by the server's usage. */
  readonly cachedTokens?: number;
  /** The same by tier (`device`, `host`, `disk`), where the server tells. */
  readonly cachedByTier?: Readonly<Record<string, number>>;
  /** HTTP status; 0 = there was no answer. */
  readonly status: number;
  readonly outcome: Outcome;
  /** Why it was cut or failed. */
  readonly error?: string;
  /** What is odd about a whole answer; what stands before the colon is the same for all requests that it befell. */
  readonly warning?: string;
  readonly text: string;
}

/** What the client itself cost: a client that is the bottleneck measures itself. */
export interface ClientCost {
  /** User and system time of the bench's process. */
  readonly cpuSeconds: number;
  /** How late timers of its event loop fired. */
  readonly lagP99Ms: number;
  readonly lagMaxMs: number;
}

/** Of the prefix cache before the run: `cold` = it was emptied, `warm` = it was filled on purpose, else nobody knows. */
export type CacheState = "cold" | "warm" | "uncontrolled";

/** One run of a workload against a target. */
export interface Run {
  /** Of the side or the command: `a`, `kvengine`. */
  readonly label: string;
  readonly workload: Pick<Workload, "name" | "seed" | "parameters">;
  readonly load: LoadPlan;
  readonly target: {
    /** Without a key. */
    readonly baseUrl: string;
    readonly model: string;
    /** `kvengine 0.1.0`, `vllm`, `llama-server`, `unknown`. */
    readonly server: string;
    /** How it was started, where the bench did. */
    readonly command?: readonly string[];
  };
  readonly cacheState: CacheState;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly durationMs: number;
  /** Why it ended before its workload did: `duration`, `over-saturation`, `interrupted`, `unreachable`. */
  readonly stopped?: string;
  readonly records: readonly RequestRecord[];
  readonly client: ClientCost;
  /** For people: what makes the figures less than they seem. */
  readonly warnings?: readonly string[];
  /** Differences of the server's counters (`/metrics`) over the run, where it has them. */
  readonly counters: Readonly<Record<string, number>>;
}
