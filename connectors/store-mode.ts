/**
 * When blocks are stored: `eager` = each one soon after it is complete, `lazy` = each one that comes near eviction. Eager has its copies
 * ready when many blocks are needed at once; lazy copies less, and nothing while all fits. `auto` stores nothing beside steps before the
 * device is nearly full. Then it is eager while copies cost next to nothing beside what computing the same blocks cost. Where they cost more, it
 * is lazy while copies are seldom read, and eager again once they are read and blocks are evicted that it could not store in time.
 */

export type StoreMode = "eager" | "lazy";

/** Blocks over which shares are looked at. */
const SPAN = 512;
/** Time of a copy, of the time that computing its content took: up to here copies are cheap. */
const CHEAP = 0.02;
/** Lost to eviction, of those that were handed out: from here on lazy is too late. */
const MOST_OUTRUN = 0.01;
/** Read again, of those that were stored: below it copies are not worth being early. */
const LEAST_REUSE = 0.05;

export class AutoMode {
  readonly #cost: () => number;
  #mode: StoreMode = "eager";
  #stored = 0;
  #reused = 0;
  #outrun = 0;

  /** `cost`: the time of a block's copy by the time that computing the block takes. It is asked once in `SPAN` blocks. */
  constructor(cost: () => number) {
    this.#cost = cost;
  }

  get mode(): StoreMode {
    return this.#mode;
  }

  stored(blocks: number): void {
    this.#stored += blocks;
    if (this.#stored >= SPAN) this.#judge();
  }

  reused(blocks: number): void {
    this.#reused += blocks;
  }

  outrun(blocks: number): void {
    this.#outrun += blocks;
  }

  #judge(): void {
    const isReused = this.#reused >= LEAST_REUSE * this.#stored;
    if (this.#cost() <= CHEAP) this.#mode = "eager";
    else if (!isReused) this.#mode = "lazy";
    else if (this.#outrun > MOST_OUTRUN * this.#stored) this.#mode = "eager";
    // Half of what was seen counts on: the newest weighs most.
    this.#stored /= 2;
    this.#reused /= 2;
    this.#outrun /= 2;
  }
}
