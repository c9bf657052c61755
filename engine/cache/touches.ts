/**
 * Holds without an identity, in the order in which they were opened: each is one of a block, and all last equally long, so the oldest
 * is also the next to end. One that ended at its deadline leaves a tombstone, a count for its block, so that who frees it later is told
 * and does not free a newer one in its stead.
 */

interface Touch {
  readonly id: number;
  readonly expiresAt: number;
  /** Neighbours in time. */
  older: Touch | undefined;
  newer: Touch | undefined;
  /** The next one of the same block. */
  nextOfBlock: Touch | undefined;
}

/** The open touches of a block; there is at least one. */
interface BlockTouches {
  oldest: Touch;
  newest: Touch;
  numOpen: number;
}

/** `notHeld`, with the first block that is named more often than it was touched; `expired`, with those whose oldest touch had ended. */
export type CloseOutcome =
  | { readonly kind: "closed" }
  | { readonly kind: "notHeld"; readonly id: number }
  | { readonly kind: "expired"; readonly ids: readonly number[] };

export class Touches {
  readonly #blocks = new Map<number, BlockTouches>();
  /** Of each block. A count needs no more memory, however often a connector forgets to free. */
  readonly #tombstones: Int32Array;
  /** Of each block: how often the list at hand names it; 0 between calls. */
  readonly #named: Int32Array;
  #oldest: Touch | undefined;
  #newest: Touch | undefined;

  constructor(numBlocks: number) {
    this.#tombstones = new Int32Array(numBlocks);
    this.#named = new Int32Array(numBlocks);
  }

  /** When the next one ends. */
  get nextDeadline(): number | undefined {
    return this.#oldest?.expiresAt;
  }

  /** One for each time that a block is named. `expiresAt` is not before that of any earlier one. */
  open(ids: Int32Array, expiresAt: number): void {
    for (const id of ids) {
      const before = this.#newest;
      const touch: Touch = {
        id,
        expiresAt,
        older: before,
        newer: undefined,
        nextOfBlock: undefined,
      };
      if (before === undefined) this.#oldest = touch;
      else before.newer = touch;
      this.#newest = touch;
      const block = this.#blocks.get(id);
      if (block === undefined) {
        this.#blocks.set(id, { oldest: touch, newest: touch, numOpen: 1 });
        continue;
      }
      block.newest.nextOfBlock = touch;
      block.newest = touch;
      block.numOpen++;
    }
  }

  /**
   * Closes the oldest touch of each block, or none: when a block was not touched as often nothing changes; when the oldest touch of one
   * had ended, the tombstones that the list meets go, and nothing else.
   */
  close(ids: Int32Array): CloseOutcome {
    const missing = this.#findMissing(ids);
    if (missing !== undefined) return { kind: "notHeld", id: missing };
    const expired: number[] = [];
    for (const id of ids) {
      const tombstones = this.#tombstones[id] as number;
      if (tombstones === 0) continue;
      this.#tombstones[id] = tombstones - 1;
      expired.push(id);
    }
    if (expired.length > 0) return { kind: "expired", ids: expired };
    for (const id of ids) this.#closeOldest(id);
    return { kind: "closed" };
  }

  /** Ends what is due. Answers the blocks, one for each touch. */
  expire(now: number): number[] {
    const ids: number[] = [];
    while (this.#oldest !== undefined && this.#oldest.expiresAt <= now) {
      const { id } = this.#oldest;
      this.#closeOldest(id);
      this.#tombstones[id] = (this.#tombstones[id] as number) + 1;
      ids.push(id);
    }
    return ids;
  }

  /** Ends all and forgets the tombstones. Answers the blocks, one for each touch. */
  clear(): number[] {
    const ids = [...this];
    this.#blocks.clear();
    this.#tombstones.fill(0);
    this.#oldest = undefined;
    this.#newest = undefined;
    return ids;
  }

  /** Blocks of the open touches, the oldest first. */
  *[Symbol.iterator](): IterableIterator<number> {
    for (let touch = this.#oldest; touch !== undefined; touch = touch.newer) yield touch.id;
  }

  /** Of the ids one that is named more often than it has touches and tombstones. */
  #findMissing(ids: Int32Array): number | undefined {
    const named = this.#named;
    let missing: number | undefined;
    for (const id of ids) {
      const times = (named[id] as number) + 1;
      named[id] = times;
      const numOpen = this.#blocks.get(id)?.numOpen ?? 0;
      if (times > numOpen + (this.#tombstones[id] as number)) missing ??= id;
    }
    for (const id of ids) named[id] = 0;
    return missing;
  }

  #closeOldest(id: number): void {
    const block = this.#blocks.get(id);
    if (block === undefined) return;
    const { older, newer, nextOfBlock } = block.oldest;
    if (nextOfBlock === undefined) {
      this.#blocks.delete(id);
    } else {
      block.oldest = nextOfBlock;
      block.numOpen--;
    }
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
  }
}
