/** Series that are written from time to time, not as their numbers change. */

/** Between two updates while the engine is busy, in milliseconds. */
const INTERVAL_MS = 1000;

export class PacedUpdate {
  readonly #write: () => void;
  readonly #now: () => number;
  #updatedAt = -Infinity;

  /** `write` writes the numbers of now. `now`: milliseconds, monotonic. */
  constructor(write: () => void, now: () => number) {
    this.#write = write;
    this.#now = now;
  }

  /** Writes; without `isLast` not when that was done a moment ago. */
  update(isLast: boolean): void {
    const now = this.#now();
    if (!isLast && now - this.#updatedAt < INTERVAL_MS) return;
    this.#updatedAt = now;
    this.#write();
  }
}
