/** The host level's side of `HostContent`: what is wanted comes from the device by a store, or from the tiers below. */

import type { GpuBlockPoolView } from "./block-pool-view.ts";
import type { BlockId, BlockKey, PageId } from "./connector.ts";
import type { HostContent } from "./host-content.ts";
import type { HostLevel } from "./host-level.ts";
import type { LowerTiers } from "./lower-tiers.ts";

export interface MovedContentParts {
  readonly view: GpuBlockPoolView;
  readonly host: HostLevel;
  readonly below: LowerTiers | undefined;
  /** Stores complete blocks to host pages, as many as there is room for now. */
  readonly store: (ids: readonly BlockId[]) => void;
}

export class MovedContent implements HostContent {
  readonly #parts: MovedContentParts;

  constructor(parts: MovedContentParts) {
    this.#parts = parts;
  }

  pageOf(key: BlockKey): PageId | undefined {
    return this.#parts.host.cache.ready(key);
  }

  bring(keys: readonly BlockKey[]): readonly BlockKey[] {
    const { view, host, below, store } = this.#parts;
    const blocks: BlockId[] = [];
    const missing: BlockKey[] = [];
    let coming: BlockKey[] = [];
    for (const key of keys) {
      const id = view.blockOfHash(key);
      if (id !== undefined && !host.cache.has(key)) blocks.push(id);
      if (id !== undefined || host.cache.has(key)) coming.push(key);
      else missing.push(key);
    }
    store(blocks);
    if (missing.length > 0 && below !== undefined) coming = coming.concat(below.fetch(missing));
    return coming.filter((key) => host.cache.ready(key) === undefined);
  }

  keep(keys: readonly BlockKey[]): void {
    this.#parts.below?.keep(keys);
  }

  take(keys: readonly BlockKey[]): readonly PageId[] {
    return this.#parts.host.take(keys);
  }

  filled(keys: readonly BlockKey[]): void {
    const { host, below } = this.#parts;
    host.filled(keys);
    below?.stored(keys);
  }

  drop(key: BlockKey): void {
    this.#parts.host.drop(key);
  }
}
