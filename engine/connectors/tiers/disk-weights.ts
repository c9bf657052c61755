/** Weights of what urgent requests have used: given to the disk's pages at once where they are there, else when they have been stored. */

import type { BlockKey } from "../../../connectors/block-pool-view.ts";

/** Contents that are waited for; the one that was used the longest ago goes first. */
const MOST_COMING = 16_384;

export class DiskWeights {
  readonly #weigh: (keys: readonly BlockKey[], weight: number) => readonly boolean[];
  readonly #coming = new Map<BlockKey, number>();

  /** `weigh`: as `DiskStore.weigh`. */
  constructor(weigh: (keys: readonly BlockKey[], weight: number) => readonly boolean[]) {
    this.#weigh = weigh;
  }

  used(keys: readonly BlockKey[], weight: number): void {
    const there = this.#weigh(keys, weight);
    for (const [i, key] of keys.entries()) {
      this.#coming.delete(key);
      if (there[i] !== true) this.#coming.set(key, weight);
    }
    for (const oldest of this.#coming.keys()) {
      if (this.#coming.size <= MOST_COMING) break;
      this.#coming.delete(oldest);
    }
  }

  /** These are on the disk since now. */
  stored(keys: readonly BlockKey[]): void {
    if (this.#coming.size === 0) return;
    for (const [weight, some] of Map.groupBy(keys, (key) => this.#coming.get(key))) {
      if (weight === undefined) continue;
      this.#weigh(some, weight);
      for (const key of some) this.#coming.delete(key);
    }
  }

  clear(): void {
    this.#coming.clear();
  }
}
