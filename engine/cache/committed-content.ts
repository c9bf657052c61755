/** What connectors may see of the pool: content whose step has committed. What a failed step withdraws was never to be seen. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { HASH_WORDS } from "./block-hash.ts";
import { readBlockKey } from "./block-key.ts";
import type { BlockKeys } from "./block-keys.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";

export class CommittedContent {
  readonly #pool: BlockPool;
  readonly #committedStep: () => number;
  readonly #hash = new Int32Array(HASH_WORDS);

  readonly #keys: BlockKeys;

  /** `committedStep` answers the last step that has committed, -1 before the first. */
  constructor(pool: BlockPool, keys: BlockKeys, committedStep: () => number) {
    this.#pool = pool;
    this.#keys = keys;
    this.#committedStep = committedStep;
  }

  /** Whether the block has content that may be seen. */
  has(id: number): boolean {
    const pool = this.#pool;
    return pool.isHashed(id) && pool.publishedStep(id) <= this.#committedStep();
  }

  keyOf(id: number): BlockKey | undefined {
    return this.has(id) ? this.#keys.of(id) : undefined;
  }

  /** The first inserted of the blocks with this content that may be seen; 0 = none. Throws `invalid` unless it is a key. */
  find(key: unknown): number {
    let id = this.first(key);
    while (id !== NULL_BLOCK && !this.has(id)) id = this.#pool.findNext(id);
    return id;
  }

  /** The first inserted of the blocks with this content, to be seen or not; 0 = none. Throws `invalid` unless it is a key. */
  first(key: unknown): number {
    const group = readBlockKey(key, this.#hash);
    return this.#pool.find(this.#hash, 0, group);
  }
}
