/** Deltas → server-sent events. A gone client aborts its sequences; a slow one is not written to faster than it reads. */

import { type KvEngineError, toKvEngineError } from "../errors.ts";
import type { ChoiceDelta } from "./choice.ts";
import type { Generation } from "./generation.ts";
import { errorBody } from "./http-error.ts";

/** Writes the JSON of one kind of stream. Each string is one or more whole events. */
export interface FrameWriter {
  /** What goes out before the first token. */
  start(): string;
  delta(delta: ChoiceDelta): string;
  /** What goes out after the last token. */
  end(): string;
}

/** One event with `json`. */
export function frame(json: string): string {
  return `data: ${json}\n\n`;
}

const DONE = "data: [DONE]\n\n";

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // Proxies of nginx's kind would otherwise hold tokens back.
  "x-accel-buffering": "no",
};

/** Calls back once when the client has gone, also when it already has. The answer lets go of the signal. */
export function whenGone(signal: AbortSignal, gone: () => void): () => void {
  if (signal.aborted) gone();
  else signal.addEventListener("abort", gone, { once: true });
  return () => signal.removeEventListener("abort", gone);
}

/**
 * A response that streams `generation`. An error after the start is an event of its own, then the stream ends.
 * @param onError told of every error that the client sees.
 */
export function streamResponse(
  generation: Generation,
  writer: FrameWriter,
  signal: AbortSignal,
  onError: (error: KvEngineError) => void,
): Response {
  const encoder = new TextEncoder();
  const deltas = generation.deltas();
  let started = false;
  let left = false;
  const leave = (): void => {
    left = true;
    generation.abort();
  };
  const release = whenGone(signal, leave);
  const next = async (): Promise<{ text: string; last: boolean }> => {
    try {
      const { done, value } = await deltas.next();
      return done === true
        ? { text: writer.end() + DONE, last: true }
        : { text: writer.delta(value), last: false };
    } catch (thrown) {
      const error = toKvEngineError(thrown);
      onError(error);
      return { text: frame(JSON.stringify(errorBody(error))) + DONE, last: true };
    }
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller): Promise<void> {
        const opening = started ? "" : writer.start();
        started = true;
        const { text, last } = opening === "" ? await next() : { text: opening, last: false };
        // The controller of a stream that was cancelled meanwhile takes nothing more.
        if (left) return;
        controller.enqueue(encoder.encode(text));
        if (!last) return;
        release();
        controller.close();
      },
      cancel(): void {
        release();
        leave();
      },
    },
    // Nothing is taken from the engine before the socket asks for it.
    { highWaterMark: 0 },
  );
  return new Response(stream, { headers: HEADERS });
}
