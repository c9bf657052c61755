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
  /** None of `stopTokenIds` is picked before this many tokens. */
  readonly minTokens: number;
  /** Divides the logits above 0 of tokens in prompt or output, multiplies those below; 1 = off. */
  readonly repetitionPenalty: number;
  /** Taken from the logits of tokens in the output; 0 = off. */
  readonly presencePenalty: number;
  /** Taken from the logits of tokens in the output, once for each time; 0 = off. */
  readonly frequencyPenalty: number;
  /** Added to the logits of these tokens. */
  readonly logitBias: readonly (readonly [tokenId: number, bias: number])[];
  /** Only these are picked; empty = all. */
  readonly allowedTokenIds: readonly number[];
  /** Sequences of tokens of which none is completed. */
  readonly badWords: readonly (readonly number[])[];
  /** How many of the most probable tokens are reported beside each token; `NO_LOGPROBS` = none, nor its rank. */
  readonly topLogprobs: number;
  /** The same for the prompt's tokens; such a request reads no cached KV. `NO_LOGPROBS` = nothing about the prompt. */
  readonly promptLogprobs: number;
}

/** `topLogprobs` and `promptLogprobs` that ask for nothing; 0 asks for the token's own numbers. */
export const NO_LOGPROBS = -1;

/** One greedy token and nothing else: whoever makes params names only what differs. */
export const DEFAULT_SAMPLING: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: [0, 0],
  choice: 0,
  maxTokens: 1,
  stop: [],
  stopTokenIds: [],
  minTokens: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  allowedTokenIds: [],
  badWords: [],
  topLogprobs: NO_LOGPROBS,
  promptLogprobs: NO_LOGPROBS,
};

/** One sequence to generate. */
export interface GenerateRequest {
  /** Unique among live requests; for people and logs. */
  readonly id: string;
  readonly promptTokenIds: Int32Array;
  readonly sampling: SamplingParams;
  /** Milliseconds since the epoch. */
  readonly arrivalTime: number;
  /** Lower goes first, under the priority policy; 0 where the client gave none. */
  readonly priority: number;
  /** Requests share cached KV only with those of the same salt. */
  readonly cacheSalt?: string;
  /** What the client has for KV connectors, as JSON. */
  readonly transferParams?: Readonly<Record<string, unknown>>;
  /** What the answer follows; undefined = nothing. */
  readonly grammar?: GrammarRef;
  /** Id of the request with the same prompt whose KV this one shares: the first of `n` choices. */
  readonly leader?: string;
}

/** What an answer's text follows. */
export interface GrammarSource {
  /** In llguidance's Lark. */
  readonly text: string;
}

/** As the native side has it. */
export interface CompiledGrammar {
  /** What of it is only roughly kept, for people. */
  readonly warnings: readonly string[];
}

/** A grammar that the engine has compiled. */
export interface GrammarRef {
  /** A digest of its source. */
  readonly key: string;
  /** The engine's own object, in its thread. */
  readonly compiled?: object;
}

/** Why a sequence ended: `stop` (EOS, stop id, stop string), `length` (maxTokens or the model's length). */
export type FinishReason = "stop" | "length" | "abort" | "error";

/** What one committed step brought for one sequence. The last event of a sequence has `finish`. */
export interface TokenEvent {
  /** Tokens that belong to the text (a stop id that ended the sequence is not among them, but counts in usage). */
  readonly tokenIds: readonly number[];
  /**
   * Natural log-probability of each of `tokenIds` under the model, before temperature, penalties and filters; 0 where the
   * request did not ask.
   */
  readonly logprobs: readonly number[];
  /** One for each of `tokenIds`, where the request asked for them. */
  readonly tops?: readonly TopLogprobs[];
  /** Prompt tokens whose KV was not computed for this request: with the first token, where there are any. */
  readonly cachedTokens?: number;
  /** With `cachedTokens`. */
  readonly cacheReceipt?: CacheReceipt;
  /** Once, before or with the first token, where the request asked for them. */
  readonly promptLogprobs?: PromptLogprobs;
  readonly finish?: Finish;
}

/** The most probable tokens at a place, the most probable first. */
export interface TopLogprobs {
  /** Place of the token itself in that order, from 1. */
  readonly rank: number;
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly number[];
}

/** Of a prompt's tokens 1 and up (nothing comes before token 0): entry `i` is about token `i + 1`. */
export interface PromptLogprobs {
  readonly logprobs: readonly number[];
  readonly tops: readonly TopLogprobs[];
}

export interface Finish {
  readonly reason: FinishReason;
  /** The stop string or stop token id that ended it, where one did. */
  readonly stopReason?: string | number;
  /** What KV connectors have for the client. */
  readonly transferParams?: Readonly<Record<string, unknown>>;
  /** Set when `reason` is `error`. */
  readonly error?: { readonly code: string; readonly message: string };
  readonly usage: Usage;
  readonly timing: Timing;
}

/** Where a sequence's time went, in milliseconds. */
export interface Timing {
  /** From arrival at the engine to the first step. */
  readonly queued: number;
  /** From there to the first token. */
  readonly prefill: number;
  /** From there to the last. */
  readonly decode: number;
}

export interface Usage {
  readonly promptTokens: number;
  /** Sampled tokens, the one that ended the sequence included. */
  readonly completionTokens: number;
  /** Prompt tokens whose KV was not computed for this request. */
  readonly cachedTokens: number;
  /** Where there are any. */
  readonly cacheReceipt?: CacheReceipt;
}

/** Where cached prompt tokens came from, and what that was worth. */
export interface CacheReceipt {
  /** Tokens by tier: `device`, and the tiers of connectors. */
  readonly byTier: Readonly<Record<string, number>>;
  /** How long the request waited for what connectors brought, in milliseconds. */
  readonly loadMs: number;
  /** Estimate of what computing the tokens would have taken longer. */
  readonly savedMs: number;
}

/** Numbers of one moment, sent with each batch of events. */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  /** Blocks in use and in all, the null block left out. */
  readonly usedBlocks: number;
  readonly totalBlocks: number;
  /** Since start-up, as all that follow. */
  readonly preemptions: number;
  /** Prompt tokens of sequences that got their first token, cached ones among them. */
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly steps: number;
  /** Tokens that were looked up in the prefix cache at admission, and those that were there: of sequences that got their first token. */
  readonly prefixQueries: number;
  readonly prefixHits: number;
  /** Tokens that connectors were asked for, the device having none of them, and those that they brought. */
  readonly externalQueries: number;
  readonly externalHits: number;
  /** The latter by tier. Of `promptTokens`, what was neither on the device nor brought was computed. */
  readonly loadedPromptTokens: Readonly<Record<string, number>>;
  /** Estimate of what computing those would have taken longer than bringing them, in milliseconds. */
  readonly savedMs: number;
  /** Blocks with cached content that were given to others. */
  readonly evictedBlocks: number;
  /** Speculation: rows with drafts, drafted tokens, drafted tokens that were right. */
  readonly drafts: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
  /** Tokens computed in each step since the numbers before these. */
  readonly stepTokens: readonly number[];
  /** Where connectors run. */
  readonly hostPool?: HostPoolState;
  /** What has changed since the numbers before these; none = nothing. */
  readonly connectors?: readonly ConnectorSample[];
}

/** The host's memory for KV pages, which fills up in the background while requests are served. */
export interface HostPoolState {
  /** Pages in all, those that can be used by now, and those that hold something or are about to. */
  readonly numPages: number;
  readonly numReady: number;
  readonly numUsed: number;
  readonly pageBytes: number;
  /** Whether more pages will be ready; memory that ran short ends it too. */
  readonly isGrowing: boolean;
}

/** The value of one series about a KV connector, which stands in its label `connector`. */
export interface ConnectorSample {
  /** As `/metrics` shows it. */
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly labels: Readonly<Record<string, string>>;
  /** Not a difference: a counter's sum since start-up. */
  readonly value: number;
}

/** What the engine says of itself once it is ready. */
export interface EngineInfo {
  readonly modelName: string;
  readonly maxModelLen: number;
  readonly vocabSize: number;
  readonly blockSize: number;
  /** Blocks a request can use (the null block left out). */
  readonly numBlocks: number;
  readonly enablePrefixCaching: boolean;
  /** In which order requests are served. */
  readonly schedulingPolicy: "fcfs" | "priority";
  /** For people: `cpu/avx2`. */
  readonly backend: string;
  readonly threads: number;
  readonly weightBytes: number;
  readonly activationBytes: number;
  readonly kvBytes: number;
  /** How KV is kept: `bf16`. Empty where it is not made of elements. */
  readonly kvCacheDtype: string;
  /** How the bytes of a KV page are to be read: see `HostPages.layout`. */
  readonly pageLayout: string;
}
