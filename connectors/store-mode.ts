/**
 * When blocks are stored: `eager` = each one soon after it is complete, `lazy` = each one that comes near eviction. Lazy copies less, and
 * nothing while all fits; eager has its copies ready when many blocks are needed at once. `auto` is lazy until blocks are evicted
 * that it could not store in time and stored pages have been read again, and lazy again when copies are seldom read.
 */

export type StoreMode = "eager" | "lazy";

/** Blocks over which shares are looked at. */
const SPAN = 512;
/** Lost to eviction, of those that were handed out: from here on lazy is too late. */
const MOST_OUTRUN = 0.01;
/** Read again, of those that were stored: below it copies are not worth being early. */
const LEAST_REUSE = 0.05;

export class AutoMode {
  #mode: StoreMode = "lazy";
  #stored = 0;
  #reused = 0;
  #outrun = 0;

  get mode(): StoreMode {
    return this.#mode;
  }

  stored(blocks: number): void {
    this.#stored += blocks;
    this.#judge();
  }

  reused(blocks: number): void {
    this.#reused += blocks;
  }

  outrun(blocks: number): void {
    this.#outrun += blocks;
  }

  #judge(): void {
    if (this.#stored < SPAN) return;
    const isReused = this.#reused >= LEAST_REUSE * this.#stored;
    if (!isReused) this.#mode = "lazy";
    else if (this.#outrun > MOST_OUTRUN * this.#stored) this.#mode = "eager";
    // Half of what was seen counts on: the newest weighs most.
    this.#stored /= 2;
    this.#reused /= 2;
    this.#outrun /= 2;
  }
}
