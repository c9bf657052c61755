/** The events of one request: pushed by the engine's messages, taken once by whoever asked. */

import type { TokenEvent } from "./request.ts";

/** A reader's end: either `take`, told by `onEvents` when there is more, or iteration. */
export interface TokenSource extends AsyncIterable<TokenEvent> {
  /** The oldest event that was not taken; `undefined` = there is none now, or none any more. */
  take(): TokenEvent | undefined;
  /** `tell` is called when events have come or the source was left; it replaces one given before and must not throw. */
  onEvents(tell: () => void): void;
  /** Drops what was not taken; before the last event this aborts the request. */
  leave(): void;
}

export class TokenStream implements TokenSource {
  readonly #onLeave: () => void;
  readonly #events: TokenEvent[] = [];
  #tell: (() => void) | undefined;
  #ended = false;

  /** `onLeave` is called when the reader leaves before the last event. */
  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  /** Nothing follows an event with `finish`. The reader hears of it by `tell`. */
  push(event: TokenEvent): void {
    this.#events.push(event);
  }

  tell(): void {
    this.#tell?.();
  }

  take(): TokenEvent | undefined {
    const event = this.#events.shift();
    if (event?.finish !== undefined) this.#ended = true;
    return event;
  }

  onEvents(tell: () => void): void {
    this.#tell = tell;
  }

  leave(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#events.length = 0;
    this.#onLeave();
    this.tell();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TokenEvent> {
    try {
      while (!this.#ended) {
        const event = this.take();
        if (event === undefined) await new Promise<void>((resolve) => this.onEvents(resolve));
        else yield event;
      }
    } finally {
      this.leave();
    }
  }
}
