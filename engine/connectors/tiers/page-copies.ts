/**
 * Memory that is lent to tiers: copies of pages, each with a stamp behind it. What is lent is taken away again by moving its memory to a
 * new buffer, so whoever kept the old one has an empty one, and changes nothing that counts.
 */

export class PageCopies {
  readonly #bytes: number;
  readonly #most: number;
  readonly #free: Uint8Array[] = [];

  /** `bytes` of each; at most so many are kept for reuse. */
  constructor(bytes: number, most: number) {
    this.#bytes = bytes;
    this.#most = most;
  }

  /** One with unknown content. */
  take(): Uint8Array {
    return this.#free.pop() ?? new Uint8Array(this.#bytes);
  }

  /** Nobody else has it any more. */
  giveBack(copy: Uint8Array): void {
    if (this.#free.length < this.#most) this.#free.push(copy);
  }

  /** Takes a copy away from whoever it was lent to: its content as it is now, ours alone. Undefined = it was given on, and is lost. */
  revoke(copy: Uint8Array): Uint8Array | undefined {
    try {
      const own = new Uint8Array((copy.buffer as ArrayBuffer).transfer());
      return own.length === this.#bytes ? own : undefined;
    } catch (thrown) {
      // A buffer that was moved elsewhere cannot be moved.
      if (thrown instanceof TypeError) return undefined;
      throw thrown;
    }
  }
}
