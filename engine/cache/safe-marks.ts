/**
 * Which blocks one connector has a copy of. A mark is the block's generation, so it ends by itself when the block is handed out again:
 * a block gets other content in no other way (what a failed step withdraws was never to be seen, so never marked).
 */

import type { BlockPool } from "./block-pool.ts";

export class SafeMarks {
  readonly #pool: BlockPool;
  /** Of each block; 0 = no mark: a block with content was handed out at least once. */
  readonly #generations: Int32Array;

  constructor(pool: BlockPool) {
    this.#pool = pool;
    this.#generations = new Int32Array(pool.numBlocks);
  }

  has(id: number): boolean {
    return this.#generations[id] === this.#pool.generation(id) && this.#generations[id] !== 0;
  }

  set(id: number): void {
    this.#generations[id] = this.#pool.generation(id);
  }

  clear(id: number): void {
    this.#generations[id] = 0;
  }
}
