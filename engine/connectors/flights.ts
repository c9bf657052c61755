/**
 * Transfers under way: what each holds (device blocks, host pages), whose it is, and what became of it. A flight keeps its memory by
 * itself until its result, whatever ends meanwhile; one that had not started gives it back at once when it is cancelled.
 */

import {
  type BlockKey,
  type FlightId,
  RefusedError,
  type TransferResult,
} from "../../connectors/connector.ts";
import type { KvCache } from "../cache/kv-cache.ts";
import type { FlightResult, PageTransfers } from "../cache/page-transfers.ts";
import { KvEngineError } from "../errors.ts";
import type { HostPages } from "./host-pages.ts";
import type { FlightKind, TransferCounts } from "./transfer-counts.ts";

export interface Flight {
  readonly id: FlightId;
  readonly kind: FlightKind;
  readonly connector: number;
  readonly blocks: Int32Array;
  readonly pages: Int32Array;
  /** What the blocks hold, or are to hold. */
  readonly keys: readonly BlockKey[];
  /** Milliseconds of the scheduler's clock. */
  readonly beganAt: number;
  /** Of the cache when it began: what an older one brings counts for nothing. */
  readonly generation: number;
  /** A store of blocks of a preempted request: those who lack blocks wait for it until then, milliseconds of the scheduler's clock. */
  readonly swapUntil: number | undefined;
  /** It was cancelled before it started, and holds nothing any more. */
  isCancelled: boolean;
  /** A store whose blocks somebody waits for. */
  isHurried: boolean;
}

/** A flight that has ended, and of its lists the indices that failed. */
export interface EndedFlight {
  readonly flight: Flight;
  readonly failed: ReadonlySet<number>;
  readonly error: string | undefined;
}

/** Longer than copying the largest request takes: who lacks blocks is never held up by a copy that does not begin. */
const SWAP_PATIENCE_MS = 250;

export class Flights {
  readonly #kv: KvCache;
  readonly #pages: HostPages;
  readonly #native: PageTransfers;
  readonly #counts: TransferCounts;
  readonly #now: () => number;
  /** Most blocks in stores for one connector. Loads are bounded by the plans that they are for. */
  readonly #maxBlocks: number;
  readonly #byId = new Map<FlightId, Flight>();
  /** Blocks in stores of each connector. */
  readonly #numStoring: number[];
  readonly #ended: FlightResult[] = [];
  /** Flights between the host and elsewhere, by id: who hears of their ends. */
  readonly #others = new Map<FlightId, (result: FlightResult) => void>();
  /** Requests lack blocks: no store may begin. */
  isPressed = false;
  /** Stores that begin now are of a preempted request: they may begin although requests lack blocks, and those wait for them. */
  isSwapping = false;
  /** Free blocks that did not do for who lacked some while no store was under way, since a step was scheduled. */
  #tooFew = 0;
  #nextId = 1;

  constructor(
    kv: KvCache,
    pages: HostPages,
    native: PageTransfers,
    counts: TransferCounts,
    numConnectors: number,
    maxBlocks: number,
    now: () => number,
  ) {
    this.#kv = kv;
    this.#pages = pages;
    this.#native = native;
    this.#counts = counts;
    this.#maxBlocks = maxBlocks;
    this.#now = now;
    this.#numStoring = Array.from({ length: numConnectors }, () => 0);
  }

  /** Flights whose result was not taken. */
  get length(): number {
    return this.#byId.size;
  }

  get(id: FlightId): Flight | undefined {
    return this.#byId.get(id);
  }

  /** Milliseconds for which the oldest store has been under way; 0 = there is none. */
  get oldestStoreMs(): number {
    for (const { kind, beganAt } of this.#byId.values())
      if (kind === "store") return this.#now() - beganAt;
    return 0;
  }

  all(): IterableIterator<Flight> {
    return this.#byId.values();
  }

  /** Throws `invalid` unless there is one page for each of at least one block, none named twice. */
  static check(blocks: readonly number[], pages: readonly number[]): void {
    if (blocks.length !== pages.length || blocks.length === 0) {
      throw new RefusedError(
        "invalid",
        `${blocks.length} blocks and ${pages.length} pages; allowed is one page for each of at least one block`,
      );
    }
    if (new Set(blocks).size !== blocks.length || new Set(pages).size !== pages.length)
      throw new RefusedError("invalid", "a flight names a block or a page twice");
  }

  /** Blocks that a connector may still have stored at a time. */
  numFree(connector: number): number {
    if (this.isPressed && !this.isSwapping) return 0;
    return this.#maxBlocks - (this.#numStoring[connector] as number);
  }

  /** Begins a flight that was checked. The caller has made sure that the connector may move these blocks. Throws `RefusedError`. */
  begin(
    kind: Flight["kind"],
    connector: number,
    blocks: readonly number[],
    pages: readonly number[],
    keys: readonly BlockKey[],
    afterStep: number,
  ): FlightId {
    this.#pages.check(connector, pages);
    for (const page of pages)
      if (this.#pages.isFlying(page))
        throw new RefusedError("stale", `page ${page} is in another flight`);
    const available = this.numFree(connector);
    if (kind === "store" && blocks.length > available) {
      throw new RefusedError(
        this.isPressed && !this.isSwapping ? "pressure" : "budget",
        `${blocks.length} blocks, and ${available} more may be stored now`,
        available,
      );
    }
    const flight: Flight = {
      id: this.#nextId++,
      kind,
      connector,
      blocks: Int32Array.from(blocks),
      pages: Int32Array.from(pages),
      keys,
      beganAt: this.#now(),
      generation: this.#kv.generation,
      swapUntil: this.isSwapping && kind === "store" ? this.#now() + SWAP_PATIENCE_MS : undefined,
      isCancelled: false,
      isHurried: false,
    };
    this.#hold(flight);
    this.#byId.set(flight.id, flight);
    try {
      if (kind === "store") this.#native.store(flight.id, flight.blocks, flight.pages, afterStep);
      else this.#native.load(flight.id, flight.pages, flight.blocks, afterStep);
    } catch (thrown) {
      this.#byId.delete(flight.id);
      this.#letGo(flight);
      throw thrown;
    }
    if (flight.swapUntil !== undefined) this.#hurry(flight);
    this.#counts.of(connector, kind).begun++;
    return flight.id;
  }

  /** True = nothing was copied: the flight holds nothing from now on, and its result will say so. */
  cancel(flight: Flight): boolean {
    if (flight.isCancelled) return true;
    if (!this.#native.cancel(flight.id)) return false;
    flight.isCancelled = true;
    this.#letGo(flight);
    return true;
  }

  /**
   * Cancels stores that have not started, the oldest first, until `numBlocks` blocks can be handed out that could not before; not those
   * that are waited for. Those that have started are hurried. Answers how many blocks of the free queue become free soon, because their
   * copy is under way.
   */
  cancelStores(numBlocks: number): number {
    const { pool } = this.#kv;
    // What is cancelled beside a copy that is waited for anyway would only be begun again.
    if (pool.numFlying >= numBlocks && this.nextSwapEnd < Infinity) return pool.numFlying;
    const enough = pool.numFree + numBlocks;
    for (const flight of this.#byId.values()) {
      if (pool.numFree >= enough) return 0;
      if (flight.kind !== "store" || flight.isCancelled || this.#isAwaited(flight)) continue;
      if (!this.cancel(flight)) this.#hurry(flight);
    }
    return pool.numFlying;
  }

  /**
   * Whether who lacks at least `numBlocks` may have all of them when stores are given up. What did not do before is not given up again:
   * the stores would only begin anew, and so on in turn.
   */
  mayRelieve(numBlocks: number): boolean {
    const { numFree, numFlying } = this.#kv.pool;
    if (numFlying === 0) this.#tooFew = numFree;
    return numFlying >= numBlocks && numFree + numFlying > this.#tooFew;
  }

  /** A `schedule()` is over, with a step or without one. */
  scheduled(isStep: boolean): void {
    this.isPressed = false;
    if (isStep) this.#tooFew = 0;
  }

  /** When the next store that is waited for is waited for no more; Infinity = there is none. */
  get nextSwapEnd(): number {
    let next = Infinity;
    for (const flight of this.#byId.values())
      if (this.#isAwaited(flight)) next = Math.min(next, flight.swapUntil as number);
    return next;
  }

  /** Begins a flight that uses no block, under an id of its own. `onEnded` hears of its end once. Throws what `begin` throws. */
  beginOther(begin: (id: FlightId) => void, onEnded: (result: FlightResult) => void): FlightId {
    const id = this.#nextId++;
    this.#others.set(id, onEnded);
    try {
      begin(id);
    } catch (thrown) {
      this.#others.delete(id);
      throw thrown;
    }
    return id;
  }

  /** The native side's results: kept until `settle`, but for those of other flights. */
  report(results: readonly FlightResult[]): void {
    for (const result of results) {
      const onEnded = this.#others.get(result.id);
      if (onEnded === undefined) {
        this.#ended.push(result);
        continue;
      }
      this.#others.delete(result.id);
      onEnded(result);
    }
  }

  /** Results that `takeEnded` has for its caller. */
  get numEnded(): number {
    return this.#ended.length;
  }

  /** What has ended since the last call. Stores have given up what they held; the blocks of a load are still referenced: `release` them. */
  takeEnded(): EndedFlight[] {
    return this.#ended.splice(0).map((result) => {
      const flight = this.#byId.get(result.id);
      if (flight === undefined)
        throw new KvEngineError("internal", `flight ${result.id} has ended, and there is none`);
      this.#byId.delete(flight.id);
      if (flight.kind === "store" && !flight.isCancelled) this.#letGo(flight);
      this.#count(flight, result);
      const failed = result.cancelled ? flight.blocks.keys() : result.failedPages;
      return { flight, failed: new Set(failed), error: result.error?.message };
    });
  }

  /** A load that has ended gives up its blocks and pages. */
  release(flight: Flight): void {
    if (!flight.isCancelled) this.#letGo(flight);
  }

  #hurry(flight: Flight): void {
    if (flight.isHurried) return;
    flight.isHurried = true;
    this.#native.hurry(flight.id);
  }

  #isAwaited({ swapUntil, isCancelled }: Flight): boolean {
    return swapUntil !== undefined && !isCancelled && this.#now() < swapUntil;
  }

  #count({ connector, kind }: Flight, { cancelled, ok, copyMicros }: FlightResult): void {
    const counts = this.#counts.of(connector, kind);
    counts.ended[cancelled ? "cancelled" : ok ? "ok" : "failed"]++;
    if (!cancelled) counts.copyMicros += copyMicros;
  }

  #hold({ kind, connector, blocks, pages }: Flight): void {
    const { pool } = this.#kv;
    this.#pages.beginFlight(pages);
    if (kind === "load") {
      pool.touch(blocks, blocks.length);
    } else {
      pool.beginFlight(blocks, blocks.length);
      this.#numStoring[connector] = (this.#numStoring[connector] as number) + blocks.length;
    }
  }

  #letGo({ kind, connector, blocks, pages }: Flight): void {
    const { pool } = this.#kv;
    this.#pages.endFlight(pages);
    if (kind === "load") {
      pool.free(blocks, blocks.length);
    } else {
      pool.endFlight(blocks, blocks.length);
      this.#numStoring[connector] = (this.#numStoring[connector] as number) - blocks.length;
    }
  }
}

/** What a connector is told of a flight. */
export function resultOf({ flight, failed }: EndedFlight, isStale: boolean): TransferResult {
  const cancelled = flight.isCancelled || isStale;
  const lost = cancelled ? flight.blocks : flight.blocks.filter((_, i) => failed.has(i));
  return {
    id: flight.id,
    kind: flight.kind,
    ok: !cancelled && lost.length === 0,
    cancelled,
    failedBlockIds: [...lost],
  };
}
