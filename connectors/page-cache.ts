/**
 * Which content lies in which host page, in order of use. An entry is `ready` once its store has ended well; entries that a transfer uses
 * are pinned and never evicted. One of weight w has w chances: an eviction that meets it takes one and passes it over, as if it had been
 * used just now. The order is a list of its own: a `Map` that loses its first entry again and again slows down.
 */

import type { BlockKey, PageId } from "./connector.ts";

class Entry {
  readonly key: BlockKey;
  readonly page: PageId;
  isReady = false;
  /** One that is filled is pinned by what fills it. */
  pins = 1;
  /** Evictions that pass it over. */
  chances = 0;
  /** Neighbours in order of use. */
  older: Entry | undefined;
  newer: Entry | undefined;

  constructor(key: BlockKey, page: PageId) {
    this.key = key;
    this.page = page;
  }
}

const never = (): boolean => false;

/** Most times that an entry is passed over after it was used. */
export const MOST_WEIGHT = 3;

/** The weight of what a request of this priority has used: lower is more urgent, 0 is usual. */
export function weightOf(priority: number): number {
  return Math.min(MOST_WEIGHT, Math.max(0, -priority));
}

export class PageCache {
  readonly #entries = new Map<BlockKey, Entry>();
  #oldest: Entry | undefined;
  #newest: Entry | undefined;

  /** Entries that a transfer uses. */
  #numPinned = 0;

  get size(): number {
    return this.#entries.size;
  }

  get numPinned(): number {
    return this.#numPinned;
  }

  /** Whether there is a page for this content, ready or being filled. */
  has(key: BlockKey): boolean {
    return this.#entries.has(key);
  }

  /** The page that holds this content; undefined = none, or not yet. */
  ready(key: BlockKey): PageId | undefined {
    const entry = this.#entries.get(key);
    return entry?.isReady === true ? entry.page : undefined;
  }

  /** A page that is being filled: pinned until `filled` or `drop`. The content must have none. */
  add(key: BlockKey, page: PageId): void {
    const entry = new Entry(key, page);
    this.#entries.set(key, entry);
    this.#numPinned++;
    this.#append(entry);
  }

  /** The content of the page is there. */
  filled(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.isReady = true;
    this.#unpin(entry);
  }

  pin(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.pins++ === 0) this.#numPinned++;
  }

  unpin(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) this.#unpin(entry);
  }

  /** Makes an entry the most recently used one. */
  touch(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#unlink(entry);
    this.#append(entry);
  }

  /** An entry of this weight at least (0 to `MOST_WEIGHT`), until evictions have passed it over as often. */
  weigh(key: BlockKey, weight: number): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.chances = Math.max(entry.chances, Math.min(weight, MOST_WEIGHT));
  }

  /** Makes an entry the next to be evicted. */
  cool(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.chances = 0;
    if (entry === this.#oldest) return;
    this.#unlink(entry);
    entry.newer = this.#oldest;
    if (this.#oldest !== undefined) this.#oldest.older = entry;
    else this.#newest = entry;
    this.#oldest = entry;
  }

  /** The `count` least recently used entries whose content is there, or fewer when there are not as many. */
  coldest(count: number): BlockKey[] {
    const keys: BlockKey[] = [];
    for (let entry = this.#oldest; entry !== undefined && keys.length < count; entry = entry.newer)
      if (entry.isReady) keys.push(entry.key);
    return keys;
  }

  /** Forgets an entry, pinned or not. Answers its page. */
  drop(key: BlockKey): PageId | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (entry.pins > 0) this.#numPinned--;
    this.#unlink(entry);
    return entry.page;
  }

  /**
   * Forgets the `count` least recently used entries that are not pinned, or fewer when there are not as many. Passed over, and used just
   * now for the next call, are those that `isRetained` names, and those with a chance left, which they lose.
   */
  evict(
    count: number,
    isRetained: (key: BlockKey) => boolean = never,
  ): { readonly keys: BlockKey[]; readonly pages: PageId[] } {
    const keys: BlockKey[] = [];
    const pages: PageId[] = [];
    // A round takes a chance of each.
    for (let round = 0; round <= MOST_WEIGHT && keys.length < count; round++) {
      const last = this.#newest;
      for (let entry = this.#oldest; entry !== undefined && keys.length < count;) {
        const { key, page, pins, chances, newer } = entry;
        if (pins === 0 && (chances > 0 || isRetained(key))) {
          entry.chances = Math.max(0, chances - 1);
          this.#unlink(entry);
          this.#append(entry);
        } else if (pins === 0) {
          this.#entries.delete(key);
          this.#unlink(entry);
          keys.push(key);
          pages.push(page);
        }
        if (entry === last) break;
        entry = newer;
      }
    }
    return { keys, pages };
  }

  /** Forgets everything. Answers all pages. */
  clear(): PageId[] {
    const pages = Array.from(this.#entries.values(), ({ page }) => page);
    this.#entries.clear();
    this.#oldest = undefined;
    this.#newest = undefined;
    this.#numPinned = 0;
    return pages;
  }

  #unpin(entry: Entry): void {
    if (--entry.pins === 0) this.#numPinned--;
  }

  #append(entry: Entry): void {
    entry.older = this.#newest;
    entry.newer = undefined;
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
  }

  #unlink(entry: Entry): void {
    if (entry.older === undefined) this.#oldest = entry.newer;
    else entry.older.newer = entry.newer;
    if (entry.newer === undefined) this.#newest = entry.older;
    else entry.newer.older = entry.older;
    entry.older = undefined;
    entry.newer = undefined;
  }
}
