/** The keys of the pool's blocks: text that connectors want again and again, made once for each content. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { HASH_WORDS, sameHash } from "./block-hash.ts";
import { blockKey } from "./block-key.ts";
import type { BlockPool } from "./block-pool.ts";

export class BlockKeys {
  readonly #pool: BlockPool;
  readonly #hash = new Int32Array(HASH_WORDS);
  readonly #keys: BlockKey[] = [];
  /** What each of the keys was made of. */
  readonly #hashes: Int32Array;
  readonly #groups: Int32Array;

  constructor(pool: BlockPool) {
    this.#pool = pool;
    this.#hashes = new Int32Array(pool.numBlocks * HASH_WORDS);
    this.#groups = new Int32Array(pool.numBlocks).fill(-1);
  }

  /** The key of the block's content; undefined when it has none. */
  of(id: number): BlockKey | undefined {
    const group = this.#pool.groupOf(id);
    if (group === undefined) return undefined;
    const hash = this.#hash;
    this.#pool.copyHash(id, hash);
    if (this.#groups[id] === group && sameHash(this.#hashes, id * HASH_WORDS, hash, 0))
      return this.#keys[id];
    const key = blockKey(hash, 0, group);
    this.#keys[id] = key;
    this.#groups[id] = group;
    this.#hashes.set(hash, id * HASH_WORDS);
    return key;
  }
}
