/**
 * Begins a burst of requests a few at a time. Many bodies may come in one turn of the event loop, and all that it takes to check, render and
 * tokenise them would be done before anything else is looked at: health checks, and the streams that run.
 */

/** Requests that are begun in one turn: some milliseconds' work. */
const PER_TURN = 8;

export class Turns {
  #left = PER_TURN;
  readonly #waiting: (() => void)[] = [];
  #isDue = false;

  /** Resolves when the caller may begin; callers go in the order in which they came. */
  async next(): Promise<void> {
    this.#nextTurnSoon();
    if (this.#left > 0 && this.#waiting.length === 0) this.#left--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #nextTurnSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      const begun = this.#waiting.splice(0, PER_TURN);
      this.#left = PER_TURN - begun.length;
      if (this.#waiting.length > 0) this.#nextTurnSoon();
      for (const begin of begun) begin();
    });
  }
}
