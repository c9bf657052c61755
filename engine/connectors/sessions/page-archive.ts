/** Pages of the host on their way to and from a session's file: native threads move the bytes, and nobody may free a page meanwhile. */

import type { BlockKey, PageId } from "../../../connectors/connector.ts";
import { packBlockKeys } from "../../cache/block-key.ts";
import type { FilePlace, FlightResult, PageTransfers } from "../../cache/page-transfers.ts";
import type { Flights } from "../flights.ts";
import type { HostPages } from "../host-pages.ts";

export interface ArchiveTools {
  readonly transfers: Pick<PageTransfers, "writePages" | "readPages">;
  readonly flights: Pick<Flights, "beginOther">;
  readonly pages: HostPages;
  /** Whether more of them will be ready. */
  readonly isGrowing: () => boolean;
}

export class PageArchive {
  readonly #tools: ArchiveTools;

  constructor(tools: ArchiveTools) {
    this.#tools = tools;
  }

  /** Changes when all content is of before a reset. */
  get epoch(): number {
    return this.#tools.pages.epoch;
  }

  /** Writes pages that hold these keys. Rejects with what the transfers throw. */
  async write(
    place: FilePlace,
    keys: readonly BlockKey[],
    pages: readonly PageId[],
  ): Promise<FlightResult> {
    const { transfers, pages: host } = this.#tools;
    const [packed, ids] = [packBlockKeys(keys), Int32Array.from(pages)];
    const result = this.#fly((id) => transfers.writePages(id, place, packed, ids));
    host.beginRead(pages);
    try {
      return await result;
    } finally {
      host.endRead(pages);
    }
  }

  /** Fills pages of a connector with what was written for these keys; those that arrived hold it from then on. */
  async read(
    connector: number,
    place: FilePlace,
    keys: readonly BlockKey[],
    pages: readonly PageId[],
  ): Promise<FlightResult> {
    const { transfers, pages: host } = this.#tools;
    const [packed, ids] = [packBlockKeys(keys), Int32Array.from(pages)];
    const { epoch } = host;
    host.beginFlight(ids);
    for (const page of pages) host.setKey(page, undefined);
    try {
      const result = await this.#fly((id) => transfers.readPages(id, place, packed, ids));
      const failed = new Set(result.cancelled ? pages.keys() : result.failedPages);
      for (const [i, page] of pages.entries())
        if (!failed.has(i) && epoch === host.epoch && host.isHeldBy(connector, page))
          host.setKey(page, keys[i]);
      return result;
    } finally {
      host.endFlight(ids);
    }
  }

  #fly(begin: (id: number) => void): Promise<FlightResult> {
    const { promise, resolve } = Promise.withResolvers<FlightResult>();
    this.#tools.flights.beginOther(begin, resolve);
    return promise;
  }
}
