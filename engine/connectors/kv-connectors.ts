/**
 * The KV connectors as the scheduler has them: who can bring which block, whether that is worth it, what is on its way, what was
 * stored, and what all of it holds. What to store, and where to, is the connectors' own.
 */

import type {
  FlightId,
  LoadPlan,
  TransferRates,
  TransferResult,
} from "../../connectors/connector.ts";
import { RefusedError } from "../../connectors/connector.ts";
import { readBlockIds } from "../cache/block-ids.ts";
import { BlockKeys } from "../cache/block-keys.ts";
import type { LoadingEntry } from "../cache/kv-cache.ts";
import type { PageTransfers } from "../cache/page-transfers.ts";
import type { HostPoolState } from "../request.ts";
import type { SchedulerConnectors, SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { Sequence } from "../scheduler/sequence.ts";
import { Backoffs } from "./backoffs.ts";
import { BlockOffers } from "./block-offers.ts";
import { CompletedBlocks } from "./completed-blocks.ts";
import type { ConnectorCalls } from "./connector-calls.ts";
import { type EndedFlight, Flights, resultOf } from "./flights.ts";
import { HostPages } from "./host-pages.ts";
import { lateTexts } from "./late-loads.ts";
import type { KvConnectorsOptions } from "./kv-connectors-options.ts";
import { Ledgers } from "./ledgers.ts";
import { decideLoad } from "./load-cost.ts";
import { Loads } from "./loads.ts";
import { PageFiles } from "./page-files.ts";
import { Swaps } from "./swaps.ts";
import { PendingLookUps } from "./pending-look-ups.ts";
import { ContentMoves } from "./sessions/content-moves.ts";
import { type SequenceView, SequenceViews } from "./request-view.ts";
import { computeCostOf, TierSide } from "./tiers/tier-side.ts";
import { TransferCounts } from "./transfer-counts.ts";
import { hostPoolOf, loadRateOf, ratesOf } from "./transfer-rates.ts";

/** Where stores go: pages of the host. */
const STORE_TIER = "host";
/** A store that takes long counts at once and is forgotten slowly: what is to be stored in time must reckon with the next one. */
const STORE_WEIGHT = 0.02;

export class KvConnectors implements SchedulerConnectors {
  readonly coming: BlockOffers;
  readonly pages: HostPages;
  readonly flights: Flights;
  readonly loads: Loads;
  readonly ledgers: Ledgers;
  readonly isLoading: (id: number) => boolean;
  readonly tiers: TierSide = new TierSide();
  readonly files: PageFiles;
  readonly swaps: Swaps;
  /** What is moved outside of requests. */
  readonly moves: ContentMoves;
  readonly #side: SchedulerSide;
  readonly #keys: BlockKeys;
  readonly #calls: ConnectorCalls;
  readonly #transfers: PageTransfers;
  readonly #options: KvConnectorsOptions;
  readonly #completed: CompletedBlocks;
  readonly #views: SequenceViews;
  readonly #pending: PendingLookUps;
  readonly #backoffs: Backoffs;
  /** Disabled in the middle of hooks: what they held and promised is still to end. */
  readonly #newlyDisabled: number[] = [];
  #numAllocated = 0;
  #isClosed = false;
  /** From the call to the result. */
  #storeMs = 0;
  /** For metrics: times that it was decided to load, to compute, or both; what flights came to. */
  readonly decisions = { load: 0, compute: 0, both: 0 };
  readonly counts: TransferCounts;

  constructor(
    side: SchedulerSide,
    calls: ConnectorCalls,
    transfers: PageTransfers,
    options: KvConnectorsOptions,
  ) {
    const { kv } = side;
    const { numConnectors } = calls;
    this.#side = side;
    this.#calls = calls;
    this.#transfers = transfers;
    this.#options = options;
    this.#keys = new BlockKeys(kv.pool);
    this.ledgers = new Ledgers(numConnectors, side, this.#keys, options);
    this.pages = new HostPages(transfers.numPages, () => transfers.numReady);
    this.swaps = new Swaps(side, this.ledgers, this.pages, transfers);
    this.counts = new TransferCounts(numConnectors);
    this.flights = new Flights(
      kv,
      this.pages,
      transfers,
      this.counts,
      numConnectors,
      options.maxFlying,
      side.now,
    );
    this.files = new PageFiles(transfers, this.flights, this.pages, options.fingerprint);
    const isGrowing = (): boolean => this.hostPool.isGrowing;
    const tools = { transfers, flights: this.flights, pages: this.pages, isGrowing };
    this.moves = new ContentMoves(tools, side.now, options.wake);
    this.loads = new Loads(side, this.flights, this.pages, this.counts, {
      pageBytes: transfers.pageBytes,
      timeoutMs: options.loadTimeoutMs,
    });
    this.coming = new BlockOffers(kv.pool, this.loads.blocks, kv.groups.length, kv.blockSize);
    this.isLoading = (id) => this.loads.blocks.has(id);
    this.#completed = new CompletedBlocks(kv.pool);
    this.#views = new SequenceViews(kv.groups.length);
    this.#pending = new PendingLookUps(options.lookupTimeoutMs);
    this.#backoffs = new Backoffs(numConnectors);
  }

  get isBusy(): boolean {
    return (
      this.flights.length > 0 ||
      this.loads.blocks.size > 0 ||
      this.#pending.size > 0 ||
      this.ledgers.numHeld > 0
    );
  }

  nextDeadline(): number {
    return Math.min(
      this.loads.nextDeadline(),
      this.ledgers.nextDeadline(),
      this.#pending.nextDeadline,
      this.tiers.nextDeadline,
      this.flights.nextSwapEnd,
      this.moves.nextDeadline,
    );
  }

  get hostPool(): HostPoolState {
    return hostPoolOf(this.#transfers, this.pages);
  }

  get pageBytes(): number {
    return this.#transfers.pageBytes;
  }

  /** What transfers have cost lately. */
  get rates(): TransferRates {
    // A slow one is not waited for to be known.
    return ratesOf(this.#transfers, Math.max(this.#storeMs, this.flights.oldestStoreMs));
  }

  heldIds(): number[] {
    return [...this.ledgers.heldIds(), ...this.loads.heldIds()];
  }

  viewOf(sequence: Sequence): SequenceView {
    return this.#views.of(sequence);
  }

  /** Copies blocks of the device that are complete to pages of a connector. Throws `RefusedError`. */
  store(connector: number, ids: readonly number[], pages: readonly number[]): FlightId {
    Flights.check(ids, pages);
    const { kv, committedStep } = this.#side;
    const keys = Array.from(readBlockIds(ids, kv.pool.numBlocks), (id) => {
      const key = kv.pool.publishedStep(id) > committedStep() ? undefined : this.#keys.of(id);
      if (key === undefined)
        throw new RefusedError("stale", `block ${id} has no content that a connector may see`);
      return key;
    });
    const flight = this.flights.begin("store", connector, ids, pages, keys, committedStep());
    for (const page of pages) this.pages.setKey(page, undefined);
    return flight;
  }

  /** Brings pages of a connector into blocks that it has promised. Throws `RefusedError`. */
  load(connector: number, pages: readonly number[], ids: readonly number[]): FlightId {
    return this.loads.begin(connector, pages, ids, this.#side.committedStep());
  }

  /** A connector is called no more: it holds nothing from now on, and what it promised is computed. */
  disable(connector: number): void {
    this.#newlyDisabled.push(connector);
  }

  /** Whether the connectors were shut down. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** No connector is called any more: what they hold ends, and every call of theirs is refused. */
  close(): void {
    this.#isClosed = true;
    this.moves.close();
    for (let connector = 0; connector < this.#calls.numConnectors; connector++)
      this.ledgers.disable(connector);
  }

  added(sequence: Sequence): void {
    this.#calls.newRequest(this.viewOf(sequence));
  }

  lookUp(
    sequence: Sequence,
    maxBlocks: number,
    numDeviceBlocks: number,
  ): "some" | "none" | "pending" {
    const now = this.#side.now();
    const offers = this.coming;
    const view = this.viewOf(sequence);
    const numBlocks = Math.min(maxBlocks, sequence.blocks.numHashes);
    const isLeftOut = (connector: number): boolean => this.#backoffs.isWaiting(connector, now);
    offers.open(sequence.blocks.hashes, numBlocks, numDeviceBlocks, isLeftOut);
    const isPending = this.#calls.findBlocks(view, view, offers) === "pending";
    const onOverdue = (ms: number): void => this.#calls.lookUpOverdue(ms);
    if (isPending && this.#pending.mayWait(sequence, now, onOverdue)) return "pending";
    this.#pending.end(sequence);
    this.tiers.weigh(offers, () => computeCostOf(this.#side, this.pageBytes));
    return offers.numMarked > 0 || this.loads.blocks.size > 0 ? "some" : "none";
  }

  firstToLoad(
    numDeviceBlocks: number,
    numBlocks: number,
    numToLoad: number,
    numLoading: number,
  ): number {
    const { kv } = this.#side;
    const stats = this.#transfers.stats();
    const numMissing = numBlocks - numDeviceBlocks;
    if (numMissing <= 0 || numToLoad + numLoading === 0) return numBlocks;
    const bytes = numToLoad * this.pageBytes;
    const rate = loadRateOf(stats);
    const { numComputed } = decideLoad({
      ...computeCostOf(this.#side, this.pageBytes),
      numTokens: numMissing * kv.blockSize,
      bytesPerBlock: bytes / numMissing,
      loadBytesPerSecond: this.tiers.rateOf(bytes, rate),
      loadLatencyMs: stats.loadLatencyMicros / 1000 + this.tiers.latencyMs,
      // Those of the blocks that are loading for others among them.
      queuedLoadBytes: stats.pendingLoadBytes,
    });
    this.decisions[numComputed === 0 ? "load" : numComputed === numMissing ? "compute" : "both"]++;
    return numDeviceBlocks + numComputed;
  }

  admitted(sequence: Sequence, entries: readonly LoadingEntry[]): Readonly<Record<string, number>> {
    this.#pending.end(sequence);
    const plans = this.loads.plan(sequence, entries, this.coming, this.#calls.numConnectors);
    const tokensByTier = this.loads.tokensByTier(entries);
    this.#calls.afterAlloc(this.viewOf(sequence), (place) => plans[place] as LoadPlan);
    return tokensByTier;
  }

  letGo(sequence: Sequence): void {
    if (sequence.blocks.numLoading > 0) this.loads.letGo(sequence);
  }

  preempted(sequence: Sequence): void {
    const { msPerPromptToken } = computeCostOf(this.#side, this.pageBytes);
    const isSwap = this.swaps.decide(sequence, msPerPromptToken) === "swap";
    // Its blocks are what requests lack now: a copy begins at once, and they wait for it.
    this.flights.isSwapping = isSwap;
    this.#calls.preempted([sequence.id], [isSwap]);
    this.flights.isSwapping = false;
  }

  finished(sequence: Sequence): Readonly<Record<string, unknown>> | undefined {
    this.#pending.end(sequence);
    const blocks = sequence.blocks.tables.map(({ entries }) => Array.from(entries));
    return this.#calls.finished(this.viewOf(sequence), blocks);
  }

  completed(id: number): void {
    this.#completed.add(id);
  }

  relieve(numBlocks: number, mayRecall: boolean): number {
    const { pool } = this.#side.kv;
    const enough = pool.numFree + numBlocks;
    // Stores are given up where that is of use: for those who wait for others' blocks anyway, what is stored now need not be later.
    const isOfUse = mayRecall || this.flights.mayRelieve(numBlocks);
    const soon = isOfUse ? this.flights.cancelStores(numBlocks) : pool.numFlying;
    if (pool.numFree < enough) this.loads.cancelUnwanted();
    if (mayRecall && pool.numFree < enough && this.ledgers.numHeld > 0) {
      const deadline = this.ledgers.recall();
      if (deadline !== undefined) this.#calls.pressure(enough - pool.numFree, deadline);
    }
    // What becomes free is for those who lack it: no store begins before they were looked at again.
    this.flights.isPressed = isOfUse && pool.numFree < enough;
    return soon;
  }

  settle(): void {
    this.#endDisabled();
    this.tiers.settle(this.#side.now());
    this.loads.dropDeclined();
    if (this.flights.length > 0) this.flights.report(this.#transfers.takeResults());
    if (this.flights.numEnded + this.files.numEnded > 0) this.#settleFlights();
    this.ledgers.expire((connector, count) => {
      const text = `left ${count} touches of blocks to end at their deadline`;
      this.#calls.fault(connector, "held", undefined, text);
    });
    if (this.loads.blocks.size > 0) this.#dropLate(this.#side.now());
  }

  #settleFlights(): void {
    const { numConnectors } = this.#calls;
    const results: TransferResult[][] = Array.from({ length: numConnectors }, () => []);
    for (const ended of this.flights.takeEnded()) {
      const isStale = ended.flight.generation !== this.#side.kv.generation;
      if (ended.flight.kind === "store") this.#stored(ended, isStale);
      else this.#landed(ended, isStale);
      results[ended.flight.connector]!.push(resultOf(ended, isStale));
    }
    for (const { connector, result } of this.files.takeEnded()) results[connector]!.push(result);
    for (const [connector, some] of results.entries())
      if (some.length > 0) this.#calls.transfersEnded(connector, some);
  }

  committed(): void {
    for (const { connector, events } of this.#calls.takeEvents())
      this.#options.onEvents?.(connector, events);
  }

  scheduled(stepId: number, numTokens: number, numInFlight: number): boolean {
    const { pool } = this.#side.kv;
    const { numAllocated } = pool;
    const numAllocatedBlocks = numAllocated - this.#numAllocated;
    this.#numAllocated = numAllocated;
    this.moves.work();
    this.#calls.buildMeta({
      stepId,
      numScheduledTokens: numTokens,
      numInFlight,
      numAllocatedBlocks,
      completed: this.#completed.take(),
    });
    this.flights.scheduled(stepId >= 0);
    this.ledgers.scheduled();
    // No commit follows soon.
    if (stepId < 0) this.committed();
    return [this.loads.dropDeclined(), this.#endDisabled()].includes(true);
  }

  reset(generation: number, resetExternal: boolean): void {
    this.loads.drop(() => true);
    for (const flight of this.flights.all()) this.flights.cancel(flight);
    if (resetExternal) this.pages.forgetContents();
    if (resetExternal) this.#calls.reset(generation);
  }

  checkIntegrity(): void {
    this.ledgers.checkIntegrity();
    this.loads.checkIntegrity();
  }

  #stored({ flight, failed }: EndedFlight, isStale: boolean): void {
    if (flight.isCancelled) return;
    const bytes = (flight.blocks.length - failed.size) * this.pageBytes;
    this.counts.arrived(flight.connector, "store", STORE_TIER, bytes);
    if (isStale) return;
    const ms = this.#side.now() - flight.beganAt;
    this.#storeMs = Math.max(ms, this.#storeMs + STORE_WEIGHT * (ms - this.#storeMs));
    const safe: number[] = [];
    for (const [i, id] of flight.blocks.entries()) {
      if (failed.has(i)) continue;
      const key = flight.keys[i];
      this.pages.setKey(flight.pages[i] as number, key);
      if (this.#keys.of(id) === key) safe.push(id);
    }
    this.ledgers.markSafe(flight.connector, safe);
  }

  #landed(ended: EndedFlight, isStale: boolean): void {
    this.loads.landed(ended, isStale);
    if (ended.failed.size === 0 && !isStale) this.#backoffs.worked(ended.flight.connector);
  }

  /** What did not come in time is computed, and whoever promised it is not asked for a while. */
  #dropLate(now: number): void {
    for (const [connector, text] of lateTexts(this.loads.dropLate(now))) {
      const wait = `it is not asked for ${this.#backoffs.late(connector, now) - now} ms`;
      if (text === undefined) continue;
      this.#calls.fault(connector, "late", "findBlocks", `${text}: they are computed, and ${wait}`);
    }
  }

  /** Outside of any hook: what disabled connectors held and promised ends. Answers whether there were any. */
  #endDisabled(): boolean {
    if (this.#newlyDisabled.length === 0) return false;
    for (const connector of this.#newlyDisabled.splice(0)) {
      this.ledgers.disable(connector);
      this.loads.drop((loading) => loading.connector === connector && loading.flight === undefined);
      this.pages.freeAll(connector);
    }
    return true;
  }
}
