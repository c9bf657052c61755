/** The events of one request, pushed by the engine's messages and read once by whoever asked. */

import type { TokenEvent } from "./request.ts";

export class TokenStream implements AsyncIterableIterator<TokenEvent> {
  readonly #onLeave: () => void;
  readonly #events: TokenEvent[] = [];
  /** A reader that waits. */
  #reader: ((result: IteratorResult<TokenEvent>) => void) | undefined;
  #ended = false;

  /** `onLeave` is called when the reader leaves before the last event. */
  constructor(onLeave: () => void) {
    this.#onLeave = onLeave;
  }

  /** Nothing follows an event with `finish`. */
  push(event: TokenEvent): void {
    const reader = this.#reader;
    if (reader === undefined) {
      this.#events.push(event);
      return;
    }
    this.#reader = undefined;
    this.#ended = event.finish !== undefined;
    reader({ value: event, done: false });
  }

  /** One call at a time, as `for await` makes them. */
  next(): Promise<IteratorResult<TokenEvent>> {
    const event = this.#events.shift();
    if (event !== undefined) {
      this.#ended = event.finish !== undefined;
      return Promise.resolve({ value: event, done: false });
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    const { promise, resolve } = Promise.withResolvers<IteratorResult<TokenEvent>>();
    this.#reader = resolve;
    return promise;
  }

  /** Leaves: a waiting `next` ends too. */
  return(): Promise<IteratorResult<TokenEvent>> {
    if (!this.#ended) {
      this.#ended = true;
      this.#events.length = 0;
      this.#onLeave();
    }
    this.#reader?.({ value: undefined, done: true });
    this.#reader = undefined;
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
