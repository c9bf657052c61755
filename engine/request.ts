/**
 * The nouns everyone speaks: what is asked of the engine and what comes back. Plain data, so it crosses to the engine's
 * worker as it is.
 */

/** How tokens are picked, and when a choice ends. All fields are validated before a request is made. */
export interface SamplingParams {
  /** 0 = greedy. */
  readonly temperature: number;
  /** Keep the k most probable tokens; 0 = all. */
  readonly topK: number;
  /** Keep the smallest set of tokens with at least this probability; 1 = all. */
  readonly topP: number;
  /** Drop tokens below this share of the most probable one; 0 = none. */
  readonly minP: number;
  /** 64 bits as two unsigned halves, low first; drawn at arrival where the client gave none. */
  readonly seed: readonly [low: number, high: number];
  /** Which of a request's choices this is, from 0; with the seed and the output index it decides the random numbers. */
  readonly choice: number;
  /** Most tokens to generate. */
  readonly maxTokens: number;
  /** Texts that end the choice; never part of its text. */
  readonly stop: readonly string[];
  /** Token ids that end the choice, EOS included unless it is to be ignored; never part of its text. */
  readonly stopTokenIds: readonly number[];
}

/** One sequence to generate. */
export interface GenerateRequest {
  /** Unique among live requests; for people and logs. */
  readonly id: string;
  readonly promptTokenIds: Int32Array;
  readonly sampling: SamplingParams;
  /** Milliseconds since the epoch. */
  readonly arrivalTime: number;
}

/** Why a sequence ended: `stop` (EOS, stop id, stop string), `length` (maxTokens or the model's length). */
export type FinishReason = "stop" | "length" | "abort" | "error";

/** What one committed step brought for one sequence. The last event of a sequence has `finish`. */
export interface TokenEvent {
  /** Tokens that belong to the text (a stop id that ended the sequence is not among them, but counts in usage). */
  readonly tokenIds: readonly number[];
  /** Natural log-probability of each of `tokenIds` under the model. */
  readonly logprobs: readonly number[];
  readonly finish?: Finish;
}

export interface Finish {
  readonly reason: FinishReason;
  /** The stop string or stop token id that ended it, where one did. */
  readonly stopReason?: string | number;
  /** Set when `reason` is `error`. */
  readonly error?: { readonly code: string; readonly message: string };
  readonly usage: Usage;
}

export interface Usage {
  readonly promptTokens: number;
  /** Sampled tokens, the one that ended the sequence included. */
  readonly completionTokens: number;
  /** Prompt tokens whose KV was not computed for this request. */
  readonly cachedTokens: number;
}

/** Numbers of one moment, sent with each batch of events. */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  /** Blocks in use and in all, the null block left out. */
  readonly usedBlocks: number;
  readonly totalBlocks: number;
  /** Since start-up. */
  readonly preemptions: number;
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly steps: number;
}

/** What the engine says of itself once it is ready. */
export interface EngineInfo {
  readonly modelName: string;
  readonly maxModelLen: number;
  readonly vocabSize: number;
  readonly blockSize: number;
  /** Blocks a request can use (the null block left out). */
  readonly numBlocks: number;
  /** For people: `cpu/avx2`. */
  readonly backend: string;
  readonly threads: number;
  readonly weightBytes: number;
  readonly activationBytes: number;
  readonly kvBytes: number;
}
