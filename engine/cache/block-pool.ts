/**
 * The device's KV blocks as ids: references, free order, and what content a block holds (its hash). It knows no tokens,
 * requests or steps: who may free when is the scheduler's rule. Everything lies in typed arrays, and no operation looks
 * at more blocks than it is given and, when it hands some out, at those in flight before them.
 *
 * A block with a hash keeps its content while it is free, until it is handed out: the free queue is also the order of
 * eviction. Blocks without a hash are handed out first, then the longest unused, of one table the tail before the head.
 *
 * A block may be in flight: its pages are being copied. It keeps its place in that order, whether it is referenced, freed or
 * touched meanwhile, and is not handed out before all of its flights have ended.
 */

import { KvEngineError } from "../errors.ts";
import { BlockMap } from "./block-map.ts";
import { GENERATION, HASHED, REFERENCES, WORDS } from "./block-record.ts";
import { FreeQueue } from "./free-queue.ts";
import type { QueueCursor } from "./queue-cursor.ts";

/** Stands in a block table where a position left the window. Never free, handed out, referenced, hashed or freed. */
export const NULL_BLOCK = 0;

export class BlockPool {
  /** All blocks, the null block included. */
  readonly numBlocks: number;
  /** The blocks' records, and one more for both ends of the free queue. */
  readonly #state: Int32Array;
  readonly #queue: FreeQueue;
  readonly #map: BlockMap;
  readonly #onEvicted: ((id: number) => void)[] = [];
  readonly #onUnhashed: ((id: number, why: "withdrawn" | "reset") => void)[] = [];
  #numAllocated = 0;
  #numGains = 0;
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
    this.#state = new Int32Array((numBlocks + 1) * WORDS);
    this.#queue = new FreeQueue(this.#state, numBlocks);
    this.#map = new BlockMap(numBlocks);
    // Without hashes they go to the front, the last of them first.
    const ids = new Int32Array(numBlocks - 1);
    for (let i = 0; i < ids.length; i++) ids[i] = ids.length - i;
    this.#queue.add(ids, ids.length);
  }

  /** Blocks that can be handed out now. */
  get numFree(): number {
    return this.#queue.size - this.#queue.numFlying;
  }

  /** Blocks without a reference that are in flight: they become free when that has ended. */
  get numFlying(): number {
    return this.#queue.numFlying;
  }

  /** Blocks with a reference. */
  get numUsed(): number {
    return this.numBlocks - 1 - this.#queue.size;
  }

  /** Blocks with a hash, free or not. */
  get numHashed(): number {
    return this.#map.size;
  }

  /** Blocks that were handed out while they held content, since the start: each is a prefix that is found no more. */
  get numEvicted(): number {
    return this.#numEvicted;
  }

  /** Times that a block was handed out, since the start. */
  get numAllocated(): number {
    return this.#numAllocated;
  }

  /**
   * Times, since the start, that a block was given a hash or a free one was referenced again: what may make a request need one block
   * fewer than before.
   */
  get numGains(): number {
    return this.#numGains;
  }

  /** Turns of all loops since the start, so that a test can hold them against the size of the pool. */
  get operations(): number {
    return this.#operations + this.#queue.operations + this.#map.operations;
  }

  /** Holders of a block; 0 = free, or in flight and free afterwards. */
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

  /** Writes the block's hash to the start of `into`, if it has one. */
  copyHash(id: number, into: Int32Array): void {
    if (this.isHashed(id)) this.#map.copyHash(id, into, 0);
  }

  /** Writes the hash of a block that has one to word `at` of `into`. Answers its group. */
  copyContent(id: number, into: Int32Array, at: number): number {
    if (!this.isHashed(id)) throw new KvEngineError("internal", `block ${id} has no hash`);
    this.#map.copyHash(id, into, at);
    return this.#map.groupOf(id);
  }

  /** The group that the block's hash was published for; undefined when it has none. */
  groupOf(id: number): number | undefined {
    return this.isHashed(id) ? this.#map.groupOf(id) : undefined;
  }

  /** The step that published the block's hash; -1 when it has none. */
  publishedStep(id: number): number {
    return this.isHashed(id) ? this.#map.stepOf(id) : -1;
  }

  /** Whether the block can be handed out now. */
  isFree(id: number): boolean {
    return this.references(id) === 0 && !this.#queue.isFlying(id);
  }

  /** Whether the block is being copied. */
  isFlying(id: number): boolean {
    return this.#queue.isFlying(this.#checked(id));
  }

  /**
   * Takes the first `count` blocks of the free queue that are not in flight, each with one reference, into `into` from `offset` on;
   * they lose their hashes. Answers false, and changes nothing, when fewer are free.
   */
  allocate(count: number, into: Int32Array, offset: number): boolean {
    if (count > this.numFree) return false;
    if (!(count >= 0) || offset + count > into.length) {
      throw new KvEngineError(
        "internal",
        `no room for ${count} block ids at ${offset} of ${into.length}`,
      );
    }
    this.#numAllocated += count;
    const generations = this.#queue.take(count, into, offset);
    this.#renew(into, offset, count, (generations & HASHED) !== 0);
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
      if (state[at + REFERENCES] === 0) {
        this.#queue.remove(ids[i] as number);
        this.#numGains++;
      }
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
    this.#queue.add(ids, count);
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
    this.#numGains++;
  }

  /** Reads ahead what `insert` will look at for `count` hashes in a row, the first at word `at`, so that its cache misses overlap. */
  prefetchKeys(words: Int32Array, at: number, count: number, group: number): void {
    this.#map.prefetchKeys(words, at, count, group);
  }

  /** The first inserted of the blocks that hold the content of the hash at word `at`, free or not; 0 = none. */
  find(words: Int32Array, at: number, group: number): number {
    return this.#map.find(words, at, group);
  }

  /** The next inserted behind `id` of the blocks that hold the same content; 0 = none, or the block has no hash. */
  findNext(id: number): number {
    return this.isHashed(id) ? this.#map.findNext(id) : NULL_BLOCK;
  }

  /** Takes the block's hash away, if it has one. It stays where it is in the free queue, and in flight. */
  unhash(id: number): boolean {
    if (!this.isHashed(id)) return false;
    for (const callback of this.#onUnhashed) callback(id, "withdrawn");
    this.#map.remove(id);
    const at = id * WORDS + GENERATION;
    this.#state[at] = (this.#state[at] as number) & ~HASHED;
    return true;
  }

  /** Takes all hashes away. References, free order and flights stay. */
  unhashAll(): void {
    const state = this.#state;
    if (this.#onUnhashed.length > 0)
      for (let id = 1; id < this.numBlocks; id++)
        if (this.isHashed(id)) for (const callback of this.#onUnhashed) callback(id, "reset");
    for (let at = WORDS + GENERATION; at < this.numBlocks * WORDS; at += WORDS)
      state[at] = (state[at] as number) & ~HASHED;
    this.#map.clear();
  }

  /**
   * Each of the first `count` ids is in flight once more, for each time it is named. Throws `internal` and changes nothing when
   * an id is no block.
   */
  beginFlight(ids: Int32Array, count: number): void {
    for (let i = 0; i < count; i++) this.#checked(ids[i]);
    for (let i = 0; i < count; i++) this.#queue.beginFlight(ids[i] as number);
    this.#operations += count;
  }

  /** The same for a flight that has ended. Throws `internal` and changes nothing when an id is in fewer flights than the call ends. */
  endFlight(ids: Int32Array, count: number): void {
    for (let i = 0; i < count; i++) {
      const id = ids[i] as number;
      if (id > NULL_BLOCK && id < this.numBlocks && this.#queue.flightsOf(id) > 0) {
        this.#queue.endFlight(id);
        continue;
      }
      while (--i >= 0) this.#queue.beginFlight(ids[i] as number);
      throw new KvEngineError("internal", `block ${id} is not in flight`, { subject: String(id) });
    }
    this.#operations += count;
  }

  /** Calls back for each block with content that is handed out, before it loses that. Must not change the pool, nor throw. */
  onEvicted(callback: (id: number) => void): void {
    this.#onEvicted.push(callback);
  }

  /** The same for each block that loses its content otherwise: by `unhash`, or with all others. */
  onUnhashed(callback: (id: number, why: "withdrawn" | "reset") => void): void {
    this.#onUnhashed.push(callback);
  }

  /** Lets a cursor walk the free queue from its head. Each change of the queue costs more until it is closed. */
  openCursor(cursor: QueueCursor): void {
    this.#queue.open(cursor);
  }

  closeCursor(cursor: QueueCursor): void {
    this.#queue.close(cursor);
  }

  /** Moves an open cursor to the next block of the free queue that its pass has not seen. Answers its id; 0 at the end. */
  advance(cursor: QueueCursor): number {
    return this.#queue.advance(cursor);
  }

  /** Ids of the free queue, the next to be handed out first; those in flight included. */
  freeIds(): number[] {
    return this.#queue.ids();
  }

  /** Throws `internal` unless `free + used + flying = all less the null block`, and queue, references, map and hashes agree. */
  checkIntegrity(): void {
    const broken = (what: string): never => {
      throw new KvEngineError("internal", `block pool: ${what}`);
    };
    this.#queue.checkIntegrity();
    const nullAt = NULL_BLOCK * WORDS;
    if (this.#state[nullAt + REFERENCES] !== 0) broken("the null block is referenced");
    let used = 0;
    for (let id = 1; id < this.numBlocks; id++) {
      const references = this.references(id);
      if (references < 0) broken(`block ${id} has ${references} references`);
      if (references > 0) used++;
    }
    const { numFree, numFlying, numBlocks } = this;
    if (numFree + numFlying + used !== numBlocks - 1)
      broken(`${numFree} free, ${numFlying} flying, ${used} used: not all ${numBlocks - 1}`);
    this.#map.checkIntegrity((id) => id !== NULL_BLOCK && this.isHashed(id));
  }

  #checked(id: number | undefined): number {
    if (id !== undefined && (id | 0) === id && id > NULL_BLOCK && id < this.numBlocks) return id;
    throw new KvEngineError("internal", `block ${id} is not one of 1..${this.numBlocks - 1}`, {
      subject: String(id),
    });
  }

  /** What was just handed out is another's: no hash, next generation. */
  #renew(ids: Int32Array, offset: number, count: number, someHashed: boolean): void {
    const state = this.#state;
    if (someHashed && count > 1) this.#map.prefetch(ids, offset, count);
    for (let i = offset; i < offset + count; i++) {
      const at = (ids[i] as number) * WORDS + GENERATION;
      const generation = state[at] as number;
      if (someHashed && (generation & HASHED) !== 0) {
        for (const callback of this.#onEvicted) callback(ids[i] as number);
        this.#map.remove(ids[i] as number);
        this.#numEvicted++;
      }
      state[at] = (generation | HASHED) + 1;
    }
  }
}
