/** How much of the pool one connector holds, and how much it may. Each hold is a reference of its own on its block. */

import { RefusedError } from "../../connectors/errors.ts";
import { KvEngineError } from "../errors.ts";
import type { BlockPool } from "./block-pool.ts";

/**
 * How often a connector may hold each of the blocks that it may hold, on average. It bounds the memory of the ledger and nothing
 * else: a connector that holds for its requests comes nowhere near it.
 */
const MOST_HOLDS_PER_BLOCK = 16;

export class Holdings {
  readonly #pool: BlockPool;
  /** Blocks that may be held at a time; one that is held several times counts once. */
  readonly #maxBlocks: number;
  /** Of each block: this connector's references. */
  readonly #references: Int32Array;
  #numBlocks = 0;
  #numReferences = 0;

  constructor(pool: BlockPool, maxBlocks: number) {
    this.#pool = pool;
    this.#maxBlocks = maxBlocks;
    this.#references = new Int32Array(pool.numBlocks);
  }

  /** Blocks that are held. */
  get numBlocks(): number {
    return this.#numBlocks;
  }

  /** References, one for each time that a block was named. */
  get numReferences(): number {
    return this.#numReferences;
  }

  /**
   * Takes a reference of each id, for each time it is named. Throws `budget`, and changes nothing, when that is more than may be held;
   * `pressure` when more than `numSpare` of the blocks are free now.
   */
  take(ids: Int32Array, numSpare: number): void {
    const available = this.#maxBlocks * MOST_HOLDS_PER_BLOCK - this.#numReferences;
    if (ids.length > available) {
      throw new RefusedError(
        "budget",
        `${ids.length} more holds; the connector may hold its blocks ${available} more times`,
        Math.min(available, this.#maxBlocks - this.#numBlocks),
      );
    }
    let numNew = 0;
    let numFree = 0;
    for (let i = 0; i < ids.length; i++) {
      if (this.#change(ids[i] as number, 1) > 1) continue;
      numNew++;
      if (this.#pool.references(ids[i] as number) === 0) numFree++;
    }
    const isTooMany = this.#numBlocks + numNew > this.#maxBlocks;
    if (isTooMany || numFree > numSpare) {
      for (const id of ids) this.#change(id, -1);
      throw isTooMany ? this.#budgetRefusal(numNew) : pressureRefusal(numFree, numSpare);
    }
    this.#numBlocks += numNew;
    this.#numReferences += ids.length;
    this.#pool.touch(ids, ids.length);
  }

  /** Drops a reference of each id, for each time it is named. Answers how many of the blocks are held by nobody now. */
  drop(ids: Int32Array): number {
    this.#pool.free(ids, ids.length);
    this.#numReferences -= ids.length;
    let numFreed = 0;
    for (let i = 0; i < ids.length; i++) {
      if (this.#change(ids[i] as number, -1) > 0) continue;
      this.#numBlocks--;
      if (this.#pool.references(ids[i] as number) === 0) numFreed++;
    }
    return numFreed;
  }

  /** Throws `internal` unless `ids`, one for each reference, are what is counted, and the pool has the references. */
  checkIntegrity(ids: Iterable<number>): void {
    const references = new Int32Array(this.#pool.numBlocks);
    let numReferences = 0;
    for (const id of ids) {
      references[id] = (references[id] as number) + 1;
      numReferences++;
    }
    let numBlocks = 0;
    for (const [id, count] of references.entries()) {
      if (count > 0) numBlocks++;
      if (count !== this.#references[id])
        broken(`block ${id} is held ${count} times, counted ${this.#references[id]}`);
      if (count > 0 && this.#pool.references(id) < count)
        broken(`block ${id} has fewer references than the connector holds of it`);
    }
    if (numBlocks !== this.#numBlocks || numReferences !== this.#numReferences)
      broken(`${numBlocks} blocks are held ${numReferences} times, counted otherwise`);
    if (numBlocks > this.#maxBlocks)
      broken(`${numBlocks} blocks are held, allowed are ${this.#maxBlocks}`);
  }

  #budgetRefusal(numNew: number): RefusedError {
    const [held, most] = [this.#numBlocks, this.#maxBlocks];
    return new RefusedError(
      "budget",
      `${numNew} more blocks; the connector holds ${held} and may hold ${most}`,
      most - held,
    );
  }

  /** Answers the block's new count. */
  #change(id: number, by: number): number {
    const count = (this.#references[id] as number) + by;
    this.#references[id] = count;
    return count;
  }
}

function pressureRefusal(numFree: number, numSpare: number): RefusedError {
  return new RefusedError(
    "pressure",
    `${numFree} free blocks; requests can do without ${numSpare}`,
    Math.max(0, numSpare),
  );
}

function broken(what: string): never {
  throw new KvEngineError("internal", `holds of a connector: ${what}`);
}
