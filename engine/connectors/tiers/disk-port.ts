/**
 * The native disk store as the tiered connector has it: host pages and keys are named here, and native threads move the bytes. A move that
 * does not end in time is given up (cancelled if it had not begun); its host pages are in use until it has ended all the same.
 */

import type { BlockKey, PageId } from "../../../connectors/connector.ts";
import type { TierDriving } from "../../../connectors/tier-options.ts";
import type { TierOutcome, TierPort, TierResult } from "../../../connectors/tier-port.ts";
import type { DiskStore } from "../../cache/disk-store.ts";
import type { FlightResult, PageTransfers } from "../../cache/page-transfers.ts";
import { toKvEngineError } from "../../errors.ts";
import type { Flights } from "../flights.ts";
import type { HostPages } from "../host-pages.ts";
import type { LogLine } from "../connector-log.ts";
import { DiskWeights } from "./disk-weights.ts";
import type { SlowLink } from "./slow-link.ts";
import { TierRates } from "./tier-rates.ts";

export interface DiskPortTools {
  readonly disk: DiskStore;
  readonly transfers: Pick<PageTransfers, "cancel" | "pageBytes">;
  readonly flights: Pick<Flights, "beginOther">;
  readonly pages: HostPages;
  /** Place of the connector whose pages it moves. */
  readonly connector: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly log: LogLine;
  /** Where the disk is to be slow. */
  readonly link?: SlowLink | undefined;
  /** These are on the disk since now, in time or late. */
  readonly onStored?: (keys: readonly BlockKey[]) => void;
  /** There are results. */
  readonly wake: () => void;
}

type Kind = TierResult["kind"];

/** Pages of one load: the first go on to the device while the next are read. */
const MOST_OF_LOAD = 8;
/** Of the host's pages, those that stores under way may hold: what a slow disk holds, the host cannot give to others. */
const MOST_HELD = 1 / 16;

interface Move {
  readonly kind: Kind;
  readonly keys: readonly BlockKey[];
  readonly pages: readonly PageId[];
  readonly begunAt: number;
  readonly deadline: number;
  readonly epoch: number;
  /** Its pages have had their results. */
  isLate: boolean;
}

/** What says nothing of the disk: the host's page could not be used, or everything ends. */
const HOST_CODES: ReadonlySet<string> = new Set(["empty", "conflict", "closed"]);

/** The disk works, and this page is not or cannot be in it. */
const NONE_CODES: ReadonlySet<string> = new Set(["missing", "full", "read_only", "unpackable"]);

export class DiskPort implements TierPort {
  readonly name: string;
  readonly driving: TierDriving;
  readonly isUsable = true;
  readonly isDurable = true;
  readonly storesAtOnce: number;
  readonly #most: Readonly<Record<Kind, number>>;
  readonly rates: TierRates;
  readonly #storeRates: TierRates;
  readonly #weights: DiskWeights;
  readonly #tools: DiskPortTools;
  /** In order of their deadlines: all have the same time. */
  readonly #moves = new Map<number, Move>();
  readonly #busy: Record<Kind, number> = { load: 0, store: 0 };
  #results: TierResult[] = [];
  #onEnded: PromiseWithResolvers<void> | undefined;
  #isClosed = false;

  constructor(name: string, driving: TierDriving, tools: DiskPortTools) {
    this.name = name;
    this.driving = driving;
    const { inFlight } = driving;
    const held = Math.max(1, Math.floor(tools.pages.numPages * MOST_HELD));
    this.#most = { load: inFlight, store: Math.min(inFlight, held) };
    this.storesAtOnce = Math.ceil(this.#most.store / 2);
    const { pageBytes } = tools.transfers;
    this.#storeRates = new TierRates(pageBytes, tools.now);
    this.rates = new TierRates(pageBytes, tools.now, this.#storeRates);
    this.#tools = tools;
    const weigh = (keys: readonly BlockKey[], weight: number): readonly boolean[] =>
      this.#try("weigh", () => tools.disk.weigh(keys, weight)) ?? [];
    this.#weights = new DiskWeights(weigh);
  }

  get nextDeadline(): number {
    for (const { deadline, isLate } of this.#moves.values()) if (!isLate) return deadline;
    return Infinity;
  }

  get numUnderWay(): number {
    return this.#busy.load + this.#busy.store;
  }

  expire(now: number): void {
    for (const [id, move] of this.#moves) {
      if (move.isLate) continue;
      if (move.deadline > now) return;
      move.isLate = true;
      this.#tools.transfers.cancel(id);
      this.#tell(move, () => "late", "did not answer in time");
    }
  }

  numFree(kind: Kind): number {
    return Math.max(0, this.#most[kind] - this.#busy[kind]);
  }

  has(keys: readonly BlockKey[]): readonly boolean[] | undefined {
    return this.#try("has", () => this.#tools.disk.has(keys));
  }

  move(kind: Kind, keys: readonly BlockKey[], pages: readonly PageId[]): void {
    const most = kind === "load" ? MOST_OF_LOAD : keys.length;
    for (let from = 0; from < keys.length; from += most)
      this.#move(kind, keys.slice(from, from + most), pages.slice(from, from + most));
  }

  #move(kind: Kind, keys: readonly BlockKey[], pages: readonly PageId[]): void {
    const { disk, pages: host, connector, flights, now } = this.#tools;
    host.check(connector, pages);
    const [begunAt, { epoch }] = [now(), host];
    const deadline = begunAt + this.driving.timeoutMs;
    const move: Move = { kind, keys, pages, begunAt, deadline, epoch, isLate: false };
    const isWhole =
      kind === "load" || keys.every((key, i) => host.keyOf(pages[i] as PageId) === key);
    this.#busy[kind] += pages.length;
    if (kind === "store") {
      host.beginRead(pages);
      this.#storeRates.begun(pages.length);
    } else {
      host.beginFlight(Int32Array.from(pages));
      for (const page of pages) host.setKey(page, undefined);
      this.rates.begun(pages.length);
    }
    const begin = (id: number): void => {
      if (kind === "store") disk.store(id, keys, Int32Array.from(pages));
      else disk.load(id, keys, Int32Array.from(pages));
      this.#moves.set(id, move);
    };
    const onEnded = (result: FlightResult): void => this.#ended(result.id, move, result);
    const start = (): void => {
      const begun =
        isWhole &&
        !this.#isClosed &&
        this.#try(kind, () => flights.beginOther(begin, onEnded)) !== undefined;
      if (!begun) this.#ended(undefined, move, undefined);
    };
    const { link, transfers } = this.#tools;
    if (link === undefined) start();
    else link.after(pages.length * transfers.pageBytes, start);
  }

  remove(keys: readonly BlockKey[]): void {
    this.#try("remove", () => this.#tools.disk.remove(keys));
  }

  weigh(keys: readonly BlockKey[], weight: number): void {
    this.#weights.used(keys, weight);
  }

  clear(): void {
    this.#weights.clear();
    for (const [id, { kind }] of this.#moves)
      if (kind === "store") this.#tools.transfers.cancel(id);
    this.#try("clear", () => this.#tools.disk.clear());
  }

  takeResults(): readonly TierResult[] {
    const results = this.#results;
    if (results.length > 0) this.#results = [];
    return results;
  }

  ended(): Promise<void> {
    if (this.#results.length > 0 || this.numUnderWay === 0) return Promise.resolve();
    this.#onEnded ??= Promise.withResolvers<void>();
    return this.#onEnded.promise;
  }

  stats(): Readonly<Record<string, number>> {
    const stats = this.#try("stats", () => this.#tools.disk.stats());
    if (stats === undefined) return {};
    const { bytes, limitBytes, staleBytes, pages, pinnedPages, evicted, expired, trouble } = stats;
    return {
      bytes,
      limit_bytes: limitBytes,
      stale_bytes: staleBytes,
      pages,
      pinned_pages: pinnedPages,
      evicted_pages: evicted,
      expired_pages: expired,
      paused: trouble === undefined ? 0 : 1,
    };
  }

  async shutdown(deadline: number): Promise<void> {
    const { disk, now, log } = this.#tools;
    this.#isClosed = true;
    try {
      const hasEnded = await disk.close(Math.max(0, deadline - now()));
      if (!hasEnded) log("warn", `tier ${this.name}: what is being written has not ended in time`);
    } catch (thrown) {
      log("error", `tier ${this.name}: ${toKvEngineError(thrown).message}`);
    }
  }

  #ended(id: number | undefined, move: Move, result: FlightResult | undefined): void {
    const { kind, keys, pages, epoch } = move;
    const { pages: host } = this.#tools;
    if (id !== undefined) this.#moves.delete(id);
    const failed = new Set(result?.cancelled === false ? result.failedPages : keys.keys());
    const failure = failedOutcome(kind, result?.error?.code);
    const outcomeOf = (i: number): TierOutcome => {
      if (!failed.has(i)) return kind === "load" && epoch !== host.epoch ? "older" : "ok";
      return failure;
    };
    for (const [i, page] of pages.entries()) {
      const isThere = outcomeOf(i) === "ok";
      // One that is late is nobody's any more, whatever has come.
      if (kind === "load" && isThere && !move.isLate) host.setKey(page, keys[i]);
    }
    const rates = kind === "load" ? this.rates : this.#storeRates;
    rates.ended(pages.length, pages.length - failed.size);
    this.#busy[kind] -= pages.length;
    if (kind === "store") {
      host.endRead(pages);
      const stored = keys.filter((_, i) => !failed.has(i));
      // What was being written when the cache was reset is there since, and counts no more.
      if (epoch !== host.epoch) this.remove(stored);
      else {
        this.#weights.stored(stored);
        this.#tools.onStored?.(stored);
      }
    } else host.endFlight(Int32Array.from(pages));
    if (!move.isLate) this.#tell(move, outcomeOf, result?.error?.message);
  }

  #tell(
    { kind, keys, pages, begunAt }: Move,
    outcomeOf: (i: number) => TierOutcome,
    reason?: string,
  ): void {
    const { now, wake } = this.#tools;
    const ms = (now() - begunAt) / keys.length;
    for (const [i, key] of keys.entries()) {
      const outcome = outcomeOf(i);
      const why = outcome === "ok" || reason === undefined ? {} : { reason };
      this.#results.push({ kind, key, page: pages[i] as PageId, outcome, ms, ...why });
    }
    this.#onEnded?.resolve();
    this.#onEnded = undefined;
    wake();
  }

  /** What our own side throws is a fault of ours: named, and the tier has nothing then. */
  #try<T>(what: string, body: () => T): T | undefined {
    try {
      return body();
    } catch (thrown) {
      this.#tools.log("error", `tier ${this.name}: ${what}: ${toKvEngineError(thrown).message}`);
      return undefined;
    }
  }
}

/** Of the first page that failed: others of the same move count alike. */
function failedOutcome(kind: Kind, code: string | undefined): TierOutcome {
  if (code === undefined || HOST_CODES.has(code)) return "host";
  if (NONE_CODES.has(code)) return "none";
  // Of a store it is the host's page that is not what was stored.
  if (code === "checksum") return kind === "load" ? "wrong" : "host";
  return "failed";
}
