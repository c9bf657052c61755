/**
 * The way of content to the device: which blocks are promised to whom, which flights bring them, and what becomes of those that do
 * not come. A block that arrives whole is published at once, whoever still waits for it; a sequence whose blocks do not come in time
 * computes them.
 */

import {
  type BlockKey,
  type FlightId,
  type LoadPlan,
  type PlannedBlock,
  type RefusalCode,
  RefusedError,
} from "../../connectors/connector.ts";
import { HASH_WORDS } from "../cache/block-hash.ts";
import { blockKey } from "../cache/block-key.ts";
import type { LoadingEntry } from "../cache/kv-cache.ts";
import { KvEngineError } from "../errors.ts";
import type { SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { Sequence } from "../scheduler/sequence.ts";
import type { BlockOffers } from "./block-offers.ts";
import { type EndedFlight, type Flight, Flights } from "./flights.ts";
import type { HostPages } from "./host-pages.ts";
import { type LoadingBlock, LoadingBlocks } from "./loading-blocks.ts";
import type { TransferCounts } from "./transfer-counts.ts";

export class Loads {
  readonly blocks: LoadingBlocks = new LoadingBlocks();
  readonly #side: SchedulerSide;
  readonly #flights: Flights;
  readonly #pages: HostPages;
  readonly #counts: TransferCounts;
  readonly #pageBytes: number;
  readonly #timeoutMs: number;
  /** What each load brings, in the order of its lists. */
  readonly #targets = new Map<FlightId, readonly LoadingBlock[]>();
  /** Blocks that arrived. */
  numArrived = 0;
  /** Times that a sequence joined a load that was under way for another. */
  numJoined = 0;
  /** Blocks that connectors cannot bring after all, until `settle`. */
  #declined = new Set<LoadingBlock>();
  /** Blocks of flights that ended without them, and blocks that were given up before. */
  numFailed = 0;
  numGivenUp = 0;
  /** Blocks that connectors were to bring; those of them of which no load was begun in time; those whose load was refused. */
  numPromised = 0;
  numBroken = 0;
  numRefused = 0;

  constructor(
    side: SchedulerSide,
    flights: Flights,
    pages: HostPages,
    counts: TransferCounts,
    { pageBytes, timeoutMs }: { readonly pageBytes: number; readonly timeoutMs: number },
  ) {
    this.#side = side;
    this.#counts = counts;
    this.#pageBytes = pageBytes;
    this.#flights = flights;
    this.#pages = pages;
    this.#timeoutMs = timeoutMs;
  }

  /** A sequence waits for these entries. Answers what each of `numConnectors` is to bring. */
  plan(
    sequence: Sequence,
    entries: readonly LoadingEntry[],
    offers: BlockOffers,
    numConnectors: number,
  ): LoadPlan[] {
    const now = this.#side.now();
    const deadline = now + this.#timeoutMs;
    const planned: PlannedBlock[][] = Array.from({ length: numConnectors }, () => []);
    for (const { block, group, id, isNew } of entries) {
      const loading = isNew
        ? this.#promise(sequence, block, group, id, offers, deadline)
        : this.blocks.get(id);
      loading?.waiters.push({ sequence, block });
      if (!isNew) this.numJoined++;
      if (!isNew || loading === undefined) continue;
      const { key, tier, connector } = loading;
      planned[connector]?.push({ block, group, key, id, tier });
    }
    for (const blocks of planned) blocks.sort((a, b) => a.block - b.block || a.group - b.group);
    return planned.map((blocks) => ({ blocks, deadline }));
  }

  /** Begins a load of a connector. Throws `RefusedError`. */
  begin(
    connector: number,
    pages: readonly number[],
    ids: readonly number[],
    afterStep: number,
  ): FlightId {
    try {
      return this.#begin(connector, pages, ids, afterStep);
    } catch (thrown) {
      if (thrown instanceof RefusedError) this.#refused(connector, ids, thrown.code);
      throw thrown;
    }
  }

  #begin(
    connector: number,
    pages: readonly number[],
    ids: readonly number[],
    afterStep: number,
  ): FlightId {
    Flights.check(ids, pages);
    const targets = ids.map((id, i) => {
      const loading = this.blocks.get(id);
      if (loading === undefined || loading.connector !== connector || loading.flight !== undefined)
        throw new RefusedError("notHeld", `block ${id} is in no open plan of the connector`);
      const page = pages[i] as number;
      if (this.#pages.keyOf(page) !== loading.key) {
        const why = this.#pages.isOlder(page)
          ? "was filled before the cache was reset: what is older counts for nothing"
          : `does not hold the content of block ${id}`;
        throw new RefusedError("stale", `page ${page} ${why}`);
      }
      return loading;
    });
    const keys = targets.map(({ key }) => key);
    const flight = this.#flights.begin("load", connector, ids, pages, keys, afterStep);
    for (const loading of targets) loading.flight = flight;
    this.#targets.set(flight, targets);
    return flight;
  }

  #refused(connector: number, ids: readonly number[], code: RefusalCode): void {
    this.numRefused += ids.length;
    for (const id of ids) {
      const loading = this.blocks.get(id);
      if (loading?.connector === connector) loading.refusal = code;
    }
  }

  /** The sequence waits for nothing any more. What is in flight goes on; what is not is nobody's. */
  letGo(sequence: Sequence): void {
    for (const table of sequence.blocks.tables) {
      for (const [block, id] of table.entries.entries()) {
        if (!table.isLoading(block)) continue;
        const loading = this.blocks.get(id);
        if (loading === undefined) continue;
        this.blocks.leave(loading, sequence);
        if (loading.waiters.length === 0 && loading.flight === undefined)
          this.blocks.remove(loading);
      }
    }
  }

  /** A load has ended: its blocks are published or given up, and it holds them no more. */
  landed({ flight, failed }: EndedFlight, isStale: boolean): void {
    const targets = this.#targets.get(flight.id) ?? [];
    this.#targets.delete(flight.id);
    for (const { key } of targets) this.blocks.givenUp.delete(key);
    const lost: LoadingBlock[] = [];
    for (const [i, loading] of targets.entries()) {
      if (isStale || failed.has(i)) lost.push(loading);
      else this.#arrived(loading);
    }
    this.numFailed += lost.length;
    this.#giveUp(lost);
    this.#flights.release(flight);
  }

  /** Gives up the blocks that `isLost` names. Answers them. */
  drop(isLost: (loading: LoadingBlock) => boolean): readonly LoadingBlock[] {
    const late = [...this.blocks.all()].filter(isLost);
    for (const id of new Set(late.map(({ flight }) => flight))) {
      const flight = id === undefined ? undefined : this.#flights.get(id);
      if (flight !== undefined) this.#flights.cancel(flight);
    }
    for (const { flight, key } of late) {
      const hangs = flight !== undefined && this.#flights.get(flight)?.isCancelled === false;
      if (hangs) this.blocks.givenUp.add(key);
    }
    this.numGivenUp += late.length;
    this.#giveUp(late);
    return late;
  }

  /** Whether the block is one that the connector is to fill with this content, and has begun no load of. */
  isAwaited(connector: number, id: number, key: BlockKey): boolean {
    const loading = this.blocks.get(id);
    if (loading === undefined || loading.flight !== undefined) return false;
    return loading.connector === connector && loading.key === key && !this.#declined.has(loading);
  }

  /** A connector cannot bring these blocks of its open plans. Throws `notHeld`, and changes nothing, for one that is in none. */
  decline(connector: number, ids: readonly number[]): void {
    const blocks = ids.map((id) => {
      const loading = this.blocks.get(id);
      if (loading !== undefined && this.isAwaited(connector, id, loading.key)) return loading;
      throw new RefusedError("notHeld", `block ${id} is in no open plan of the connector`);
    });
    for (const loading of blocks) this.#declined.add(loading);
  }

  /** Outside of any hook: what was declined is computed. Answers whether there was any. */
  dropDeclined(): boolean {
    if (this.#declined.size === 0) return false;
    const declined = this.#declined;
    this.#declined = new Set();
    this.drop((loading) => declined.has(loading));
    return true;
  }

  /** How many tokens entries bring, by tier. A block that is loading in several groups counts once. */
  tokensByTier(entries: readonly LoadingEntry[]): Record<string, number> {
    const tokens: Record<string, number> = {};
    const counted = new Set<number>();
    for (const { block, id } of entries) {
      const tier = this.blocks.get(id)?.tier;
      if (tier === undefined || counted.has(block)) continue;
      counted.add(block);
      tokens[tier] = (tokens[tier] ?? 0) + this.#side.kv.blockSize;
    }
    return tokens;
  }

  /** Gives up the blocks whose time is over. Answers them. */
  dropLate(now: number): readonly LoadingBlock[] {
    const late = this.drop(({ deadline }) => deadline <= now);
    this.numBroken += late.filter(({ flight }) => flight === undefined).length;
    return late;
  }

  /** Cancels loads that nobody waits for and that have not started. */
  cancelUnwanted(): void {
    for (const [id, targets] of this.#targets) {
      const flight = this.#flights.get(id);
      if (flight === undefined || targets.some(({ waiters }) => waiters.length > 0)) continue;
      if (this.#flights.cancel(flight)) this.#giveUp(targets);
    }
  }

  /** When the next block is given up; Infinity = none is awaited. */
  nextDeadline(): number {
    let next = Infinity;
    for (const { deadline } of this.blocks.all()) next = Math.min(next, deadline);
    return next;
  }

  /** Blocks that flights hold, once for each flight. */
  heldIds(): number[] {
    const ids: number[] = [];
    for (const flight of this.#flights.all()) if (holdsBlocks(flight)) ids.push(...flight.blocks);
    return ids;
  }

  /** Throws `internal` unless each block is loading for somebody, or in flight. */
  checkIntegrity(): void {
    for (const { id, waiters, flight } of this.blocks.all()) {
      if (waiters.length === 0 && flight === undefined)
        throw new KvEngineError("internal", `block ${id} is loading for nobody`);
    }
  }

  #promise(
    { blocks }: Sequence,
    block: number,
    group: number,
    id: number,
    offers: BlockOffers,
    deadline: number,
  ): LoadingBlock {
    const at = block * HASH_WORDS;
    const loading: LoadingBlock = {
      id,
      group,
      hash: blocks.hashes.slice(at, at + HASH_WORDS),
      key: blockKey(blocks.hashes, at, group),
      ...offers.offerOf(block, group),
      deadline,
      waiters: [],
      flight: undefined,
      refusal: undefined,
    };
    this.numPromised++;
    this.blocks.add(loading);
    return loading;
  }

  #arrived(loading: LoadingBlock): void {
    const { id, group, hash, waiters, connector, tier } = loading;
    const { kv, committedStep } = this.#side;
    if (this.blocks.get(id) === loading) this.blocks.remove(loading);
    this.numArrived++;
    this.#counts.arrived(connector, "load", tier, this.#pageBytes);
    if (!kv.pool.isHashed(id)) kv.pool.insert(id, hash, 0, group, committedStep());
    for (const { sequence, block } of waiters.splice(0)) {
      kv.arrived(sequence.blocks, block, group);
      this.#side.resume(sequence);
    }
  }

  #giveUp(blocks: readonly LoadingBlock[]): void {
    const waiting = new Set<Sequence>();
    for (const loading of blocks) {
      if (this.blocks.get(loading.id) === loading) this.blocks.remove(loading);
      for (const { sequence } of loading.waiters.splice(0)) waiting.add(sequence);
    }
    for (const sequence of waiting) this.#side.computeInstead(sequence);
  }
}

function holdsBlocks({ kind, isCancelled }: Flight): boolean {
  return kind === "load" && !isCancelled;
}
