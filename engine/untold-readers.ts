/** Readers of streams that have events which they have not been told of. */

import type { TokenStream } from "./token-stream.ts";

export class UntoldReaders {
  readonly #streams = new Set<TokenStream>();
  readonly #onTold: () => void;
  #isDue = false;

  /** `onTold` is called after each time that `tellSoon` has told them. */
  constructor(onTold: () => void) {
    this.#onTold = onTold;
  }

  add(stream: TokenStream): void {
    this.#streams.add(stream);
  }

  /** Once the messages that are there are through, so that who is behind the engine takes several steps' tokens at once. */
  tellSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.tell();
      this.#onTold();
    });
  }

  tell(): void {
    const streams = [...this.#streams];
    this.#streams.clear();
    for (const stream of streams) stream.tell();
  }
}
