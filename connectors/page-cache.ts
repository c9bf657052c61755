/**
 * Which content lies in which host page, the least recently used first. An entry is `ready` once its store has ended well; entries
 * that a transfer uses are pinned and never evicted.
 */

import type { BlockKey, PageId } from "./connector.ts";

interface Entry {
  readonly page: PageId;
  isReady: boolean;
  pins: number;
}

export class PageCache {
  /** In order of use: a `Map` keeps the order of insertion. */
  readonly #entries = new Map<BlockKey, Entry>();

  get size(): number {
    return this.#entries.size;
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

  /** A page that is being filled: pinned until `filled` or `drop`. */
  add(key: BlockKey, page: PageId): void {
    this.#entries.set(key, { page, isReady: false, pins: 1 });
  }

  /** The content of the page is there. */
  filled(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.isReady = true;
    entry.pins--;
  }

  pin(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.pins++;
  }

  unpin(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.pins--;
  }

  /** Makes an entry the most recently used one. */
  touch(key: BlockKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
  }

  /** Forgets an entry, pinned or not. Answers its page. */
  drop(key: BlockKey): PageId | undefined {
    const page = this.#entries.get(key)?.page;
    this.#entries.delete(key);
    return page;
  }

  /** Forgets the `count` least recently used entries that are not pinned, or fewer when there are not as many. */
  evict(count: number): { readonly keys: BlockKey[]; readonly pages: PageId[] } {
    const keys: BlockKey[] = [];
    const pages: PageId[] = [];
    for (const [key, { page, pins }] of this.#entries) {
      if (keys.length >= count) break;
      if (pins > 0) continue;
      keys.push(key);
      pages.push(page);
    }
    for (const key of keys) this.#entries.delete(key);
    return { keys, pages };
  }

  /** Forgets everything. Answers all pages. */
  clear(): PageId[] {
    const pages = Array.from(this.#entries.values(), ({ page }) => page);
    this.#entries.clear();
    return pages;
  }
}
