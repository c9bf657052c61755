/** Blocks in host pages, least recently used out first: what one connector has of the host pool, and what happens to it. */

import type { GpuBlockPoolView } from "./block-pool-view.ts";
import type { BlockKey, KvEvent, PageId, SchedulerContext } from "./connector.ts";
import { PageCache } from "./page-cache.ts";

const MEDIUM = "host";

export interface HostLevelHooks {
  /** These have left the host, to make room for others. */
  readonly onForgotten: (keys: readonly BlockKey[]) => void;
  /** Blocks of the device have no copy any more. */
  readonly onUnsafe: () => void;
}

export class HostLevel {
  readonly cache: PageCache = new PageCache();
  readonly #view: GpuBlockPoolView;
  readonly #pages: SchedulerContext["pages"];
  readonly #isRetained: (key: BlockKey) => boolean;
  readonly #hooks: HostLevelHooks;
  #events: KvEvent[] = [];

  constructor(view: GpuBlockPoolView, context: SchedulerContext, hooks: HostLevelHooks) {
    this.#view = view;
    this.#pages = context.pages;
    this.#isRetained = (key): boolean => context.isRetained(key);
    this.#hooks = hooks;
  }

  /** Pages that could be had now: those that are free, and those whose content may be forgotten. */
  get numAvailable(): number {
    return this.#pages.numFree + this.cache.size - this.cache.numPinned;
  }

  /**
   * Pages for the first of `keys`, as many as can be had; others are forgotten for them. Each is pinned until it is `filled` or
   * dropped. None of the keys may have a page.
   */
  take(keys: readonly BlockKey[]): readonly PageId[] {
    const numLacking = keys.length - this.#pages.numFree;
    if (numLacking > 0) this.#forget(numLacking);
    const pages = this.#pages.alloc(Math.min(keys.length, this.#pages.numFree)) ?? [];
    for (const [i, page] of pages.entries()) this.cache.add(keys[i] as BlockKey, page);
    return pages;
  }

  /** Their content is there. */
  filled(keys: readonly BlockKey[]): void {
    if (keys.length === 0) return;
    for (const key of keys) this.cache.filled(key);
    this.#events.push({ kind: "stored", keys, medium: MEDIUM });
  }

  /** Gives up the page of a key, whatever uses it. */
  drop(key: BlockKey): void {
    const isTold = this.cache.ready(key) !== undefined;
    const page = this.cache.drop(key);
    if (page === undefined) return;
    this.#pages.free([page]);
    this.#clearSafe([key]);
    if (isTold) this.#events.push({ kind: "removed", keys: [key], medium: MEDIUM });
  }

  /** Gives up everything: the cache was reset. */
  clear(): void {
    this.#pages.free(this.cache.clear());
    this.#events.push({ kind: "cleared", keys: [], medium: MEDIUM });
  }

  takeEvents(): readonly KvEvent[] {
    const events = this.#events;
    if (events.length > 0) this.#events = [];
    return events;
  }

  /** Forgets the least recently used pages. */
  #forget(count: number): void {
    const { keys, pages } = this.cache.evict(count, this.#isRetained);
    if (keys.length === 0) return;
    this.#pages.free(pages);
    this.#clearSafe(keys);
    this.#events.push({ kind: "removed", keys, medium: MEDIUM });
    this.#hooks.onForgotten(keys);
  }

  /** Their copies are gone: blocks of the device with this content are to be stored again. */
  #clearSafe(keys: readonly BlockKey[]): void {
    const onDevice = keys.filter((key) => this.#view.blockOfHash(key) !== undefined);
    if (onDevice.length === 0) return;
    this.#view.clearSafe(onDevice);
    this.#hooks.onUnsafe();
  }
}
