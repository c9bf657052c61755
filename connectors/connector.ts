/**
 * What a KV connector is: a part that is registered at start-up and may look at, hold and move the blocks of the device's KV cache.
 * Each hook's comment is its contract: when it is called, what it may change, how long its answer holds.
 *
 * For every hook: they are called one at a time, on the engine's thread, so none may block; none is called before `onSchedulerReady`
 * (`bindGpuBlockPool` aside) or after `shutdown`. A hook that throws is named in the log and counted, and its connector is disabled:
 * what it holds is released, what it offers is a miss, and the engine serves on. A hook that takes longer than
 * `--kv-connector-slow-hook` has the same end; one that does not return within `--kv-connector-hang-timeout` ends the process. No hook
 * but `shutdown` may answer a promise.
 */

import type { BlockId, BlockKey, GpuBlockPoolView } from "./block-pool-view.ts";
import type { HostContent } from "./host-content.ts";
import type { ConnectorOptions, OptionValues } from "./options.ts";
import type { TierPort } from "./tier-port.ts";

export type {
  BlockId,
  BlockKey,
  BlockLease,
  FreeBlock,
  GpuBlockPoolView,
  LeaseOptions,
} from "./block-pool-view.ts";
export { RefusedError, type RefusalCode } from "./errors.ts";
export { KvTier, TIER_API_VERSION } from "./tier.ts";
export { testTier, type TestTierOptions } from "./test-tier.ts";
export type { RuleResult } from "./rule-result.ts";
export type { Answer, TierClass, TierContext, TierLog } from "./tier.ts";
export type { HostContent } from "./host-content.ts";
export type { TierOutcome, TierPort, TierResult } from "./tier-port.ts";
export type { ConnectorOption, ConnectorOptions, OptionValues } from "./options.ts";

/** Major version of this interface. One binary runs connectors of its own major, whatever their age. */
export const API_VERSION = 1;

/** A page of the host pool, from 0 on: as many bytes as a device block of any group. */
export type PageId = number;

/** A transfer, unique in the life of the process. */
export type FlightId = number;

/** Layers whose KV lies in one block. */
export interface KvGroupInfo {
  readonly kind: "full" | "window" | "state";
  /** Positions that a token of a window group sees; 0 in other groups. */
  readonly window: number;
}

/** A request as connectors see it. Valid for as long as the request lives; nothing of it can be changed. */
export interface RequestView {
  readonly id: string;
  readonly numPromptTokens: number;
  /** Prompt and committed output. */
  readonly numTokens: number;
  readonly priority: number;
  /** Milliseconds since 1970. */
  readonly arrivalTime: number;
  /** A copy of the request's `kv_transfer_params`. */
  transferParams(): Readonly<Record<string, unknown>> | undefined;
  /** A copy of prompt and committed output. */
  tokenIds(): Int32Array;
}

/** Keys of a request's full blocks. */
export interface BlockHashes {
  /** Full blocks of the tokens known so far. */
  readonly length: number;
  keyOf(block: number, group: number): BlockKey;
}

/** Which of a request's blocks the device does not have, and where a connector says what it can bring. */
export interface WantedBlocks {
  /** Blocks from the prompt's start that may be brought; the last prompt token is always computed. */
  readonly numBlocks: number;
  /** Leading blocks that the device has in every group. */
  readonly numDeviceBlocks: number;
  readonly numGroups: number;
  /** Tokens of a block. */
  readonly blockSize: number;
  /**
   * Whether block `block` of group `group` is missing on the device and nobody is bringing it or has marked it. To ask saves a look-up
   * of one's own that costs something; marks of other blocks are passed over.
   */
  isWanted(block: number, group: number): boolean;
  /**
   * The connector can bring this block, surely and now, from `tier` (its own name when left out; up to 32 of a-z, 0-9, ., _ and -, at
   * most 8 beside its name). The mark holds to the end of this `schedule()`. Blocks that are not wanted are passed over.
   */
  mark(block: number, group: number, tier?: string): void;
}

/** A device block that a request waits for, to be filled by the connector that marked it. */
export interface PlannedBlock {
  readonly block: number;
  readonly group: number;
  readonly key: BlockKey;
  /** Where to load it. */
  readonly id: BlockId;
  readonly tier: string;
}

/** What of a connector's marks is taken up. */
export interface LoadPlan {
  /** In ascending order of blocks; empty = nothing of this connector. */
  readonly blocks: readonly PlannedBlock[];
  /** Milliseconds of the context's clock: what is not loaded by then is computed. */
  readonly deadline: number;
}

/** What `schedule()` has just decided. Valid until the hook returns. */
export interface SchedulerOutput {
  /** The step that is about to be submitted; -1 = there is nothing to compute. */
  readonly stepId: number;
  readonly numScheduledTokens: number;
  /** Steps that were submitted and have not committed, this one among them: 0 = nothing is computed. */
  readonly numInFlight: number;
  /** Blocks that were handed out since the last call. */
  readonly numAllocatedBlocks: number;
  /** Blocks whose content became complete and committed since the last call, and has not been handed out again. */
  readonly completed: readonly BlockId[];
}

export interface TransferResult {
  readonly id: FlightId;
  /** `write` and `read`: those of `PageFiles`. */
  readonly kind: "store" | "load" | "write" | "read";
  /** Every page arrived. */
  readonly ok: boolean;
  /** Nothing was copied: by `cancel`, under memory pressure, or after a reset. */
  readonly cancelled: boolean;
  /** Device blocks whose page did not arrive; empty when `ok`, all when cancelled. */
  readonly failedBlockIds: readonly BlockId[];
  /** Of writes and reads: pages that did not arrive, all when cancelled. */
  readonly failedPageIds?: readonly PageId[];
  /** For people: of the first page that failed. */
  readonly reason?: string;
}

/** What transfers have cost lately. */
export interface TransferRates {
  readonly loadBytesPerSecond: number;
  readonly storeBytesPerSecond: number;
  /** From the call to the result, without the copy and the queue. */
  readonly latencyMs: number;
  /** How long a store may take, from the call to the result: the longest one counts at once, and is forgotten slowly. */
  readonly storeMs: number;
}

/**
 * Copies of pages by native threads. A flight holds its blocks and pages by itself, so whatever ends meanwhile (request, lease,
 * cache generation), its memory is its own until its result. A store starts after the step that filled its blocks, a load after the
 * last step that used its targets' former owners.
 */
export interface Transfers {
  /**
   * Copies device blocks to host pages, one each. A free block keeps its place in the free queue and is not handed out meanwhile.
   * Throws `RefusedError`: `invalid`, `null`, `stale`, `notHeld` (a page that is not the connector's), `budget`, `closed`.
   */
  store(blocks: readonly BlockId[], pages: readonly PageId[]): FlightId;
  /**
   * Copies host pages to blocks of this connector's open plans, as many as one likes. Throws as `store`, but for want of room: loads are
   * bounded by their plans. `notHeld` also for a block that is in no open plan; `stale` for a page that holds other content than its
   * block wants, was filled before the cache was reset, or is in another flight. None of these is to be expected, so none is to be caught.
   */
  load(pages: readonly PageId[], blocks: readonly BlockId[]): FlightId;
  /**
   * True = nothing was copied and nothing will be; its result says `cancelled`, and what a load was to bring is computed. False = it has
   * begun or ended.
   */
  cancel(id: FlightId): boolean;
  /**
   * Whether a block is in an open plan of this connector, to be filled with this content, and no load of it was begun: what begins a load
   * later than the plan came must ask, since a plan ends with the requests that it is for.
   */
  isAwaited(block: BlockId, key: BlockKey): boolean;
  /** Blocks of open plans that will not be brought after all: they are computed at once. Throws `notHeld` for one that is not awaited. */
  giveUp(blocks: readonly BlockId[]): void;
  readonly rates: TransferRates;
  /**
   * Blocks of this connector that may still be stored now; 0 while requests lack blocks. Loads do not use it up. One flight of several
   * blocks is cheaper than several of one.
   */
  readonly numFree: number;
}

/** Pages of the host pool. They are shared by all connectors; each frees its own. */
export interface HostPages {
  readonly pageBytes: number;
  /**
   * How the bytes of a page are to be read: backend, type of KV, groups and tokens of a block. Who keeps pages beyond this process keeps
   * this and the model with them: they are this model's KV where both are equal, and only there.
   */
  readonly layout: string;
  /** Pages that there will be; the pool grows in the background, ahead of its use. */
  readonly numPages: number;
  /** Pages that could be had now. */
  readonly numFree: number;
  /** Whether more pages will be free soon although nobody gives any back. */
  readonly isGrowing: boolean;
  /** `count` pages, or undefined when there are not as many. */
  alloc(count: number): PageId[] | undefined;
  /** Gives pages back; one that a flight still uses follows when that has ended. Throws `notHeld`, and changes nothing, for one that is not the connector's. */
  free(pages: readonly PageId[]): void;
}

/**
 * Pages in files of the connector's own, written and read by native threads. A page goes with a label that tells its content, the model
 * and its layout: what another model, another version or another program wrote, what is torn or was changed, fails and is never loaded.
 * Results come by `updateConnectorOutput`; `transfers.cancel` gives up what has not begun.
 */
export interface PageFiles {
  /** Bytes that a page takes in a file, with its label. */
  readonly recordBytes: number;
  /**
   * Writes pages that hold content, each at its offset in bytes. The file is created, for its owner alone, if there is none; its folder
   * is not. Throws `RefusedError`: `invalid`, `notHeld`, `stale` (a page that holds nothing), `closed`.
   */
  write(path: string, offsets: readonly number[], pages: readonly PageId[]): FlightId;
  /** Fills pages with what was written for these keys; then they can be loaded as such. Throws as `write`; `stale` for a page in use. */
  read(
    path: string,
    offsets: readonly number[],
    pages: readonly PageId[],
    keys: readonly BlockKey[],
  ): FlightId;
}

export interface ConnectorLog {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** Metrics of one connector; they appear under `/metrics` with the label `connector`. */
export interface ConnectorMetrics {
  /** Adds to a counter `kvengine_connector_NAME_total`. */
  count(name: string, value?: number, labels?: Readonly<Record<string, string>>): void;
  /** Sets a gauge `kvengine_connector_NAME`. */
  set(name: string, value: number, labels?: Readonly<Record<string, string>>): void;
}

export interface SchedulerContext {
  /** The name that this connector runs under. */
  readonly name: string;
  readonly groups: readonly KvGroupInfo[];
  readonly transfers: Transfers;
  readonly pages: HostPages;
  /** Tiers below the host's memory that this connector drives, in the order in which they were named; most connectors have none. */
  readonly tiers: readonly TierPort[];
  /** Where the connector's class says `keepsFiles`; not in the trials of `connectors test`, which leave no files. */
  readonly files?: PageFiles;
  readonly log: ConnectorLog;
  readonly metrics: ConnectorMetrics;
  /** Most tokens of a step. */
  readonly maxBatchedTokens: number;
  /** Milliseconds, monotonic. Decisions that depend on time use this clock, so that a trace can be replayed. */
  now(): number;
  /**
   * Asks for one more `schedule()`: there is news. It comes later, never inside this call; calls before it are one. Good anywhere. With
   * `at` (of this clock) it comes then; of several such times the earliest counts, and the others are to be asked for again.
   */
  wake(at?: number): void;
  /** Whether the content is pinned: its copies are to be forgotten after all others, and only where nothing else can be. */
  isRetained(key: BlockKey): boolean;
  /** Contents of which that holds, whether there is a copy of them or not. */
  readonly numRetained: number;
  /** Only for the host level (`cpu-offload.ts`): by this the engine moves content outside of requests, until the connector is disabled. */
  serveContent(content: HostContent): void;
  /** A live request's blocks of each group, 0 where a position left the window. Throws `closed` outside a hook. */
  blocksOf(requestId: string): readonly (readonly BlockId[])[] | undefined;
}

/** Something that happened to a connector's own copies. */
export interface KvEvent {
  readonly kind: "stored" | "removed" | "cleared";
  readonly keys: readonly BlockKey[];
  /** Where: `host`, `disk`. */
  readonly medium: string;
}

/** What a connector's module exports by default. */
export interface ConnectorClass {
  /** Unique among those that run: up to 32 of a-z, 0-9 and -. */
  readonly connectorName: string;
  readonly apiVersion: number;
  /** What `--kv-connector-options` may say. */
  readonly options: ConnectorOptions;
  /** False = it never asks for host pages, so that no memory is taken for it. */
  readonly keepsPages?: boolean;
  /** True = it keeps pages in files: only then `SchedulerContext.files` is there, for which the model's files are read once at the start. */
  readonly keepsFiles?: boolean;
  new (options: OptionValues): KvConnector;
}

export abstract class KvConnector {
  /** Once, before anything else. */
  bindGpuBlockPool(_view: GpuBlockPoolView): void {}

  /** Once, after `bindGpuBlockPool` has reached every connector and before the first request. */
  onSchedulerReady(_context: SchedulerContext): void {}

  /** On arrival, before the request is queued. Not again after a preemption. A place to begin fetching. */
  onNewRequest(_request: RequestView): void {}

  /**
   * Marks what the connector can bring of a waiting request. Called whenever the scheduler looks at the request, also for one that is
   * admitted much later or never: it may change nothing that counts, and holds nothing. The marks hold to the end of this `schedule()`.
   * `pending` = not known yet: the request is passed by until `wake()`, or for `--kv-connector-lookup-timeout`, after which it counts as a miss.
   *
   * The default asks `getNumNewMatchedTokens` and marks the whole blocks of the answer in every group.
   */
  findBlocks(
    request: RequestView,
    _hashes: BlockHashes,
    wanted: WantedBlocks,
  ): "pending" | undefined {
    const { numBlocks, numGroups, numDeviceBlocks, blockSize } = wanted;
    const more = this.getNumNewMatchedTokens(request, numDeviceBlocks * blockSize);
    if (more === "pending") return "pending";
    if (!Number.isInteger(more) || more < 0) {
      throw new TypeError(
        `getNumNewMatchedTokens answered ${more}; allowed is "pending", 0 and more`,
      );
    }
    const end = Math.min(numBlocks, numDeviceBlocks + Math.floor(more / blockSize));
    for (let block = numDeviceBlocks; block < end; block++)
      for (let group = 0; group < numGroups; group++) wanted.mark(block, group);
    return undefined;
  }

  /** The easy form of `findBlocks`: how many tokens beyond the first `numComputedTokens` it can bring; whole blocks count. */
  getNumNewMatchedTokens(_request: RequestView, _numComputedTokens: number): number | "pending" {
    return 0;
  }

  /**
   * Exactly once for each admission, also with an empty plan. The connector brings the planned blocks by `transfers.load`, now or later;
   * those that no load has brought by `plan.deadline` are computed, and the request waits until then. The plan may be smaller than what
   * was marked.
   */
  updateStateAfterAlloc(_request: RequestView, _plan: LoadPlan): void {}

  /**
   * At the end of every `schedule()`, also of one that found nothing to compute: one follows each commit, abort, end of a transfer and
   * `wake()`, the last ones of a burst too. The place to decide what to store.
   */
  buildConnectorMeta(_output: SchedulerOutput): void {}

  /** Whenever transfers of this connector have ended, before the next `schedule()`, also while nothing runs. Exactly one result for each. */
  updateConnectorOutput(_transfers: readonly TransferResult[]): void {}

  /**
   * Exactly once for each request that `onNewRequest` announced, at its end or abort, before its blocks are released and after the
   * transfers of the same commit were reported; never at a preemption. Blocks of each group in order, 0 where a position left the
   * window. May lease. What it answers, JSON of at most 64 Ki characters, goes to the client as `kv_transfer_params`: by the
   * connectors' names where there are several.
   */
  requestFinished(
    _request: RequestView,
    _blocksByGroup: readonly (readonly BlockId[])[],
  ): Readonly<Record<string, unknown>> | undefined {
    return undefined;
  }

  /**
   * Requests that give their blocks up and will be computed again; called before the blocks are released. `areSwapped`: of each whether
   * copies of its full blocks (`blocksOf`) are worth their time. Stores that begin in this hook begin although requests lack blocks, and are
   * waited for; what has a copy comes back as any cached prefix does.
   */
  onPreempted(_requestIds: readonly string[], _areSwapped: readonly boolean[]): void {}

  /**
   * Requests lack `numBlocks` blocks. Leases that can be given back should be; from `deadline` (of the context's clock) on none of those
   * held now can be renewed.
   */
  onMemoryPressure(_numBlocks: number, _deadline: number): void {}

  /** What happened since the last call. Called once after each commit, and after each `schedule()` that found nothing to compute. */
  takeEvents(): readonly KvEvent[] {
    return [];
  }

  /**
   * The cache was reset: copies of older generations count for nothing. What the connector has of them is to be forgotten and its pages
   * given back: none of them can be loaded any more (`stale`). Results of older flights come later, as cancelled.
   */
  resetCache(_generation: number): void {}

  /** Numbers for `/metrics`, as gauges: at most 64. */
  stats(): Readonly<Record<string, number>> {
    return {};
  }

  /** Once, at the end. What it promises is waited for until `deadline` (of the context's clock). */
  shutdown(_deadline: number): void | Promise<void> {}
}
