/** One live request as the scheduler sees it, and the list it stands in. */

import { BlockTable } from "../cache/block-table.ts";
import type { GenerateRequest, SamplingParams } from "../request.ts";

/** Sees each output token of one request in order; answers the stop string that the newest one completes, if any. */
export type StopChecker = (tokenId: number) => string | undefined;

/** Makes the checker of a request with stop strings. */
export type StopCheckerFactory = (stop: readonly string[]) => StopChecker;

/** `finished` sequences may still stand in a submitted step; until it commits they keep their blocks and seat. */
export type SequenceState = "waiting" | "running" | "finished";

/** A seat or step number that is none. */
export const NONE = -1;

export class Sequence {
  /** Number of the request on both sides of the engine. */
  readonly handle: number;
  readonly id: string;
  readonly sampling: SamplingParams;
  readonly numPromptTokens: number;
  readonly stopChecker: StopChecker | undefined;
  state: SequenceState = "waiting";
  /** Prompt, then committed output; the first `numTokens` are valid. */
  tokenIds: Int32Array;
  numTokens: number;
  /** Length of the KV prefix that committed steps have computed. */
  numComputedTokens = 0;
  /** Length of the KV prefix once every submitted step has run. */
  numSubmittedTokens = 0;
  /** Output tokens once every submitted step has run, if none ends the sequence. */
  numSubmittedSamples = 0;
  /** Prompt tokens whose KV was there at admission. */
  numCachedTokens = 0;
  /** Place of the sampler's state; `NONE` while waiting. */
  seat: number = NONE;
  /** The last submitted step that has a row of this sequence. */
  lastStepId: number = NONE;
  /** One for each group of layers. */
  readonly tables: readonly BlockTable[];
  /** Neighbours in the one list it stands in. */
  next: Sequence | undefined;
  previous: Sequence | undefined;

  constructor(
    handle: number,
    request: GenerateRequest,
    numGroups: number,
    stopChecker: StopChecker | undefined,
  ) {
    this.handle = handle;
    this.id = request.id;
    this.sampling = request.sampling;
    this.numPromptTokens = request.promptTokenIds.length;
    this.tokenIds = request.promptTokenIds;
    this.numTokens = this.numPromptTokens;
    this.stopChecker = stopChecker;
    this.tables = Array.from({ length: numGroups }, () => new BlockTable(8));
  }

  get numOutputTokens(): number {
    return this.numTokens - this.numPromptTokens;
  }

  /** Prompt tokens that no submitted step computes; 0 = decoding. */
  get numPendingPromptTokens(): number {
    return this.numPromptTokens - this.numSubmittedTokens;
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

/** Sequences in order; adding and removing any one costs the same. */
export class SequenceList {
  #first: Sequence | undefined;
  #last: Sequence | undefined;
  #length = 0;

  get first(): Sequence | undefined {
    return this.#first;
  }

  get length(): number {
    return this.#length;
  }

  append(sequence: Sequence): void {
    sequence.previous = this.#last;
    sequence.next = undefined;
    if (this.#last === undefined) this.#first = sequence;
    else this.#last.next = sequence;
    this.#last = sequence;
    this.#length++;
  }

  /** The sequence must stand in this list. */
  remove(sequence: Sequence): void {
    const { previous, next } = sequence;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    sequence.previous = undefined;
    sequence.next = undefined;
    this.#length--;
  }
}
