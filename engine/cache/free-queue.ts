/**
 * The free blocks in the order in which they are handed out, a doubly linked list through the blocks' records. A block that is
 * being copied ("in flight") keeps its place, and the allocator steps over it: copying never changes what is evicted next.
 */

import { KvEngineError } from "../errors.ts";
import {
  GENERATION,
  HASHED,
  NEXT,
  NOT_QUEUED,
  PREVIOUS,
  REFERENCES,
  WORDS,
} from "./block-record.ts";
import type { QueueCursor } from "./queue-cursor.ts";

/** Places that the allocator reads ahead: as many as a processor has reads under way at once. */
const AHEAD = 8;

export class FreeQueue {
  /** The blocks' records, and behind them one for both ends of the queue. */
  readonly #state: Int32Array;
  /** Id of that last record. */
  readonly #end: number;
  /**
   * Of each block: the one that came into the queue `AHEAD` places behind it, which may have left it since. A hint, so that reads of
   * records need not wait for each other: in a large pool each one is a cache miss.
   */
  readonly #ahead: Int32Array;
  /** The blocks that came last, in a ring. */
  readonly #newest = new Int32Array(AHEAD);
  #numAdded = 0;
  /** Of no meaning: it keeps the compiler from leaving the reads ahead out. */
  readAhead = 0;
  /** Of each block: copies that are under way. */
  readonly #flights: Int32Array;
  readonly #cursors: QueueCursor[] = [];
  #size = 0;
  #numInFlight = 0;
  #numFlying = 0;
  /** Blocks looked at since the start. */
  operations = 0;

  /** An empty queue over the records of `numBlocks` blocks and one more. */
  constructor(state: Int32Array, numBlocks: number) {
    this.#state = state;
    this.#end = numBlocks;
    this.#ahead = new Int32Array(numBlocks);
    this.#flights = new Int32Array(numBlocks);
    for (let id = 0; id < numBlocks; id++) state[id * WORDS + NEXT] = NOT_QUEUED;
    state[numBlocks * WORDS + NEXT] = numBlocks;
    state[numBlocks * WORDS + PREVIOUS] = numBlocks;
  }

  /** Blocks in the queue, those in flight included. */
  get size(): number {
    return this.#size;
  }

  /** Blocks of the queue that are in flight. */
  get numFlying(): number {
    return this.#numFlying;
  }

  isQueued(id: number): boolean {
    return this.#state[id * WORDS + NEXT] !== NOT_QUEUED;
  }

  isFlying(id: number): boolean {
    return this.#numInFlight > 0 && this.#flights[id] !== 0;
  }

  flightsOf(id: number): number {
    return this.#flights[id] as number;
  }

  /**
   * Takes the first `count` blocks that are not in flight, each with one reference, into `into` from `offset` on; the caller has made
   * sure that there are as many. Answers the bits that are set in any of their generations.
   */
  take(count: number, into: Int32Array, offset: number): number {
    if (this.#numFlying > 0 || this.#cursors.length > 0)
      return this.#takeAround(count, into, offset);
    const state = this.#state;
    const end = this.#end * WORDS;
    let id = state[end + NEXT] as number;
    let generations = 0;
    let readAhead = 0;
    for (let i = 0; i < count; i++) {
      const at = id * WORDS;
      into[offset + i] = id;
      readAhead ^= state[(this.#ahead[id] as number) * WORDS] as number;
      id = state[at + NEXT] as number;
      state[at + NEXT] = NOT_QUEUED;
      state[at + REFERENCES] = 1;
      generations |= state[at + GENERATION] as number;
    }
    this.readAhead = readAhead;
    state[end + NEXT] = id;
    state[id * WORDS + PREVIOUS] = this.#end;
    this.#size -= count;
    this.operations += count;
    return generations;
  }

  /** Takes a block out of the queue. */
  remove(id: number): void {
    const state = this.#state;
    const at = id * WORDS;
    const next = state[at + NEXT] as number;
    const previous = state[at + PREVIOUS] as number;
    state[previous * WORDS + NEXT] = next;
    state[next * WORDS + PREVIOUS] = previous;
    state[at + NEXT] = NOT_QUEUED;
    this.#size--;
    if (this.isFlying(id)) this.#numFlying--;
    if (this.#cursors.length > 0) for (const cursor of this.#cursors) cursor.removed(id, previous);
  }

  /**
   * Puts those of the first `count` ids that have no reference into the queue, unless they are there: without a hash to its front,
   * the others to its back, the last one first.
   */
  add(ids: Int32Array, count: number): void {
    const state = this.#state;
    const end = this.#end;
    const isWatched = this.#numInFlight > 0 || this.#cursors.length > 0;
    /** The last of the new front part of the queue. */
    let front = end;
    let added = 0;
    for (let i = count - 1; i >= 0; i--) {
      const id = ids[i] as number;
      const at = id * WORDS;
      // An id that the call has twice is queued once.
      if (state[at + REFERENCES] !== 0 || state[at + NEXT] !== NOT_QUEUED) continue;
      const isHashed = ((state[at + GENERATION] as number) & HASHED) !== 0;
      const previous = isHashed ? (state[end * WORDS + PREVIOUS] as number) : front;
      const next = isHashed ? end : (state[front * WORDS + NEXT] as number);
      state[at + NEXT] = next;
      state[at + PREVIOUS] = previous;
      state[previous * WORDS + NEXT] = id;
      state[next * WORDS + PREVIOUS] = id;
      added++;
      const place = this.#numAdded++ % AHEAD;
      this.#ahead[this.#newest[place] as number] = id;
      this.#newest[place] = id;
      if (!isHashed) front = id;
      if (isWatched) this.#noteAdded(id, isHashed);
    }
    this.#size += added;
  }

  beginFlight(id: number): void {
    const flights = this.#flights[id] as number;
    this.#flights[id] = flights + 1;
    if (flights > 0) return;
    this.#numInFlight++;
    if (this.isQueued(id)) this.#numFlying++;
  }

  /** The caller has made sure that the block is in flight. */
  endFlight(id: number): void {
    const flights = (this.#flights[id] as number) - 1;
    this.#flights[id] = flights;
    if (flights > 0) return;
    this.#numInFlight--;
    if (this.isQueued(id)) this.#numFlying--;
  }

  /** Begins a pass from the head. Each change of the queue costs more with each open cursor, so who opens one closes it. */
  open(cursor: QueueCursor): void {
    if (!this.#cursors.includes(cursor)) this.#cursors.push(cursor);
    cursor.start(this.#end);
  }

  close(cursor: QueueCursor): void {
    const index = this.#cursors.indexOf(cursor);
    if (index >= 0) this.#cursors.splice(index, 1);
  }

  /** Moves an open cursor to the next block that its pass has not seen. Answers its id; 0 at the end of the queue. */
  advance(cursor: QueueCursor): number {
    for (;;) {
      const id = this.#state[cursor.at * WORDS + NEXT] as number;
      if (id === this.#end) return 0;
      this.operations++;
      if (cursor.pass(id)) return id;
    }
  }

  /** Ids in order. */
  ids(): number[] {
    const state = this.#state;
    const ids: number[] = [];
    let id = state[this.#end * WORDS + NEXT] as number;
    for (; id !== this.#end; id = state[id * WORDS + NEXT] as number) {
      ids.push(id);
      if (ids.length > this.#end) broken("runs in a circle");
    }
    return ids;
  }

  /** Throws `internal` unless links, counts, references, flights and cursors agree. */
  checkIntegrity(): void {
    const state = this.#state;
    const ids = this.ids();
    if (ids.length !== this.#size) broken(`has ${ids.length} blocks, ${this.#size} are counted`);
    let before = this.#end;
    let numFlying = 0;
    for (const id of ids) {
      if (id <= 0 || id >= this.#end) broken(`has ${id}, which is no block`);
      const previous = state[id * WORDS + PREVIOUS] as number;
      const references = state[id * WORDS + REFERENCES] as number;
      if (previous !== before) broken(`has block ${id} behind ${before}, not ${previous}`);
      if (references !== 0) broken(`has block ${id} with ${references} references`);
      if (this.flightsOf(id) > 0) numFlying++;
      before = id;
    }
    if (state[this.#end * WORDS + PREVIOUS] !== before) broken("does not end with its last block");
    const numInFlight = this.#flights.reduce((sum, flights) => sum + (flights > 0 ? 1 : 0), 0);
    if (this.#flights.some((flights) => flights < 0)) broken("has less than no flight of a block");
    if (numFlying !== this.#numFlying || numInFlight !== this.#numInFlight)
      broken(`has ${numFlying} of ${numInFlight} in flight, ${this.#numFlying} are counted`);
    for (const { at, numPassed } of this.#cursors)
      if (ids.indexOf(at) !== numPassed - 1) broken(`has a cursor at ${at} behind ${numPassed}`);
  }

  #noteAdded(id: number, isHashed: boolean): void {
    if (this.isFlying(id)) this.#numFlying++;
    if (!isHashed) for (const cursor of this.#cursors) cursor.prepended(id);
  }

  #takeAround(count: number, into: Int32Array, offset: number): number {
    const state = this.#state;
    let id = state[this.#end * WORDS + NEXT] as number;
    let generations = 0;
    for (let taken = 0; taken < count;) {
      const at = id * WORDS;
      const next = state[at + NEXT] as number;
      this.operations++;
      if (!this.isFlying(id)) {
        into[offset + taken++] = id;
        this.remove(id);
        state[at + REFERENCES] = 1;
        generations |= state[at + GENERATION] as number;
      }
      id = next;
    }
    return generations;
  }
}

function broken(what: string): never {
  throw new KvEngineError("internal", `block pool: the free queue ${what}`);
}
