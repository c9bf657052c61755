/**
 * What is completed while the device has room for many more blocks: nothing is evicted then, and copies beside steps would only cost. It
 * is stored when nothing is computed.
 */

import { Backlog } from "./backlog.ts";
import type { BlockId } from "./block-pool-view.ts";

/** Of the device's blocks: as many that never held content mean that nothing is evicted for a while. */
const ROOMY = 1 / 16;

export class RoomyContent {
  /** Complete blocks, once each. */
  readonly #all = new Set<BlockId>();
  /** Of those, the ones that are not stored yet. */
  readonly unstored: Backlog = new Backlog();

  /** A request that finds blocks in the cache completes them, too. */
  add(completed: readonly BlockId[]): void {
    const added = completed.filter((id) => !this.#all.has(id));
    for (const id of added) this.#all.add(id);
    this.unstored.add(added);
  }

  /** Whether blocks that never held content become few: as many as a window, or a part of all. */
  isNearEnd(numBlocks: number, window: number): boolean {
    return numBlocks - this.#all.size <= Math.max(window, numBlocks * ROOMY);
  }
}
