/** One sequence's blocks in one group of layers: entry `i` covers positions `i * blockSize` and up. */

import type { BlockPool } from "./block-pool.ts";

/** What is known of an entry's KV: `present` = computed by a submitted step or found, `loading` = a connector brings it. */
export type BlockState = "missing" | "loading" | "present";

const STATES: readonly BlockState[] = ["missing", "loading", "present"];
const MISSING = 0;
const LOADING = 1;
const PRESENT = 2;

export class BlockTable {
  #ids: Int32Array;
  #states: Uint8Array;
  #length = 0;
  /** The entries in use. The same object until the length changes, so copying it each step costs no allocation. */
  #entries: Int32Array;
  /** Entries before this one are null for good: no later position needs them. */
  first = 0;

  /** `capacity` is a first guess; the table grows as needed. */
  constructor(capacity: number) {
    this.#ids = new Int32Array(Math.max(capacity, 1));
    this.#states = new Uint8Array(this.#ids.length);
    this.#entries = this.#ids.subarray(0, 0);
  }

  get length(): number {
    return this.#length;
  }

  /** Block ids in order, 0 where there is none; valid until the next change. */
  get entries(): Int32Array {
    return this.#entries;
  }

  /** Of an entry that left the window: what it was. */
  state(index: number): BlockState {
    return STATES[this.#states[index] ?? MISSING] as BlockState;
  }

  isPresent(index: number): boolean {
    return this.#states[index] === PRESENT;
  }

  isLoading(index: number): boolean {
    return this.#states[index] === LOADING;
  }

  mark(index: number, state: BlockState): void {
    this.#states[index] = STATES.indexOf(state);
  }

  /** Marks entries `from` to `to` (not included) present. */
  markPresent(from: number, to: number): void {
    this.#states.fill(PRESENT, from, to);
  }

  set(index: number, id: number): void {
    this.#ids[index] = id;
  }

  /** Sets how many entries are in use; new ones are 0 and missing, the caller has given back the ones cut off. */
  resize(length: number): void {
    if (length === this.#length) return;
    if (length > this.#ids.length) {
      const capacity = Math.max(length, this.#ids.length * 2);
      const ids = new Int32Array(capacity);
      const states = new Uint8Array(capacity);
      ids.set(this.#entries);
      states.set(this.#states);
      this.#ids = ids;
      this.#states = states;
    } else if (length < this.#length) {
      this.#ids.fill(0, length, this.#length);
      this.#states.fill(MISSING, length, this.#length);
    }
    this.#length = length;
    this.#entries = this.#ids.subarray(0, length);
  }

  /** New blocks for entries `from` to `to` (not included), none of which has one. False: too few are free. */
  allocate(from: number, to: number, pool: BlockPool): boolean {
    return pool.allocate(to - from, this.#ids, from);
  }

  clear(): void {
    this.first = 0;
    this.resize(0);
  }
}
