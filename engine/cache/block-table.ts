/** One request's blocks in one group of layers: entry `i` covers positions `i * blockSize` and up. */

import { KvEngineError } from "../errors.ts";
import type { BlockPool } from "./block-pool.ts";

export class BlockTable {
  #ids: Int32Array;
  #length = 0;
  /** The entries in use. The same object until the table changes, so copying it each step costs no allocation. */
  #entries: Int32Array;

  /** `capacity` is a first guess; the table grows as needed. */
  constructor(capacity: number) {
    this.#ids = new Int32Array(Math.max(capacity, 1));
    this.#entries = this.#ids.subarray(0, 0);
  }

  get length(): number {
    return this.#length;
  }

  /** Block ids in order, valid until the next change. */
  get entries(): Int32Array {
    return this.#entries;
  }

  /** Appends blocks until there are `length`. The caller has made sure that the pool has them: `internal` if not. */
  growTo(length: number, pool: BlockPool): void {
    const missing = length - this.#length;
    if (missing <= 0) return;
    if (length > this.#ids.length) {
      const grown = new Int32Array(Math.max(length, this.#ids.length * 2));
      grown.set(this.#entries);
      this.#ids = grown;
    }
    if (!pool.allocate(missing, this.#ids, this.#length)) {
      throw new KvEngineError(
        "internal",
        `${missing} blocks were promised, ${pool.numFree} are free`,
      );
    }
    this.#length = length;
    this.#entries = this.#ids.subarray(0, length);
  }

  /** Gives all blocks back. */
  release(pool: BlockPool): void {
    pool.free(this.#ids, this.#length);
    this.#length = 0;
    this.#entries = this.#ids.subarray(0, 0);
  }
}
