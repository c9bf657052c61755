/** Stands in for a slow disk: moves begin one after the other, each when one of its size would have ended. */

export class SlowLink {
  readonly #bytesPerMs: number;
  readonly #now: () => number;
  /** When what was asked for so far is through. */
  #freeAt = 0;

  /** `now`: milliseconds, monotonic. */
  constructor(bytesPerSecond: number, now: () => number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#now = now;
  }

  /** Calls `begin` once so many bytes have had their time, after all that were asked for before. */
  after(bytes: number, begin: () => void): void {
    const now = this.#now();
    this.#freeAt = Math.max(now, this.#freeAt) + bytes / this.#bytesPerMs;
    setTimeout(begin, this.#freeAt - now);
  }
}
