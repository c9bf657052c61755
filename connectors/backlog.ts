/** Blocks that are to be stored, in order. */

import type { BlockId } from "./block-pool-view.ts";

/** Blocks that were taken and are still in memory, at least, before what is left is moved. */
const MOST_TAKEN = 1024;

export class Backlog {
  #ids: BlockId[] = [];
  /** Those before it were taken. */
  #at = 0;

  get size(): number {
    return this.#ids.length - this.#at;
  }

  add(ids: Iterable<BlockId>): void {
    for (const id of ids) this.#ids.push(id);
  }

  /** The first ones, `count` at most. */
  first(count: number): readonly BlockId[] {
    return this.#ids.slice(this.#at, this.#at + count);
  }

  /** Takes the first ones away, of which there are as many. */
  drop(count: number): void {
    this.#at += count;
    if (this.#at <= Math.max(MOST_TAKEN, this.size)) return;
    this.#ids = this.#ids.slice(this.#at);
    this.#at = 0;
  }

  clear(): void {
    this.#ids = [];
    this.#at = 0;
  }
}
