/** What the scheduler says to KV connectors and asks of them; `engine/connectors/kv-connectors.ts` is the other side. */

import type { Coming, KvCache, LoadingEntry } from "../cache/kv-cache.ts";
import type { HostPoolState } from "../request.ts";
import type { Sequence } from "./sequence.ts";

/** What connectors are given of the scheduler. */
export interface SchedulerSide {
  readonly kv: KvCache;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** The newest step whose result was taken; -1 = none. */
  readonly committedStep: () => number;
  /** Free blocks that no prefilling request is to get. */
  readonly numSpareBlocks: () => number;
  /** Microseconds that a prompt token has cost lately; 0 = not known. */
  readonly microsPerPromptToken: () => number;
  /** Prompt tokens of running sequences that no step has computed yet. */
  readonly queuedPromptTokens: () => number;
  /** Blocks that running sequences, this one left out, take until the first of them ends; at most, since one may end early. */
  readonly numBlocksToFirstEnd: (except: Sequence) => number;
  /** A block of a sequence has come: it may go on. */
  resume(sequence: Sequence): void;
  /** Blocks of a sequence will not come: it waits again, and computes them. */
  computeInstead(sequence: Sequence): void;
  /** A live request by its id. */
  byId(id: string): Sequence | undefined;
}

export interface SchedulerConnectors {
  /** What was marked in the last `lookUp`, and what is being loaded: for `KvCache.match`. */
  readonly coming: Coming;
  /** Whether something is under way that brings news, or a deadline is set: an idle scheduler is then no fault. */
  readonly isBusy: boolean;
  readonly hostPool: HostPoolState;
  /** When `settle` has something to do although nothing was reported; Infinity = never. */
  nextDeadline(): number;
  /** Ids that connectors and flights hold, once for each hold: for integrity checks. */
  heldIds(): number[];

  /** A request joins the queue. */
  added(sequence: Sequence): void;
  /**
   * Asks which of the sequence's first `maxBlocks` blocks can be brought; of these the device has `numDeviceBlocks` leading ones.
   * `pending` = not known yet.
   */
  lookUp(
    sequence: Sequence,
    maxBlocks: number,
    numDeviceBlocks: number,
  ): "some" | "none" | "pending";
  /**
   * Where loading is to begin, in blocks, when the device has the first `numDeviceBlocks` and `numBlocks` could be there after
   * loading `numToLoad`, and `numLoading` that are loading for others: what is before it is computed. `numBlocks` = nothing is to be
   * loaded or waited for.
   */
  firstToLoad(
    numDeviceBlocks: number,
    numBlocks: number,
    numToLoad: number,
    numLoading: number,
  ): number;
  /** Whether a device block is being filled. */
  readonly isLoading: (id: number) => boolean;
  /** The sequence was admitted, and waits for these entries. Answers how many tokens that are, by tier. */
  admitted(sequence: Sequence, loading: readonly LoadingEntry[]): Readonly<Record<string, number>>;
  /** The sequence waits for nothing any more: its blocks are about to be released. */
  letGo(sequence: Sequence): void;
  /** The sequence gives its blocks up and will be computed again; it still has them. */
  preempted(sequence: Sequence): void;
  /** The sequence has ended; it still has its blocks. Answers what is to be told the client. */
  finished(sequence: Sequence): Readonly<Record<string, unknown>> | undefined;
  /** The content of a block is complete and its step has committed. */
  completed(id: number): void;
  /**
   * Requests lack `numBlocks` blocks: gives back what can be given back at once, and where `mayRecall` says so asks for what
   * connectors hold. Answers how many more become free soon by themselves.
   */
  relieve(numBlocks: number, mayRecall: boolean): number;
  /** What has ended since the last call takes effect: transfers, deadlines. */
  settle(): void;
  /** The end of a `commit()`. */
  committed(): void;
  /**
   * The end of a `schedule()`; -1 and 0 when it found nothing to compute; `numInFlight` steps have not committed, this one among
   * them. True = requests that waited for connectors wait no more, and should be looked at again.
   */
  scheduled(stepId: number, numTokens: number, numInFlight: number): boolean;
  /** The device's cache was reset; with `resetExternal` connectors are told to drop what they have, too. */
  reset(generation: number, resetExternal: boolean): void;
  /** Throws `internal` unless ledgers, flights and sequences agree. */
  checkIntegrity(): void;
}
