/** Things that end at a time, the next to end first: a binary heap in which each knows its place, so that one can leave early. */

export interface Timed {
  /** When it ends, in ms of the clock. While it is queued the queue changes it. */
  expiresAt: number;
  /** Unique: of those that end at one time the lower one goes first. */
  readonly number: number;
  /** Place in the queue, which belongs to the queue; -1 = it is in none. */
  place: number;
}

function endsBefore(a: Timed, b: Timed): boolean {
  return a.expiresAt < b.expiresAt || (a.expiresAt === b.expiresAt && a.number < b.number);
}

export class DeadlineQueue<T extends Timed> {
  readonly #heap: T[] = [];

  /** The next to end; it stays. */
  get first(): T | undefined {
    return this.#heap[0];
  }

  /** All of them, in no order; valid until the next change. */
  get items(): readonly T[] {
    return this.#heap;
  }

  push(item: T): void {
    this.#place(item, this.#heap.length);
  }

  /** Takes out one that is in the queue. */
  remove(item: T): void {
    const { place } = item;
    const last = this.#heap.pop();
    item.place = -1;
    if (last !== undefined && last !== item) this.#place(last, place);
  }

  /** Changes when one that is in the queue ends. */
  move(item: T, expiresAt: number): void {
    item.expiresAt = expiresAt;
    this.#place(item, item.place);
  }

  /** Puts an item at the free place `place`, or as far up or down as its time says. */
  #place(item: T, place: number): void {
    let at = place;
    for (let above = this.#above(at); above !== undefined; above = this.#above(at)) {
      if (!endsBefore(item, above)) break;
      const free = above.place;
      this.#put(above, at);
      at = free;
    }
    for (let below = this.#below(at); below !== undefined; below = this.#below(at)) {
      if (!endsBefore(below, item)) break;
      const free = below.place;
      this.#put(below, at);
      at = free;
    }
    this.#put(item, at);
  }

  #above(at: number): T | undefined {
    return at === 0 ? undefined : this.#heap[(at - 1) >> 1];
  }

  /** Of the two items below a place the one that ends first. */
  #below(at: number): T | undefined {
    const left = this.#heap[2 * at + 1];
    const right = this.#heap[2 * at + 2];
    if (left === undefined || right === undefined) return left;
    return endsBefore(right, left) ? right : left;
  }

  #put(item: T, at: number): void {
    this.#heap[at] = item;
    item.place = at;
  }
}
