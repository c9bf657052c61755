/** Blocks whose content became complete since connectors were last told, less those that have been handed out again. */

import type { BlockPool } from "../cache/block-pool.ts";

export class CompletedBlocks {
  readonly #pool: BlockPool;
  /** Pairs of id and generation. */
  #blocks: number[] = [];

  constructor(pool: BlockPool) {
    this.#pool = pool;
  }

  add(id: number): void {
    this.#blocks.push(id, this.#pool.generation(id));
  }

  /** Their ids; they are told once. */
  take(): readonly number[] {
    const blocks = this.#blocks;
    if (blocks.length === 0) return NONE;
    this.#blocks = [];
    const ids: number[] = [];
    for (let i = 0; i < blocks.length; i += 2) {
      const id = blocks[i] as number;
      if (this.#pool.generation(id) === blocks[i + 1] && this.#pool.isHashed(id)) ids.push(id);
    }
    return ids;
  }
}

const NONE: readonly number[] = [];
