/** Deltas → server-sent events. A gone client aborts its sequences; a slow one is not written to faster than it reads. */

import { KvEngineError, toKvEngineError } from "../errors.ts";
import type { ChoiceDelta } from "./choice.ts";
import type { StreamTimes } from "./deps.ts";
import type { Generation } from "./generation.ts";
import { errorBody } from "./http-error.ts";
import { StreamClock } from "./stream-clock.ts";

/** Writes the JSON of one kind of stream. Each string is one or more whole events. */
export interface FrameWriter {
  /** What goes out before the first token. */
  start(): string;
  delta(delta: ChoiceDelta): string;
  /** What goes out after the last token. */
  end(): string;
  /** What goes out in its place where the answer ends with an error. */
  fail(error: KvEngineError): string;
}

/** One event with `json`. */
export function frame(json: string): string {
  return `data: ${json}\n\n`;
}

/** Characters of one write, beyond which a slow reader's events wait in the engine's stream. */
const MAX_WRITE = 16 * 1024;

const ENCODER = new TextEncoder();

/** The last event of a stream of completions. */
export const DONE = "data: [DONE]\n\n";

/** An error as streams of completions tell it. */
export function failFrames(error: KvEngineError): string {
  return frame(JSON.stringify(errorBody(error))) + DONE;
}

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

/** How a stream is watched over. */
export interface StreamWatch {
  readonly times: StreamTimes;
  /** Told of every error that the client sees. */
  onError(error: KvEngineError): void;
  /** Told once how it ended: whole, with an error, its reader gone or too slow. */
  onEnd(outcome: "end" | "error" | "left" | "slow"): void;
}

/** A response that streams `generation`. An error after the start is an event of its own, then the stream ends. */
export function streamResponse(
  generation: Generation,
  writer: FrameWriter,
  signal: AbortSignal,
  watch: StreamWatch,
): Response {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  /** Whether the socket asks for more. */
  let wanted = false;
  let started = false;
  let ended = false;
  let release = (): void => {};

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
      if (!generation.ended) return text;
      text += writer.end();
      finish("end");
      return text;
    } catch (thrown) {
      generation.abort("error");
      const error = toKvEngineError(thrown);
      watch.onError(error);
      finish("error");
      return text + writer.fail(error);
    }
  };
  const send = (text: string): void => {
    wanted = false;
    clock.moved();
    controller?.enqueue(ENCODER.encode(text));
    if (ended) controller?.close();
  };
  const write = (): void => {
    if (!wanted || ended) return;
    const text = read();
    if (text !== "") send(text);
  };
  const finish = (outcome: "end" | "error" | "left" | "slow"): void => {
    if (ended) return;
    ended = true;
    clock.stop();
    release();
    watch.onEnd(outcome);
  };
  const leave = (): void => {
    finish("left");
    generation.abort();
  };
  const clock = new StreamClock(watch.times, {
    isQuiet(): void {
      if (wanted && !ended) send(comment(generation.queuePlace));
    },
    isStill(): void {
      // Who waits for tokens is not slow.
      if (wanted || ended) return;
      const error = tooSlow(watch.times.slowReader);
      finish("slow");
      generation.abort();
      watch.onError(error);
      // Bounded: nothing follows it, and the connection ends when it is not read either.
      controller?.enqueue(ENCODER.encode(writer.fail(error)));
      controller?.close();
    },
  });

  release = whenGone(signal, leave);
  generation.onNews(write);
  const stream = new ReadableStream<Uint8Array>(
    {
      start(its): void {
        controller = its;
      },
      pull(): void {
        wanted = true;
        clock.moved();
        write();
      },
      cancel(): void {
        leave();
      },
    },
    // Nothing is taken from the engine before the socket asks for it.
    { highWaterMark: 0 },
  );
  return new Response(stream, { headers: HEADERS });
}

function tooSlow(seconds: number): KvEngineError {
  return new KvEngineError("timeout", `nothing of the stream was read for ${seconds} s`, {
    hint: "read the stream as it comes",
  });
}

/** What a stream says while there is nothing to say. */
function comment(place: number | undefined): string {
  if (place === undefined) return ": keep-alive\n\n";
  return place === 0 ? ": the prompt is being computed\n\n" : `: queue position ${place}\n\n`;
}
