/** Blocks in host pages, least recently used out first: what one connector has of the host pool, and what happens to it. */

import type { GpuBlockPoolView } from "./block-pool-view.ts";
import type { BlockKey, KvEvent, PageId, SchedulerContext } from "./connector.ts";
import { PageCache, weightOf } from "./page-cache.ts";

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
  readonly #context: SchedulerContext;
  readonly #hooks: HostLevelHooks;
  #events: KvEvent[] = [];
  /** Of what urgent requests have used, and has no page yet: of as many as the device has blocks. */
  readonly #weights = new Map<BlockKey, number>();

  constructor(view: GpuBlockPoolView, context: SchedulerContext, hooks: HostLevelHooks) {
    this.#view = view;
    this.#pages = context.pages;
    this.#context = context;
    this.#hooks = hooks;
  }

  /** Pages that can be had now, at least: those that are free, and those whose content may be forgotten. */
  get numAvailable(): number {
    const { size, numPinned } = this.cache;
    return this.#pages.numFree + Math.max(0, size - numPinned - this.#context.numRetained);
  }

  /**
   * Pages for the first of `keys`, as many as can be had; others are forgotten for them. Each is pinned until it is `filled` or
   * dropped. None of the keys may have a page.
   */
  take(keys: readonly BlockKey[]): readonly PageId[] {
    const numLacking = keys.length - this.#pages.numFree;
    if (numLacking > 0) this.#forget(numLacking);
    const pages = this.#pages.alloc(Math.min(keys.length, this.#pages.numFree)) ?? [];
    for (const [i, page] of pages.entries()) {
      const key = keys[i] as BlockKey;
      this.cache.add(key, page);
      const weight = this.#weights.get(key);
      if (weight !== undefined) this.cache.weigh(key, weight);
    }
    return pages;
  }

  /** A request of this priority has used the content (lower is more urgent, 0 is usual): what is urgent is kept longer. */
  used(keys: readonly BlockKey[], priority: number): void {
    const weight = weightOf(priority);
    if (weight === 0) return;
    for (const key of keys) {
      this.cache.weigh(key, weight);
      // For when it is stored.
      this.#weights.delete(key);
      if (!this.cache.has(key)) this.#weights.set(key, weight);
    }
    for (const oldest of this.#weights.keys()) {
      if (this.#weights.size <= this.#view.numBlocks) break;
      this.#weights.delete(oldest);
    }
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
    this.#weights.clear();
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
    const { keys, pages } = this.cache.evict(count, (key) => this.#context.isRetained(key));
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
