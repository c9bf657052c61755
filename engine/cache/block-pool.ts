/**
 * The device's KV blocks as ids: references, free order, and what content a block holds (its hash). It knows no tokens,
 * requests or steps: who may free when is the scheduler's rule. Everything lies in typed arrays, and no operation looks
 * at more blocks than it is given.
 *
 * A block with a hash keeps its content while it is free, until it is handed out: the free queue is also the order of
 * eviction. Blocks without a hash are handed out first, then the longest unused, of one table the tail before the head.
 */

import { KvEngineError } from "../errors.ts";
import { BlockMap } from "./block-map.ts";

/** Stands in a block table where a position left the window. Never free, handed out, referenced, hashed or freed. */
export const NULL_BLOCK = 0;

/** Marks a block that is not in the free queue. */
const NOT_QUEUED = -1;

// A block's state is a run of words, so that looking at a block is one cache line.
const WORDS = 4;
const NEXT = 0;
const PREVIOUS = 1;
const REFERENCES = 2;
/** Twice the number of times that the block was handed out, and one more while it has a hash. */
const GENERATION = 3;
const HASHED = 1;

export class BlockPool {
  /** All blocks, the null block included. */
  readonly numBlocks: number;
  /**
   * Of each block: its neighbours in the doubly linked free queue (as ids), its references and its generation. One further
   * entry, at `numBlocks`, is the sentinel at both ends of the queue.
   */
  readonly #state: Int32Array;
  readonly #map: BlockMap;
  #numFree: number;
  #numEvicted = 0;
  #operations = 0;

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
    this.#map = new BlockMap(numBlocks);
    this.#numFree = numBlocks - 1;
  }

  get numFree(): number {
    return this.#numFree;
  }

  /** Blocks with a reference. */
  get numUsed(): number {
    return this.numBlocks - 1 - this.#numFree;
  }

  /** Blocks with a hash, free or not. */
  get numHashed(): number {
    return this.#map.size;
  }

  /** Blocks that were handed out while they held content, since the start: each is a prefix that is found no more. */
  get numEvicted(): number {
    return this.#numEvicted;
  }

  /** Turns of all loops since the start, so that a test can hold them against the size of the pool. */
  get operations(): number {
    return this.#operations + this.#map.operations;
  }

  /** Holders of a block; 0 = free. */
  references(id: number): number {
    return this.#state[this.#checked(id) * WORDS + REFERENCES] as number;
  }

  /** How often the block was handed out: a reader that remembers it can tell that the content is another's. */
  generation(id: number): number {
    return (this.#state[this.#checked(id) * WORDS + GENERATION] as number) >>> 1;
  }

  isHashed(id: number): boolean {
    return ((this.#state[this.#checked(id) * WORDS + GENERATION] as number) & HASHED) !== 0;
  }

  /** A copy of the block's hash; undefined when it has none. */
  hashOf(id: number): Int32Array | undefined {
    return this.isHashed(id) ? this.#map.hashOf(id) : undefined;
  }

  /** The group that the block's hash was published for; undefined when it has none. */
  groupOf(id: number): number | undefined {
    return this.isHashed(id) ? this.#map.groupOf(id) : undefined;
  }

  /** The step that published the block's hash; -1 when it has none. */
  publishedStep(id: number): number {
    return this.isHashed(id) ? this.#map.stepOf(id) : -1;
  }

  /**
   * Takes `count` blocks off the head of the free queue, each with one reference, into `into` from `offset` on; they lose
   * their hashes. Answers false, and changes nothing, when fewer are free.
   */
  allocate(count: number, into: Int32Array, offset: number): boolean {
    if (count > this.#numFree) return false;
    if (!(count >= 0) || offset + count > into.length) {
      throw new KvEngineError(
        "internal",
        `no room for ${count} block ids at ${offset} of ${into.length}`,
      );
    }
    const state = this.#state;
    const end = this.numBlocks * WORDS;
    let id = state[end + NEXT] as number;
    let hashed = 0;
    for (let i = 0; i < count; i++) {
      const at = id * WORDS;
      into[offset + i] = id;
      id = state[at + NEXT] as number;
      state[at + NEXT] = NOT_QUEUED;
      state[at + REFERENCES] = 1;
      hashed |= state[at + GENERATION] as number;
    }
    state[end + NEXT] = id;
    state[id * WORDS + PREVIOUS] = this.numBlocks;
    this.#numFree -= count;
    this.#operations += count;
    this.#renew(into, offset, count, (hashed & HASHED) !== 0);
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
    this.#operations += count;
  }

  /**
   * Drops a reference of each of the first `count` ids, a request's blocks in the order of its table. Of those that become
   * free the ones without a hash go to the front of the queue, the others to its back, the last of the table first. Throws
   * `internal` and changes nothing when an id is no block, the null block, or has fewer references than the call would drop.
   */
  free(ids: Int32Array, count: number): void {
    const state = this.#state;
    for (let i = 0; i < count; i++) {
      const id = ids[i] as number;
      const at = id * WORDS + REFERENCES;
      if (!(id > NULL_BLOCK && id < this.numBlocks) || state[at] === 0) {
        while (--i >= 0) {
          const undone = (ids[i] as number) * WORDS + REFERENCES;
          state[undone] = (state[undone] as number) + 1;
        }
        throw new KvEngineError("internal", `block ${id} is not held, so it cannot be freed`, {
          subject: String(id),
        });
      }
      state[at] = (state[at] as number) - 1;
    }
    this.#operations += count;
    this.#enqueue(ids, count);
  }

  /** The block holds the content of the hash at word `at` of `words`, for a group, from step `step` on. */
  insert(id: number, words: Int32Array, at: number, group: number, step: number): void {
    const state = this.#checked(id) * WORDS;
    const generation = this.#state[state + GENERATION] as number;
    if (this.#state[state + REFERENCES] === 0 || (generation & HASHED) !== 0) {
      const why = (generation & HASHED) !== 0 ? "has a hash already" : "is not held";
      throw new KvEngineError("internal", `block ${id} ${why}, so it cannot be given a hash`, {
        subject: String(id),
      });
    }
    this.#state[state + GENERATION] = generation | HASHED;
    this.#map.insert(id, words, at, group, step);
  }

  /** The first inserted of the blocks that hold the content of the hash at word `at`, free or not; 0 = none. */
  find(words: Int32Array, at: number, group: number): number {
    return this.#map.find(words, at, group);
  }

  /** Takes the block's hash away, if it has one. It stays where it is in the free queue. */
  unhash(id: number): boolean {
    if (!this.isHashed(id)) return false;
    this.#map.remove(id);
    const at = id * WORDS + GENERATION;
    this.#state[at] = (this.#state[at] as number) & ~HASHED;
    return true;
  }

  /** Takes all hashes away. References and free order stay. */
  unhashAll(): void {
    const state = this.#state;
    for (let at = WORDS + GENERATION; at < this.numBlocks * WORDS; at += WORDS)
      state[at] = (state[at] as number) & ~HASHED;
    this.#map.clear();
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

  /** Throws `internal` unless `free + used = all less the null block`, and queue, links, references, map and hashes agree. */
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
    this.#map.checkIntegrity((id) => (this.#word(id, GENERATION) & HASHED) !== 0);
  }

  #checked(id: number | undefined): number {
    if (id !== undefined && (id | 0) === id && id > NULL_BLOCK && id < this.numBlocks) return id;
    throw new KvEngineError("internal", `block ${id} is not one of 1..${this.numBlocks - 1}`, {
      subject: String(id),
    });
  }

  #word(id: number, word: number): number {
    return this.#state[id * WORDS + word] as number;
  }

  /** What was just handed out is another's: no hash, next generation. */
  #renew(ids: Int32Array, offset: number, count: number, someHashed: boolean): void {
    const state = this.#state;
    if (someHashed && count > 1) this.#map.prefetch(ids, offset, count);
    for (let i = offset; i < offset + count; i++) {
      const at = (ids[i] as number) * WORDS + GENERATION;
      const generation = state[at] as number;
      if (someHashed && (generation & HASHED) !== 0) {
        this.#map.remove(ids[i] as number);
        this.#numEvicted++;
      }
      state[at] = (generation | HASHED) + 1;
    }
  }

  /** Puts those of the ids that have no reference left into the free queue. */
  #enqueue(ids: Int32Array, count: number): void {
    const state = this.#state;
    const sentinel = this.numBlocks;
    const end = sentinel * WORDS;
    /** The last of the new front part of the queue. */
    let front = sentinel;
    for (let i = count - 1; i >= 0; i--) {
      const id = ids[i] as number;
      const at = id * WORDS;
      // An id that the call has twice is queued once.
      if (state[at + REFERENCES] !== 0 || state[at + NEXT] !== NOT_QUEUED) continue;
      const isHashed = ((state[at + GENERATION] as number) & HASHED) !== 0;
      const previous = isHashed ? (state[end + PREVIOUS] as number) : front;
      const next = isHashed ? sentinel : (state[front * WORDS + NEXT] as number);
      state[at + NEXT] = next;
      state[at + PREVIOUS] = previous;
      state[previous * WORDS + NEXT] = id;
      state[next * WORDS + PREVIOUS] = id;
      if (!isHashed) front = id;
      this.#numFree++;
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
