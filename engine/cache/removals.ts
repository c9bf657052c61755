/**
 * Why content is on the device no more: the newest removals of hashed blocks, in typed arrays that are written in a ring. A removal costs
 * the copy of a hash; looking one up walks the ring, since nobody asks while steps run.
 */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { HASH_WORDS, sameHash } from "./block-hash.ts";
import { readBlockKey } from "./block-key.ts";
import type { BlockPool } from "./block-pool.ts";

/**
 * `evicted`: the block was handed out. `reset`: the cache was. `withdrawn`: the step that was to fill the block failed. `dropped`: a tier
 * let go of its copy.
 */
export type RemovalCause = "evicted" | "reset" | "withdrawn" | "dropped";

const CAUSES: readonly RemovalCause[] = ["evicted", "reset", "withdrawn", "dropped"];
const CODES: Readonly<Record<RemovalCause, number>> = {
  evicted: 0,
  reset: 1,
  withdrawn: 2,
  dropped: 3,
};

export interface Removal {
  readonly cause: RemovalCause;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Number of the request that got the block; `NOBODY` where none did. */
  readonly by: number;
}

/** A request's number that is none. */
export const NOBODY = -1;

export class Removals {
  readonly capacity: number;
  /** Removals since the start; the ring has the last `capacity` of them. */
  total = 0;
  readonly #hashes: Int32Array;
  readonly #groups: Int32Array;
  readonly #causes: Uint8Array;
  readonly #by: Float64Array;
  readonly #at: Float64Array;
  readonly #scratch = new Int32Array(HASH_WORDS);

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#hashes = new Int32Array(capacity * HASH_WORDS);
    this.#groups = new Int32Array(capacity);
    this.#causes = new Uint8Array(capacity);
    this.#by = new Float64Array(capacity);
    this.#at = new Float64Array(capacity);
  }

  /** The first removal that is still known, by its place among all of them. */
  get oldest(): number {
    return Math.max(0, this.total - this.capacity);
  }

  /** A block of the pool is about to lose its content. */
  add(pool: BlockPool, id: number, cause: RemovalCause, at: number, by: number): void {
    const slot = this.#next(cause, at, by);
    this.#groups[slot] = pool.copyContent(id, this.#hashes, slot * HASH_WORDS);
  }

  /** Content by the name that connectors have for it. Throws `invalid` unless it is a key. */
  addKey(key: BlockKey, cause: RemovalCause, at: number): void {
    const hash = this.#scratch;
    const group = readBlockKey(key, hash);
    const slot = this.#next(cause, at, NOBODY);
    this.#hashes.set(hash, slot * HASH_WORDS);
    this.#groups[slot] = group;
  }

  /**
   * The last removal of each of the blocks `from` up to `to` of a prompt in a group, among those that came before removal number
   * `before`; blocks without one are left out.
   */
  lastOf(
    hashes: Int32Array,
    group: number,
    { from, to, before }: { readonly from: number; readonly to: number; readonly before: number },
  ): Map<number, Removal> {
    const wanted = new Map<number, number[]>();
    for (let block = from; block < to; block++) {
      const word = hashes[block * HASH_WORDS] as number;
      const same = wanted.get(word);
      if (same === undefined) wanted.set(word, [block]);
      else same.push(block);
    }
    const found = new Map<number, Removal>();
    const newest = Math.min(before, this.total);
    for (let i = newest - 1; i >= this.oldest && found.size < to - from; i--) {
      const slot = i % this.capacity;
      const blocks = wanted.get(this.#hashes[slot * HASH_WORDS] as number);
      if (blocks === undefined || this.#groups[slot] !== group) continue;
      for (const block of blocks) {
        const isIt = sameHash(hashes, block * HASH_WORDS, this.#hashes, slot * HASH_WORDS);
        if (isIt && !found.has(block)) found.set(block, this.#removalAt(slot));
      }
    }
    return found;
  }

  #next(cause: RemovalCause, at: number, by: number): number {
    const slot = this.total++ % this.capacity;
    this.#causes[slot] = CODES[cause];
    this.#by[slot] = by;
    this.#at[slot] = at;
    return slot;
  }

  #removalAt(slot: number): Removal {
    return {
      cause: CAUSES[this.#causes[slot] as number] ?? "evicted",
      at: this.#at[slot] as number,
      by: this.#by[slot] as number,
    };
  }
}
