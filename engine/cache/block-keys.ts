/** The keys of the pool's blocks: text that connectors want again and again, made once for each content. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { HASH_WORDS } from "./block-hash.ts";
import { blockKey } from "./block-key.ts";
import type { BlockPool } from "./block-pool.ts";

export class BlockKeys {
  readonly #pool: BlockPool;
  readonly #hash = new Int32Array(HASH_WORDS);
  readonly #keys: BlockKey[] = [];
  /** Of each block, the generation whose content its key names; 0 = none: see `SafeMarks`. */
  readonly #generations: Int32Array;

  constructor(pool: BlockPool) {
    this.#pool = pool;
    this.#generations = new Int32Array(pool.numBlocks);
  }

  /** The key of the block's content; undefined when it has none. */
  of(id: number): BlockKey | undefined {
    const group = this.#pool.groupOf(id);
    if (group === undefined) return undefined;
    const generation = this.#pool.generation(id);
    if (this.#generations[id] === generation) return this.#keys[id];
    this.#pool.copyHash(id, this.#hash);
    const key = blockKey(this.#hash, 0, group);
    this.#keys[id] = key;
    this.#generations[id] = generation;
    return key;
  }
}
