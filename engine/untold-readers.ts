/** Readers of streams that have events which they have not been told of. */

import type { TokenStream } from "./token-stream.ts";

/** Readers that are told in one turn of the event loop. Each of them writes to a socket: together some milliseconds' work. */
const PER_TURN = 64;

export class UntoldReaders {
  readonly #streams = new Set<TokenStream>();
  readonly #onTold: () => void;
  #isDue = false;

  /** `onTold` is called each time that `tellSoon` has left nobody who was not told. */
  constructor(onTold: () => void) {
    this.#onTold = onTold;
  }

  add(stream: TokenStream): void {
    this.#streams.add(stream);
  }

  /**
   * Once the messages that are there are through, so that who is behind the engine takes several steps' tokens at once; a few in each turn,
   * so that everything else has its own in between.
   */
  tellSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => this.#turn());
  }

  tell(): void {
    this.#tellSome(Number.POSITIVE_INFINITY);
  }

  #turn(): void {
    this.#tellSome(PER_TURN);
    if (this.#streams.size > 0) {
      setImmediate(() => this.#turn());
      return;
    }
    this.#isDue = false;
    this.#onTold();
  }

  #tellSome(most: number): void {
    let told = 0;
    for (const stream of this.#streams) {
      if (told++ >= most) break;
      this.#streams.delete(stream);
      stream.tell();
    }
  }
}
