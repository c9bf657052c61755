/** What the engine knows of how a prompt was cached: plain data, which crosses to the HTTP side. */

import type { CacheReceipt } from "../request.ts";

export interface ExplainQuery {
  /** `GenerateRequest.id` of the request. */
  readonly id: string;
  /** Requests that it may be compared with; left out = all that are remembered. */
  readonly among?: readonly string[];
  /** One request that it is compared with, whatever its salt is. */
  readonly against?: string;
}

/**
 * Why a prompt's first computed block was not cached:
 * - `none`: it was the last one, of which at least a token is always computed
 * - `short_prompt`: no block is full before the last token
 * - `caching_off`, `prompt_logprobs`: nothing was looked for
 * - `differs`: its tokens are those of an earlier request up to some token, at which that one goes on with another
 * - `new_tokens`: the prompt of an earlier request, or its answer, ends there
 * - `not_computed`: an earlier request has the same tokens, and had not computed them or did not keep them
 * - `evicted`, `reset`, `step_failed`: it was there, and was given to others, dropped with all others, or withdrawn
 * - `other_salt`: nothing was ever stored under this request's salt, or that it was compared with has another one
 * - `quicker_to_compute`, `load_failed`: a connector had it
 * - `found_and_lost`: it was found, but the request had to begin again and by then it was gone
 * - `in_progress`: an earlier request has the same tokens up to the end of its prompt, and was still being answered
 * - `same_step`: another request was computing it in the very step
 * - `other_layers`: some groups of layers had it, and not all
 * - `never_stored`: nobody has computed it since the engine started
 * - `unknown`: what is remembered does not tell
 */
export const MISS_CAUSES = [
  "none",
  "short_prompt",
  "caching_off",
  "prompt_logprobs",
  "differs",
  "new_tokens",
  "not_computed",
  "evicted",
  "reset",
  "step_failed",
  "other_salt",
  "quicker_to_compute",
  "load_failed",
  "found_and_lost",
  "in_progress",
  "same_step",
  "other_layers",
  "never_stored",
  "unknown",
] as const;
export type MissCause = (typeof MISS_CAUSES)[number];

/** When and by what content went. */
export interface RemovalFacts {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Number of the request that got the block. */
  readonly byRequest?: number;
}

/** A run of the prompt's tokens. Together they are the prompt. */
export interface PromptRun {
  readonly start: number;
  readonly end: number;
  /**
   * `cached` tokens were not computed. Computed ones: `evicted`, `reset`, `step_failed` as above; `last` = behind the last full block that
   * could be cached; `computed` = all others.
   */
  readonly kind: "cached" | "evicted" | "reset" | "step_failed" | "last" | "computed";
  /** Of cached ones: `device`, or the connector's tier. */
  readonly tier?: string;
}

/** An earlier request that this one was compared with. */
export interface Compared {
  readonly id: string;
  readonly number: number;
  /** Leading tokens that both have. */
  readonly commonTokens: number;
  /** The token of each behind them, where there is one. */
  readonly tokenId?: number;
  readonly otherTokenId?: number;
  /** Whether they part in what the other one was answered. */
  readonly isInAnswer: boolean;
  readonly sameSalt: boolean;
  /** Milliseconds since the epoch at which it arrived. */
  readonly arrivedAt: number;
}

export interface PromptFacts {
  /** Of the request, counted from the engine's start. */
  readonly number: number;
  /** `waiting` and `running`: its first token has not come, so nothing is final. `ended`: nor will it. */
  readonly state: "waiting" | "running" | "answered" | "ended";
  readonly tokenIds: Int32Array;
  readonly blockSize: number;
  readonly cachedTokens: number;
  /** Leading ones of them. */
  readonly hitTokens: number;
  readonly receipt?: CacheReceipt;
  readonly runs: readonly PromptRun[];
  readonly cause: MissCause;
  /** For `evicted`, `reset` and `step_failed`. */
  readonly removal?: RemovalFacts;
  /** When a tier dropped its copy of the first computed block, before this request came. */
  readonly droppedAt?: number;
  /** The one with most leading tokens in common, of those it may be compared with and with its salt. */
  readonly closest?: Compared;
  readonly against?: Compared;
  readonly hasSalt: boolean;
  /** Milliseconds since the epoch. */
  readonly engineStartedAt: number;
  /** Whether every request and every removal since the engine started is remembered. */
  readonly isComplete: boolean;
  readonly connectors: readonly ConnectorState[];
}

export interface ConnectorState {
  readonly name: string;
  /** It did something that is not allowed, and is called no more. */
  readonly isDisabled: boolean;
}
