/** Pages of connectors on their way to and from files that the connectors name. Native threads move the bytes and know pages by their labels. */

import {
  type BlockKey,
  type FlightId,
  type PageId,
  RefusedError,
  type TransferResult,
} from "../../connectors/connector.ts";
import { packBlockKeys } from "../cache/block-key.ts";
import type { FilePlace, FlightResult, PageTransfers } from "../cache/page-transfers.ts";
import type { Flights } from "./flights.ts";
import type { HostPages } from "./host-pages.ts";

/** Offsets are exact in a JavaScript number. */
const MOST_OFFSET: number = Number.MAX_SAFE_INTEGER;

type Kind = "write" | "read";
type FileTransfers = Pick<PageTransfers, "writePages" | "readPages" | "cancel">;

interface Move {
  readonly kind: Kind;
  readonly connector: number;
  readonly pages: readonly PageId[];
  readonly keys: readonly BlockKey[];
  /** Of the host's pages when it began: what an older one brings counts for nothing. */
  readonly epoch: number;
}

/** A flight that has ended, and whose it was. */
export interface EndedMove {
  readonly connector: number;
  readonly result: TransferResult;
}

export class PageFiles {
  /** What pages are labelled with; undefined = no connector has said that it keeps files. */
  readonly fingerprint: string | undefined;
  readonly #transfers: FileTransfers;
  /** Under way, by their flights. */
  readonly #moves = new Map<FlightId, Move>();
  readonly #flights: Pick<Flights, "beginOther">;
  readonly #pages: HostPages;
  #ended: EndedMove[] = [];

  constructor(
    transfers: FileTransfers,
    flights: Pick<Flights, "beginOther">,
    pages: HostPages,
    fingerprint: string | undefined,
  ) {
    this.#transfers = transfers;
    this.#flights = flights;
    this.#pages = pages;
    this.fingerprint = fingerprint;
  }

  /** Results that `takeEnded` has for its caller. */
  get numEnded(): number {
    return this.#ended.length;
  }

  takeEnded(): readonly EndedMove[] {
    return this.#ended.splice(0);
  }

  /** True = nothing was moved, and nothing will be. */
  cancel(connector: number, id: FlightId): boolean {
    return this.#moves.get(id)?.connector === connector && this.#transfers.cancel(id);
  }

  /** Writes pages of a connector. Throws `RefusedError`. */
  write(
    connector: number,
    path: string,
    offsets: readonly number[],
    pages: readonly PageId[],
  ): FlightId {
    check(path, offsets, pages);
    this.#pages.check(connector, pages);
    const keys = pages.map((page) => {
      const key = this.#pages.keyOf(page);
      if (key === undefined) throw new RefusedError("stale", `page ${page} holds nothing`);
      return key;
    });
    return this.#begin("write", connector, path, offsets, pages, keys);
  }

  /** Fills pages of a connector. Throws `RefusedError`. */
  read(
    connector: number,
    path: string,
    offsets: readonly number[],
    pages: readonly PageId[],
    keys: readonly BlockKey[],
  ): FlightId {
    check(path, offsets, pages);
    if (keys.length !== pages.length)
      throw new RefusedError("invalid", `${keys.length} keys for ${pages.length} pages`);
    this.#pages.check(connector, pages);
    for (const page of pages)
      if (this.#pages.isInUse(page)) throw new RefusedError("stale", `page ${page} is in use`);
    return this.#begin("read", connector, path, offsets, pages, keys);
  }

  #begin(
    kind: Kind,
    connector: number,
    path: string,
    offsets: readonly number[],
    pages: readonly PageId[],
    keys: readonly BlockKey[],
  ): FlightId {
    const { fingerprint } = this;
    if (fingerprint === undefined)
      throw new RefusedError("closed", "the connector's class does not say that it keeps files");
    const place: FilePlace = { path, fingerprint, offsets: Float64Array.from(offsets) };
    const [packed, ids] = [packBlockKeys(keys), Int32Array.from(pages)];
    const move: Move = { kind, connector, pages, keys, epoch: this.#pages.epoch };
    const begin = (id: FlightId): void => {
      if (kind === "write") this.#transfers.writePages(id, place, packed, ids);
      else this.#transfers.readPages(id, place, packed, ids);
    };
    const flight = this.#flights.beginOther(begin, (result) => this.#end(move, result));
    this.#moves.set(flight, move);
    if (kind === "write") this.#pages.beginRead(pages);
    else {
      this.#pages.beginFlight(ids);
      for (const page of pages) this.#pages.setKey(page, undefined);
    }
    return flight;
  }

  #end({ kind, connector, pages, keys, epoch }: Move, flight: FlightResult): void {
    this.#moves.delete(flight.id);
    if (kind === "write") this.#pages.endRead(pages);
    else this.#pages.endFlight(Int32Array.from(pages));
    const isStale = epoch !== this.#pages.epoch;
    const cancelled = flight.cancelled || isStale;
    const failed = new Set(cancelled ? pages.keys() : flight.failedPages);
    if (kind === "read")
      for (const [i, page] of pages.entries())
        if (!failed.has(i) && this.#pages.isHeldBy(connector, page))
          this.#pages.setKey(page, keys[i]);
    const { id, error } = flight;
    const result: TransferResult = {
      ...{ id, kind, ok: failed.size === 0, cancelled, failedBlockIds: [] },
      failedPageIds: pages.filter((_, i) => failed.has(i)),
      ...(error === undefined ? {} : { reason: error.message }),
    };
    this.#ended.push({ connector, result });
  }
}

/** Throws `invalid`. */
function check(path: string, offsets: readonly number[], pages: readonly PageId[]): void {
  if (typeof path !== "string" || path === "" || path.includes("\0"))
    throw new RefusedError("invalid", "a path without zeros is needed");
  if (offsets.length !== pages.length || pages.length === 0) {
    const allowed = "allowed is one offset for each of at least one page";
    throw new RefusedError(
      "invalid",
      `${offsets.length} offsets and ${pages.length} pages; ${allowed}`,
    );
  }
  if (new Set(pages).size !== pages.length)
    throw new RefusedError("invalid", "a flight names a page twice");
  for (const offset of offsets)
    if (!Number.isInteger(offset) || offset < 0 || offset >= MOST_OFFSET)
      throw new RefusedError("invalid", `offset ${offset}; allowed is 0 to 2^53 - 2`);
}
