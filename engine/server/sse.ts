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

/** Characters of one write, beyond which a slow reader's events wait in the engine's stream. */
const MAX_WRITE = 16 * 1024;

const ENCODER = new TextEncoder();

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
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  /** Whether the socket asks for more. */
  let wanted = false;
  let started = false;
  let ended = false;

  /** Events that are there, up to about `MAX_WRITE` characters. */
  const read = (): string => {
    let text = "";
    try {
      if (!started) text = writer.start();
      started = true;
      while (text.length < MAX_WRITE && !generation.ended) {
        const delta = generation.take();
        if (delta === undefined) return text;
        text += writer.delta(delta);
      }
      ended = generation.ended;
      return ended ? text + writer.end() + DONE : text;
    } catch (thrown) {
      ended = true;
      generation.abort("error");
      const error = toKvEngineError(thrown);
      onError(error);
      return text + frame(JSON.stringify(errorBody(error))) + DONE;
    }
  };
  const write = (): void => {
    if (!wanted || ended) return;
    const text = read();
    if (text === "") return;
    wanted = false;
    controller?.enqueue(ENCODER.encode(text));
    if (!ended) return;
    release();
    controller?.close();
  };
  const leave = (): void => {
    ended = true;
    generation.abort();
  };

  const release = whenGone(signal, leave);
  generation.onNews(write);
  const stream = new ReadableStream<Uint8Array>(
    {
      start(its): void {
        controller = its;
      },
      pull(): void {
        wanted = true;
        write();
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
