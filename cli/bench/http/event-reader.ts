/** Bytes of a stream of server-sent events → the data of each event. */

import { createParser, type EventSourceParser } from "eventsource-parser";
import { clip, StreamError } from "./answer-stream.ts";

/** Characters of one event; more than any server's chunk, less than what fills the memory. */
const MAX_EVENT = 16 * 1024 * 1024;

export class EventReader {
  readonly #decoder = new TextDecoder();
  readonly #parser: EventSourceParser;
  #fault: StreamError | undefined;

  constructor(onData: (data: string) => void) {
    this.#parser = createParser({
      maxBufferSize: MAX_EVENT,
      onEvent: ({ data }) => onData(data),
      onError: (error) => {
        if (error.type === "invalid-retry") return;
        this.#fault ??= new StreamError(
          `malformed event: ${error.line === undefined ? error.message : clip(error.line)}`,
        );
      },
    });
  }

  /** Throws `StreamError` for what is no event, after the events before it, and what `onData` throws. */
  push(bytes: Uint8Array): void {
    this.#parser.feed(this.#decoder.decode(bytes, { stream: true }));
    if (this.#fault !== undefined) throw this.#fault;
  }
}
