/**
 * The device's KV blocks as ids, references and free order. It knows no tokens, requests or steps: who may free when is
 * the scheduler's rule. Everything lies in typed arrays, and no operation looks at more blocks than it is given.
 */

import { KvEngineError } from "../errors.ts";

/** Stands in a block table where a position left the window. Never free, handed out, referenced or freed. */
export const NULL_BLOCK = 0;

/** Marks a block that is not in the free queue. */
const NOT_QUEUED = -1;

// A block's state is a run of words, so that looking at a block is one cache line.
const WORDS = 4;
const NEXT = 0;
const PREVIOUS = 1;
const REFERENCES = 2;

export class BlockPool {
  /** All blocks, the null block included. */
  readonly numBlocks: number;
  /**
   * Of each block: its neighbours in the doubly linked free queue (as ids) and its references. One further entry, at
   * `numBlocks`, is the sentinel at both ends of the queue.
   */
  readonly #state: Int32Array;
  #numFree: number;

  /** `numBlocks` counts the null block, so a pool of 2 has one block to give. */
  constructor(numBlocks: number) {
    if (!Number.isInteger(numBlocks) || numBlocks < 2) {
      throw new KvEngineError(
        "bad_config",
        `a block pool needs at least 2 blocks, got ${numBlocks}`,
        {
          subject: "numBlocks",
        },
      );
    }
    this.numBlocks = numBlocks;
    const state = new Int32Array((numBlocks + 1) * WORDS);
    for (let id = 1; id <= numBlocks; id++) {
      state[id * WORDS + NEXT] = id === numBlocks ? 1 : id + 1;
      state[id * WORDS + PREVIOUS] = id === 1 ? numBlocks : id - 1;
    }
    state[NULL_BLOCK * WORDS + NEXT] = NOT_QUEUED;
    this.#state = state;
    this.#numFree = numBlocks - 1;
  }

  get numFree(): number {
    return this.#numFree;
  }

  /** Blocks with a reference. */
  get numUsed(): number {
    return this.numBlocks - 1 - this.#numFree;
  }

  /** Holders of a block; 0 = free. */
  references(id: number): number {
    return this.#state[this.#checked(id) * WORDS + REFERENCES] as number;
  }

  /**
   * Takes `count` blocks off the head of the free queue, each with one reference, into `into` from `offset` on.
   * Answers false, and changes nothing, when fewer are free.
   */
  allocate(count: number, into: Int32Array, offset: number): boolean {
    if (count > this.#numFree) return false;
    if (count < 0 || offset + count > into.length) {
      throw new KvEngineError(
        "internal",
        `no room for ${count} block ids at ${offset} of ${into.length}`,
      );
    }
    const state = this.#state;
    const end = this.numBlocks * WORDS;
    let id = state[end + NEXT] as number;
    for (let i = 0; i < count; i++) {
      const at = id * WORDS;
      into[offset + i] = id;
      id = state[at + NEXT] as number;
      state[at + NEXT] = NOT_QUEUED;
      state[at + REFERENCES] = 1;
    }
    state[end + NEXT] = id;
    state[id * WORDS + PREVIOUS] = this.numBlocks;
    this.#numFree -= count;
    return true;
  }

  /**
   * Adds a reference to each of the first `count` ids; a free one leaves the queue. Throws `internal` and changes
   * nothing when an id is no block or the null block.
   */
  touch(ids: Int32Array, count: number): void {
    for (let i = 0; i < count; i++) this.#checked(ids[i]);
    const state = this.#state;
    for (let i = 0; i < count; i++) {
      const at = (ids[i] as number) * WORDS;
      if (state[at + REFERENCES] === 0) this.#unlink(at);
      state[at + REFERENCES] = (state[at + REFERENCES] as number) + 1;
    }
  }

  /**
   * Drops a reference of each of the first `count` ids, a request's blocks in the order of its table. Those that become
   * free go to the front of the queue, the last of them first. Throws `internal` and changes nothing when an id is no
   * block, the null block, or has fewer references than the call would drop.
   */
  free(ids: Int32Array, count: number): void {
    const state = this.#state;
    const end = this.numBlocks * WORDS;
    let first = state[end + NEXT] as number;
    for (let i = 0; i < count; i++) {
      const id = ids[i] as number;
      const at = id * WORDS;
      if (!(id > NULL_BLOCK && id < this.numBlocks) || state[at + REFERENCES] === 0) {
        state[end + NEXT] = first;
        this.#undoFree(ids, i);
        throw new KvEngineError("internal", `block ${id} is not held, so it cannot be freed`, {
          subject: String(id),
        });
      }
      const left = (state[at + REFERENCES] as number) - 1;
      state[at + REFERENCES] = left;
      if (left > 0) continue;
      state[at + NEXT] = first;
      state[at + PREVIOUS] = this.numBlocks;
      state[first * WORDS + PREVIOUS] = id;
      first = id;
      this.#numFree++;
    }
    state[end + NEXT] = first;
  }

  /** Ids of the free queue, the next to be handed out first. */
  freeIds(): number[] {
    const ids: number[] = [];
    for (
      let id = this.#word(this.numBlocks, NEXT);
      id !== this.numBlocks;
      id = this.#word(id, NEXT)
    ) {
      ids.push(id);
      if (ids.length > this.numBlocks)
        throw new KvEngineError("internal", "the free queue runs in a circle");
    }
    return ids;
  }

  /** Throws `internal` unless `free + used = all less the null block` and queue, links and references agree. */
  checkIntegrity(): void {
    const broken = (what: string): never => {
      throw new KvEngineError("internal", `block pool: ${what}`);
    };
    const free = this.freeIds();
    if (free.length !== this.#numFree)
      broken(`${free.length} blocks are queued, ${this.#numFree} are counted free`);
    let before = this.numBlocks;
    for (const id of free) {
      if (id <= NULL_BLOCK || id >= this.numBlocks) broken(`${id} is queued and no block`);
      const previous = this.#word(id, PREVIOUS);
      const references = this.#word(id, REFERENCES);
      if (previous !== before) broken(`block ${id} links back to ${previous}, not ${before}`);
      if (references !== 0) broken(`block ${id} is queued with ${references} references`);
      before = id;
    }
    if (this.#word(this.numBlocks, PREVIOUS) !== before)
      broken("the end of the free queue is not its last block");
    if (this.#word(NULL_BLOCK, REFERENCES) !== 0) broken("the null block is referenced");
    let used = 0;
    for (let id = 1; id < this.numBlocks; id++) {
      const references = this.#word(id, REFERENCES);
      if (references < 0) broken(`block ${id} has ${references} references`);
      if (references > 0) used++;
    }
    if (free.length + used !== this.numBlocks - 1) {
      broken(`${free.length} free and ${used} used blocks are not all ${this.numBlocks - 1}`);
    }
  }

  #checked(id: number | undefined): number {
    if (id !== undefined && id > NULL_BLOCK && id < this.numBlocks) return id;
    throw new KvEngineError("internal", `block ${id} is not one of 1..${this.numBlocks - 1}`, {
      subject: String(id),
    });
  }

  #word(id: number, word: number): number {
    return this.#state[id * WORDS + word] as number;
  }

  /** Takes back what `free` did to the first `count` ids, the last first. */
  #undoFree(ids: Int32Array, count: number): void {
    const state = this.#state;
    for (let i = count - 1; i >= 0; i--) {
      const at = (ids[i] as number) * WORDS;
      if (state[at + REFERENCES] === 0) this.#unlink(at);
      state[at + REFERENCES] = (state[at + REFERENCES] as number) + 1;
    }
  }

  /** Takes the block whose words begin at `at` out of the free queue. */
  #unlink(at: number): void {
    const state = this.#state;
    const next = state[at + NEXT] as number;
    const previous = state[at + PREVIOUS] as number;
    state[previous * WORDS + NEXT] = next;
    state[next * WORDS + PREVIOUS] = previous;
    state[at + NEXT] = NOT_QUEUED;
    this.#numFree--;
  }
}
