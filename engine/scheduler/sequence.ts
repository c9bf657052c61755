/** One live request as the scheduler sees it. */

import type { SequenceBlocks } from "../cache/kv-cache.ts";
import type { CacheReceipt, GenerateRequest, SamplingParams } from "../request.ts";
import type { Drafter } from "./drafter.ts";
import type { PromptScores } from "./prompt-scores.ts";
import { TokenRuns } from "./token-runs.ts";

/** Sees each output token of one request in order; answers the stop string that the newest one completes, if any. */
export type StopChecker = (tokenId: number) => string | undefined;

/** Makes the checker of a request with stop strings, which the first `minTokens` tokens can neither hold nor begin. */
export type StopCheckerFactory = (stop: readonly string[], minTokens: number) => StopChecker;

/**
 * `waiting`: in the queue or parked, holds nothing. `running`: holds a seat and blocks. `leaving`: was preempted while a submitted
 * step had it; waits again once that step has committed. `finished`: ended; while a submitted step has it, it keeps what it
 * holds.
 */
export type SequenceState = "waiting" | "running" | "leaving" | "finished";

/** A seat or step number that is none. */
export const NONE = -1;

const NOTHING_LOADED: Readonly<Record<string, number>> = {};

/** What a waiting sequence waits for, outside of the queue, instead of computing the same. */
export interface ParkedFor {
  /** The sequence that computes it. */
  readonly of: Sequence;
  /** Leading tokens that must be submitted. */
  readonly numTokens: number;
}

export class Sequence {
  /** Number of the request on both sides of the engine. */
  readonly handle: number;
  readonly id: string;
  readonly request: GenerateRequest;
  readonly sampling: SamplingParams;
  readonly numPromptTokens: number;
  readonly stopChecker: StopChecker | undefined;
  readonly priority: number;
  /** Order of arrival, the second key of the scheduling order. */
  readonly number: number;
  state: SequenceState = "waiting";
  /** Prompt, then committed output; the first `numTokens` are valid. */
  tokenIds: Int32Array;
  numTokens: number;
  /** Length of the KV prefix that committed steps have computed. */
  numComputedTokens = 0;
  /** Length of the KV prefix once every submitted step has run. */
  numSubmittedTokens = 0;
  /** Tokens that were known at admission: up to here it prefills, from here it decodes. */
  prefillEnd = 0;
  /** Output tokens once every submitted step has run, if none ends the sequence. */
  numSubmittedSamples = 0;
  /** The step that computes the last known token. */
  prefilledAt: number = NONE;
  /** A submitted step verifies drafts: what follows is known when it has committed. */
  verifying = false;
  /** Prompt tokens that steps before the first token compute, or have computed, for it. */
  readonly computed: TokenRuns = new TokenRuns();
  /** Tokens that were looked up in the cache at its admission. */
  numQueriedTokens = 0;
  /** Prompt tokens whose KV was not computed for it: until the first token, those found at its admission. */
  numCachedTokens = 0;
  /** Of `numCachedTokens`, those that connectors brought, by tier. */
  loadedByTier: Readonly<Record<string, number>> = NOTHING_LOADED;
  /** What it was told of them, with its first token. */
  cacheReceipt: CacheReceipt | undefined;
  /** When it began to wait for connectors, and when the last block came: milliseconds of the scheduler's clock. */
  loadingSince = 0;
  loadedAt = 0;
  /** Its blocks did not come once: it computes them, whatever connectors offer. */
  computesAll = false;
  /** Leading blocks whose completion connectors were told of. */
  numToldBlocks = 0;
  /** Blocks that its prefill still needs; admission leaves them to it. */
  numReservedBlocks = 0;
  /** Place of the sampler's state; `NONE` while waiting. */
  seat: number = NONE;
  /** Whether a step has opened the seat. */
  isSeated = false;
  /** The last submitted step that has a row of this sequence. */
  lastStepId: number = NONE;
  /** Results of steps up to this one are not its own: what they read was withdrawn. */
  voidUntilStep: number = NONE;
  readonly blocks: SequenceBlocks;
  /** The first choice of the same prompt, while it lives. */
  leader: Sequence | undefined;
  parkedFor: ParkedFor | undefined;
  drafter: Drafter | undefined;
  promptScores: PromptScores | undefined;
  /** Milliseconds of the scheduler's clock; 0 = not yet. */
  readonly arrivedAt: number;
  startedAt = 0;
  firstTokenAt = 0;
  lastTokenAt = 0;
  /** Neighbours among the running ones, and the place in the queue: kept by those. */
  next: Sequence | undefined;
  previous: Sequence | undefined;
  queueIndex: number = NONE;

  constructor(
    handle: number,
    number: number,
    request: GenerateRequest,
    blocks: SequenceBlocks,
    stopChecker: StopChecker | undefined,
    priority: number,
    arrivedAt: number,
  ) {
    this.handle = handle;
    this.number = number;
    this.id = request.id;
    this.request = request;
    this.sampling = request.sampling;
    this.numPromptTokens = request.promptTokenIds.length;
    this.tokenIds = request.promptTokenIds;
    this.numTokens = this.numPromptTokens;
    this.blocks = blocks;
    this.stopChecker = stopChecker;
    this.priority = priority;
    this.arrivedAt = arrivedAt;
  }

  get numOutputTokens(): number {
    return this.numTokens - this.numPromptTokens;
  }

  /** Whether some known tokens are in no submitted step, so that the next row is a prompt chunk. */
  get prefilling(): boolean {
    return this.numSubmittedTokens < this.prefillEnd;
  }

  appendToken(tokenId: number): void {
    if (this.numTokens === this.tokenIds.length) {
      const most = this.numPromptTokens + this.sampling.maxTokens;
      const grown = new Int32Array(
        Math.min(most, Math.max(this.numTokens * 2, this.numTokens + 32)),
      );
      grown.set(this.tokenIds);
      this.tokenIds = grown;
    }
    this.tokenIds[this.numTokens++] = tokenId;
  }
}
