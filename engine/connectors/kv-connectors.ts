/**
 * The KV connectors as the scheduler has them: who can bring which block, whether that is worth it, what is on its way, what was
 * stored, and what all of it holds. What to store, and where to, is the connectors' own.
 */

import type {
  FlightId,
  KvEvent,
  LoadPlan,
  TransferRates,
  TransferResult,
} from "../../connectors/connector.ts";
import { RefusedError } from "../../connectors/connector.ts";
import { blockKey } from "../cache/block-key.ts";
import type { LoadingEntry } from "../cache/kv-cache.ts";
import type { PageTransfers } from "../cache/page-transfers.ts";
import { KvEngineError } from "../errors.ts";
import type { SchedulerConnectors, SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { Sequence } from "../scheduler/sequence.ts";
import { BlockOffers } from "./block-offers.ts";
import { CompletedBlocks } from "./completed-blocks.ts";
import type { ConnectorCalls } from "./connector-calls.ts";
import { type EndedFlight, Flights, resultOf } from "./flights.ts";
import { HostPages } from "./host-pages.ts";
import { Ledgers, type LedgerOptions } from "./ledgers.ts";
import { decideLoad } from "./load-cost.ts";
import { Loads } from "./loads.ts";
import { SequenceView } from "./request-view.ts";

export interface KvConnectorsOptions extends LedgerOptions {
  /** How long a look-up may stay `pending`, in milliseconds: then it is a miss. */
  readonly lookupTimeoutMs: number;
  /** How long a request waits for planned blocks. */
  readonly loadTimeoutMs: number;
  /** Most blocks of one connector in flight. */
  readonly maxFlying: number;
  /** What happened to a connector's copies, after each commit. */
  readonly onEvents?: (connector: string, events: readonly KvEvent[]) => void;
}

/** How long a connector that did not bring its blocks in time is not asked again: doubled each time, up to the second. */
const LEAST_BACKOFF_MS = 1_000;
const MOST_BACKOFF_MS = 60_000;
const STORE_WEIGHT = 0.1;
/** Rates until the first transfers have ended: those of a slow memory, and of a slow processor. */
const FIRST_BYTES_PER_SECOND = 1e9;
const FIRST_MS_PER_TOKEN = 1;

export class KvConnectors implements SchedulerConnectors {
  readonly coming: BlockOffers;
  readonly pages: HostPages;
  readonly flights: Flights;
  readonly loads: Loads;
  readonly ledgers: Ledgers;
  readonly isLoading: (id: number) => boolean;
  readonly #side: SchedulerSide;
  readonly #calls: ConnectorCalls;
  readonly #transfers: PageTransfers;
  readonly #options: KvConnectorsOptions;
  readonly #completed: CompletedBlocks;
  readonly #views = new WeakMap<Sequence, SequenceView>();
  /** Requests whose look-up is not answered, and since when. */
  readonly #pending = new Map<Sequence, number>();
  /** Requests whose look-up took too long: it is a miss, and stays one. */
  readonly #overdue = new WeakSet<Sequence>();
  readonly #backoffs: { until: number; ms: number }[];
  readonly #isDisabled: boolean[];
  #numAllocated = 0;
  /** From the call to the result: a moving average. */
  #storeMs = 0;
  /** Times that it was decided to load, to compute, or both; for metrics. */
  readonly decisions = { load: 0, compute: 0, both: 0 };

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
    this.ledgers = new Ledgers(numConnectors, side, options);
    this.pages = new HostPages(transfers.numPages, () => transfers.numReady);
    this.flights = new Flights(
      kv,
      this.pages,
      transfers,
      numConnectors,
      options.maxFlying,
      side.now,
    );
    this.loads = new Loads(side, this.flights, this.pages, options.loadTimeoutMs);
    this.coming = new BlockOffers(kv.pool, this.loads.blocks, kv.groups.length, kv.blockSize);
    this.isLoading = (id) => this.loads.blocks.has(id);
    this.#completed = new CompletedBlocks(kv.pool);
    this.#backoffs = Array.from({ length: numConnectors }, () => ({ until: -Infinity, ms: 0 }));
    this.#isDisabled = Array.from({ length: numConnectors }, () => false);
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
    let next = Math.min(this.loads.nextDeadline(), this.ledgers.nextDeadline());
    for (const since of this.#pending.values())
      next = Math.min(next, since + this.#options.lookupTimeoutMs);
    return next;
  }

  get pageBytes(): number {
    return this.#transfers.pageBytes;
  }

  /** What transfers have cost lately. */
  get rates(): TransferRates {
    const stats = this.#transfers.stats();
    return {
      loadBytesPerSecond: stats.loadBytesPerSecond,
      storeBytesPerSecond: stats.storeBytesPerSecond,
      latencyMs: stats.loadLatencyMicros / 1000,
      storeMs: this.#storeMs,
    };
  }

  heldIds(): number[] {
    return [...this.ledgers.heldIds(), ...this.loads.heldIds()];
  }

  viewOf(sequence: Sequence): SequenceView {
    let view = this.#views.get(sequence);
    if (view === undefined) {
      view = new SequenceView(sequence, this.#side.kv.groups.length);
      this.#views.set(sequence, view);
    }
    return view;
  }

  /** Copies blocks of the device that are complete to pages of a connector. Throws `RefusedError`. */
  store(connector: number, ids: readonly number[], pages: readonly number[]): FlightId {
    Flights.check(ids, pages);
    const { kv, committedStep } = this.#side;
    const keys = ids.map((id) => {
      if (id === 0) throw new RefusedError("null", "block 0 is the null block");
      if (!(Number.isInteger(id) && id > 0 && id < kv.pool.numBlocks))
        throw new RefusedError("invalid", `${id} is no block`);
      const hash = kv.pool.hashOf(id);
      if (hash === undefined || kv.pool.publishedStep(id) > committedStep())
        throw new RefusedError("stale", `block ${id} has no content that a connector may see`);
      return blockKey(hash, 0, kv.pool.groupOf(id) ?? 0);
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
    this.#isDisabled[connector] = true;
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
    const isLeftOut = (connector: number): boolean => now < this.#backoffs[connector]!.until;
    offers.open(sequence.blocks.hashes, numBlocks, numDeviceBlocks, isLeftOut);
    const isPending = this.#calls.findBlocks(view, view, offers) === "pending";
    if (isPending && this.#mayWait(sequence, now)) return "pending";
    this.#pending.delete(sequence);
    return offers.numMarked > 0 || this.loads.blocks.size > 0 ? "some" : "none";
  }

  /** Whether a request whose look-up is not answered waits on. */
  #mayWait(sequence: Sequence, now: number): boolean {
    if (this.#overdue.has(sequence)) return false;
    const since = this.#pending.get(sequence);
    if (since === undefined) this.#pending.set(sequence, now);
    else if (now - since >= this.#options.lookupTimeoutMs) this.#overdue.add(sequence);
    return !this.#overdue.has(sequence);
  }

  firstToLoad(numDeviceBlocks: number, numBlocks: number, numToLoad: number): number {
    const { kv, microsPerPromptToken, queuedPromptTokens } = this.#side;
    const stats = this.#transfers.stats();
    const numMissing = numBlocks - numDeviceBlocks;
    if (numMissing <= 0 || numToLoad === 0) return numBlocks;
    const { numComputed } = decideLoad({
      numTokens: numMissing * kv.blockSize,
      blockSize: kv.blockSize,
      bytesPerBlock: (numToLoad / numMissing) * this.#transfers.pageBytes,
      loadBytesPerSecond:
        stats.loadBytesPerSecond || stats.storeBytesPerSecond || FIRST_BYTES_PER_SECOND,
      loadLatencyMs: stats.loadLatencyMicros / 1000,
      queuedLoadBytes: stats.pendingLoadBytes,
      msPerPromptToken: microsPerPromptToken() / 1000 || FIRST_MS_PER_TOKEN,
      queuedPromptTokens: queuedPromptTokens(),
    });
    this.decisions[numComputed === 0 ? "load" : numComputed === numMissing ? "compute" : "both"]++;
    return numDeviceBlocks + numComputed;
  }

  admitted(sequence: Sequence, entries: readonly LoadingEntry[]): Readonly<Record<string, number>> {
    this.#pending.delete(sequence);
    const plans = this.loads.plan(sequence, entries, this.coming, this.#calls.numConnectors);
    const tokensByTier = this.#tokensByTier(entries);
    this.#calls.afterAlloc(this.viewOf(sequence), (place) => plans[place] as LoadPlan);
    return tokensByTier;
  }

  letGo(sequence: Sequence): void {
    if (sequence.blocks.numLoading > 0) this.loads.letGo(sequence);
  }

  preempted(sequence: Sequence): void {
    this.#calls.preempted([sequence.id]);
  }

  finished(sequence: Sequence): Readonly<Record<string, unknown>> | undefined {
    this.#pending.delete(sequence);
    const blocks = sequence.blocks.tables.map(({ entries }) => Array.from(entries));
    return this.#calls.finished(this.viewOf(sequence), blocks);
  }

  completed(id: number): void {
    this.#completed.add(id);
  }

  relieve(numBlocks: number, mayRecall: boolean): number {
    const { pool } = this.#side.kv;
    const enough = pool.numFree + numBlocks;
    const soon = this.flights.cancelStores(numBlocks);
    if (pool.numFree < enough) this.loads.cancelUnwanted();
    if (mayRecall && pool.numFree < enough && this.ledgers.numHeld > 0) {
      const deadline = this.ledgers.recall();
      if (deadline !== undefined) this.#calls.pressure(enough - pool.numFree, deadline);
    }
    // What becomes free is for those who lack it: no store begins before they were looked at again.
    this.flights.isPressed = pool.numFree < enough;
    return soon;
  }

  settle(): void {
    this.#endDisabled();
    const { numConnectors } = this.#calls;
    const results: TransferResult[][] = Array.from({ length: numConnectors }, () => []);
    for (const ended of this.flights.takeEnded()) {
      const isStale = ended.flight.generation !== this.#side.kv.generation;
      if (ended.flight.kind === "store") this.#stored(ended, isStale);
      else this.#landed(ended, isStale);
      results[ended.flight.connector]!.push(resultOf(ended, isStale));
    }
    for (const [connector, some] of results.entries())
      if (some.length > 0) this.#calls.transfersEnded(connector, some);
    const now = this.#side.now();
    this.ledgers.expire();
    for (const { connector } of this.loads.drop(({ deadline }) => deadline <= now))
      this.#backOff(connector, now);
  }

  committed(): void {
    for (const { connector, events } of this.#calls.takeEvents())
      this.#options.onEvents?.(connector, events);
  }

  scheduled(stepId: number, numTokens: number): boolean {
    const { pool } = this.#side.kv;
    const { numAllocated } = pool;
    const numAllocatedBlocks = numAllocated - this.#numAllocated;
    this.#numAllocated = numAllocated;
    this.#calls.buildMeta({
      stepId,
      numScheduledTokens: numTokens,
      numAllocatedBlocks,
      completed: this.#completed.take(),
    });
    this.flights.isPressed = false;
    return this.#endDisabled();
  }

  reset(generation: number): void {
    this.loads.drop(() => true);
    for (const flight of this.flights.all()) this.flights.cancel(flight);
    this.#calls.reset(generation);
  }

  checkIntegrity(): void {
    this.ledgers.checkIntegrity();
    for (const { id, waiters, flight } of this.loads.blocks.all()) {
      if (waiters.length === 0 && flight === undefined)
        throw new KvEngineError("internal", `block ${id} is loading for nobody`);
    }
  }

  /** A block that is loading in several groups counts once. */
  #tokensByTier(entries: readonly LoadingEntry[]): Record<string, number> {
    const tokens: Record<string, number> = {};
    const counted = new Set<number>();
    for (const { block, id } of entries) {
      const tier = this.loads.blocks.get(id)?.tier;
      if (tier === undefined || counted.has(block)) continue;
      counted.add(block);
      tokens[tier] = (tokens[tier] ?? 0) + this.#side.kv.blockSize;
    }
    return tokens;
  }

  #stored({ flight, failed }: EndedFlight, isStale: boolean): void {
    if (isStale || flight.isCancelled) return;
    this.#storeMs += STORE_WEIGHT * (this.#side.now() - flight.beganAt - this.#storeMs);
    const { pool } = this.#side.kv;
    const safe: number[] = [];
    for (const [i, id] of flight.blocks.entries()) {
      if (failed.has(i)) continue;
      const key = flight.keys[i];
      this.pages.setKey(flight.pages[i] as number, key);
      const hash = pool.hashOf(id);
      if (hash !== undefined && blockKey(hash, 0, pool.groupOf(id) ?? 0) === key) safe.push(id);
    }
    this.ledgers.markSafe(flight.connector, safe);
  }

  #landed(ended: EndedFlight, isStale: boolean): void {
    this.loads.landed(ended, isStale);
    if (ended.failed.size === 0 && !isStale) this.#backoffs[ended.flight.connector]!.ms = 0;
  }

  #backOff(connector: number, now: number): void {
    const backoff = this.#backoffs[connector]!;
    if (now < backoff.until) return;
    backoff.ms = Math.min(MOST_BACKOFF_MS, Math.max(LEAST_BACKOFF_MS, backoff.ms * 2));
    backoff.until = now + backoff.ms;
  }

  /** Outside of any hook: what disabled connectors held and promised ends. Answers whether there were any. */
  #endDisabled(): boolean {
    let any = false;
    for (const [connector, isDisabled] of this.#isDisabled.entries()) {
      if (!isDisabled) continue;
      this.#isDisabled[connector] = false;
      any = true;
      this.ledgers.disable(connector);
      this.loads.drop((loading) => loading.connector === connector && loading.flight === undefined);
      this.pages.freeAll(connector);
    }
    return any;
  }
}
