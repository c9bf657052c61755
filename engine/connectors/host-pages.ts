/**
 * Pages of the host pool as ids: which connector has which, and which a flight still uses. The memory is the native side's, which fills
 * the pool up in the background: only pages that are ready are handed out.
 */

import { type BlockKey, type PageId, RefusedError } from "../../connectors/connector.ts";

const FREE = 0;

export class HostPages {
  readonly numPages: number;
  readonly #numReady: () => number;
  #ready = 0;
  /** Of each page: its connector's place, plus 1; `FREE` when it has none. */
  readonly #owners: Uint8Array;
  /** Flights that use each page. */
  readonly #flights: Uint16Array;
  /** Pages that were handed out once and are free again; the newest is the next to go. */
  readonly #returned: PageId[] = [];
  /** Pages from here on were never handed out. */
  #next = 0;
  /** What was stored in each page: a connector cannot load it as anything else. */
  readonly #keys: (BlockKey | undefined)[] = [];
  /** Pages that were filled before the cache was reset, and not since. */
  readonly #older = new Set<PageId>();
  /** Copies that are being made of each page. */
  readonly #readers: Uint16Array;
  /** Resets of what pages hold. */
  #epoch = 0;
  /** Pages that were freed while they were in use. */
  readonly #leaving = new Set<PageId>();

  constructor(numPages: number, numReady: () => number) {
    this.numPages = numPages;
    this.#numReady = numReady;
    this.#owners = new Uint8Array(numPages);
    this.#flights = new Uint16Array(numPages);
    this.#readers = new Uint16Array(numPages);
  }

  get numFree(): number {
    // Ready pages never become fewer: once all are, nobody is asked.
    if (this.#ready < this.numPages) this.#ready = Math.min(this.#numReady(), this.numPages);
    return this.#returned.length + Math.max(0, this.#ready - this.#next);
  }

  /** Pages that connectors have, those included that flights still use. */
  get numUsed(): number {
    return this.#next - this.#returned.length;
  }

  /** `count` pages for a connector, or undefined when there are not as many. */
  alloc(connector: number, count: number): PageId[] | undefined {
    if (!Number.isInteger(count) || count < 0)
      throw new RefusedError("invalid", `${count} pages; allowed is 0 and more`);
    if (count > this.numFree) return undefined;
    return Array.from({ length: count }, () => {
      const page = this.#returned.pop() ?? this.#next++;
      this.#owners[page] = connector + 1;
      this.setKey(page, undefined);
      return page;
    });
  }

  /** Gives a connector's pages back. Throws `notHeld`, and changes nothing, when one is not its own. */
  free(connector: number, pages: readonly PageId[]): void {
    this.check(connector, pages);
    if (new Set(pages).size !== pages.length)
      throw new RefusedError("notHeld", "a page is named twice, and is held once");
    for (const page of pages) {
      if (this.isInUse(page)) this.#leaving.add(page);
      else this.#release(page);
    }
  }

  /** Throws `notHeld` unless the connector has all of the pages. */
  check(connector: number, pages: readonly PageId[]): void {
    for (const page of pages)
      if (!this.isHeldBy(connector, page))
        throw new RefusedError("notHeld", `page ${page} is not held by the connector`);
  }

  /** A flight uses the pages: they are handed out to nobody until it has ended. */
  beginFlight(pages: Int32Array): void {
    for (const page of pages) this.#flights[page] = (this.#flights[page] as number) + 1;
  }

  endFlight(pages: Int32Array): void {
    for (const page of pages) {
      this.#flights[page] = (this.#flights[page] as number) - 1;
      this.#leave(page);
    }
  }

  /** The pages are copied: flights may read them meanwhile, and they are handed out to nobody. */
  beginRead(pages: readonly PageId[]): void {
    for (const page of pages) this.#readers[page] = (this.#readers[page] as number) + 1;
  }

  endRead(pages: readonly PageId[]): void {
    for (const page of pages) {
      this.#readers[page] = (this.#readers[page] as number) - 1;
      this.#leave(page);
    }
  }

  /** Changes when all content is of before a reset. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Whether a flight uses the page, or a copy of it is being made. */
  isInUse(page: PageId): boolean {
    return this.#flights[page] !== 0 || this.#readers[page] !== 0;
  }

  /** Whether the connector has the page, and has not given it back. */
  isHeldBy(connector: number, page: PageId): boolean {
    return this.#owners[page] === connector + 1 && !this.#leaving.has(page);
  }

  /** Whether a flight uses the page. */
  isFlying(page: PageId): boolean {
    return this.#flights[page] !== 0;
  }

  /** Content of a page, once a store of it has ended well. */
  keyOf(page: PageId): BlockKey | undefined {
    return this.#keys[page];
  }

  /** Sets the content of a page; undefined = nothing that counts. */
  setKey(page: PageId, key: BlockKey | undefined): void {
    this.#keys[page] = key;
    this.#older.delete(page);
  }

  /** The cache was reset, copies too: no page holds anything that counts. Whose each is does not change. */
  forgetContents(): void {
    for (const [page, key] of this.#keys.entries()) if (key !== undefined) this.#older.add(page);
    this.#keys.fill(undefined);
    this.#epoch++;
  }

  /** Whether it holds content from before a reset. */
  isOlder(page: PageId): boolean {
    return this.#older.has(page);
  }

  /** Gives back all that a connector has. */
  freeAll(connector: number): void {
    const pages: PageId[] = [];
    for (let page = 0; page < this.#next; page++)
      if (this.#owners[page] === connector + 1 && !this.#leaving.has(page)) pages.push(page);
    this.free(connector, pages);
  }

  /** Pages that a connector has. */
  numHeld(connector: number): number {
    let count = 0;
    for (let page = 0; page < this.#next; page++) if (this.#owners[page] === connector + 1) count++;
    return count;
  }

  /** A use has ended. */
  #leave(page: PageId): void {
    if (!this.isInUse(page) && this.#leaving.delete(page)) this.#release(page);
  }

  #release(page: PageId): void {
    this.#owners[page] = FREE;
    this.setKey(page, undefined);
    this.#returned.push(page);
  }
}
