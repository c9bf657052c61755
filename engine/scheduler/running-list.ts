/**
 * Running sequences in scheduling order, doubly linked through the items. It may change while it is walked:
 *
 *     for (let one = list.first; one !== undefined; one = list.after(one)) …
 *
 * visits, in order, every item that stands in the list from the walk's begin until its turn, and none that was removed
 * before its turn, whatever is removed meanwhile: the current item, earlier ones, later ones, several. An item that is
 * inserted during the walk is visited if it stands after the current one and next to its turn; one that is removed and
 * inserted again counts as new. Where the current item is sure to stay, `one.next` does the same as `after(one)`.
 *
 * What makes this hold: a removed item keeps its `next` until it is inserted again; keys never change, so the items that
 * followed it then are reached through it, over others that have been removed since. Its `previous` is cleared.
 */

import { KvEngineError } from "../errors.ts";
import { goesBefore } from "./waiting-queue.ts";

export interface Listed<T> {
  /** Lower goes first. Constant. */
  readonly priority: number;
  /** Order of arrival, unique and constant: decides between equal priorities. */
  readonly number: number;
  /** Neighbours in the list; they belong to it. */
  next: T | undefined;
  previous: T | undefined;
}

export class RunningList<T extends Listed<T>> {
  #first: T | undefined;
  #last: T | undefined;
  #length = 0;

  get first(): T | undefined {
    return this.#first;
  }

  get last(): T | undefined {
    return this.#last;
  }

  get length(): number {
    return this.#length;
  }

  /** The item must stand in this list or in none. */
  has(item: T): boolean {
    return item.previous !== undefined || item === this.#first;
  }

  /** The next item of a walk that is at `item`, which may have been removed meanwhile. */
  after(item: T): T | undefined {
    let next = item.next;
    while (next !== undefined && !this.has(next)) next = next.next;
    return next;
  }

  /** Puts an item at its place, looked for from the tail: new ones are nearly always the last. */
  insert(item: T): void {
    if (this.has(item)) throw new KvEngineError("internal", `item ${item.number} runs already`);
    let previous = this.#last;
    while (previous !== undefined && goesBefore(item, previous)) previous = previous.previous;
    const next = previous === undefined ? this.#first : previous.next;
    item.previous = previous;
    item.next = next;
    if (previous === undefined) this.#first = item;
    else previous.next = item;
    if (next === undefined) this.#last = item;
    else next.previous = item;
    this.#length++;
  }

  /** Takes out any item of this list. */
  remove(item: T): void {
    if (!this.has(item)) throw new KvEngineError("internal", `item ${item.number} does not run`);
    const { previous, next } = item;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    item.previous = undefined;
    this.#length--;
  }
}
