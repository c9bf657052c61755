/** Sequences that wait, the one to admit next first: a binary heap in which each item knows its place. */

import { KvEngineError } from "../errors.ts";

export interface Queued {
  /** Lower goes first. */
  readonly priority: number;
  /** Order of arrival, unique: decides between equal priorities. */
  readonly number: number;
  /** Place in the heap; belongs to the queue. Any value before the first push, -1 after removal. */
  queueIndex: number;
}

/** Whether `a` goes before `b`. */
export function goesBefore(
  a: Pick<Queued, "priority" | "number">,
  b: Pick<Queued, "priority" | "number">,
): boolean {
  return a.priority < b.priority || (a.priority === b.priority && a.number < b.number);
}

export class WaitingQueue<T extends Queued> {
  readonly #heap: T[] = [];

  get length(): number {
    return this.#heap.length;
  }

  /** The next one; it stays. */
  get first(): T | undefined {
    return this.#heap[0];
  }

  has(item: T): boolean {
    return this.#heap[item.queueIndex] === item;
  }

  push(item: T): void {
    if (this.has(item)) throw new KvEngineError("internal", `item ${item.number} waits already`);
    this.#rise(item, this.#heap.length);
  }

  /** Takes out the next one. */
  shift(): T | undefined {
    const first = this.#heap[0];
    if (first !== undefined) this.remove(first);
    return first;
  }

  /** Takes out any item of this queue. */
  remove(item: T): void {
    if (!this.has(item)) throw new KvEngineError("internal", `item ${item.number} does not wait`);
    const index = item.queueIndex;
    const last = this.#heap.pop() as T;
    item.queueIndex = -1;
    if (last === item) return;
    if (index > 0 && goesBefore(last, this.#heap[(index - 1) >> 1]!)) this.#rise(last, index);
    else this.#sink(last, index);
  }

  /** In order. Sorts a copy: for tests and people. */
  *[Symbol.iterator](): IterableIterator<T> {
    yield* this.#heap.toSorted((a, b) => (goesBefore(a, b) ? -1 : 1));
  }

  /** Puts an item at the free place `index` or above it. */
  #rise(item: T, index: number): void {
    const heap = this.#heap;
    let at = index;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent]!;
      if (!goesBefore(item, above)) break;
      this.#put(above, at);
      at = parent;
    }
    this.#put(item, at);
  }

  /** Puts an item at the free place `index` or below it. */
  #sink(item: T, index: number): void {
    const heap = this.#heap;
    let at = index;
    for (let child = 2 * at + 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && goesBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!goesBefore(heap[child]!, item)) break;
      this.#put(heap[child]!, at);
      at = child;
    }
    this.#put(item, at);
  }

  #put(item: T, index: number): void {
    this.#heap[index] = item;
    item.queueIndex = index;
  }
}
