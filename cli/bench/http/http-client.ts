/** Sends requests of a load to an OpenAI-compatible server and reads their streams. */

import type { OutgoingRequest, Send, SendContext, Sent } from "../load/send.ts";
import type { Clock } from "../types.ts";
import { AnswerStream, errorMessage } from "./answer-stream.ts";
import { EventReader } from "./event-reader.ts";
import { type Patience, UnreachableError } from "./failure.ts";
import { parseJson } from "./json.ts";
import { recordOf } from "./record.ts";
import { type BodyOptions, requestBody } from "./request-body.ts";
import type { ResponseHead, ResponseReader } from "./response-parser.ts";
import { Transport } from "./transport.ts";
import { Watchdog, type Watched } from "./watchdog.ts";

export interface HttpClientOptions {
  /** Up to and without `/v1`. */
  readonly baseUrl: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: BodyOptions;
  readonly patience: Patience;
  /** Counts a text's tokens where the server does not. */
  readonly countTokens?: ((text: string) => number) | undefined;
}

/** Most bytes of an error's body that are kept. */
const MAX_ERROR_BODY = 64 * 1024;

export class HttpClient {
  readonly #options: HttpClientOptions;
  readonly #clock: Clock;
  readonly #transport: Transport;
  readonly #watchdog: Watchdog;

  constructor(options: HttpClientOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
    this.#transport = new Transport(options.baseUrl, options.headers);
    this.#watchdog = new Watchdog(clock, options.patience);
  }

  /** Ends all connections. */
  close(): void {
    this.#transport.close();
  }

  readonly send: Send = async (request, context) => {
    const { path, json } = requestBody(request, this.#options.body);
    const stream = new AnswerStream();
    const watched: Watched = {
      address: this.#options.baseUrl,
      abort: new AbortController(),
      phase: "connecting",
      since: this.#clock.now(),
      numChunks: 0,
    };
    const stop = (): void => watched.abort.abort(new Error(`stopped: ${context.signal.reason}`));
    if (context.signal.aborted) stop();
    context.signal.addEventListener("abort", stop, { once: true });
    this.#watchdog.watch(watched);
    const reading = new Reading(stream, watched, context, () => this.#clock.now());
    const sentAt = context.now();
    const failure = await this.#exchange(path, json, reading, watched);
    this.#watchdog.unwatch(watched);
    context.signal.removeEventListener("abort", stop);
    return this.#sent(request, stream, reading, { sentAt, endedAt: context.now() }, failure);
  };

  /** What went wrong; undefined = the answer came to its end. */
  async #exchange(
    path: string,
    json: string,
    reading: Reading,
    watched: Watched,
  ): Promise<Error | string | undefined> {
    const connected = (): void => reading.enter("waiting");
    const response = this.#transport.post(
      `/v1${path}`,
      json,
      reading,
      watched.abort.signal,
      connected,
    );
    // A server that says [DONE] may keep the connection busy for longer than the answer.
    return Promise.race([response, reading.done]).then(
      () => reading.refusal,
      (thrown: unknown) => (thrown instanceof Error ? thrown : new Error(String(thrown))),
    );
  }

  #sent(
    request: OutgoingRequest,
    stream: AnswerStream,
    { status }: Reading,
    times: { readonly sentAt: number; readonly endedAt: number },
    failure: Error | string | undefined,
  ): Sent {
    const message = failure instanceof Error ? failure.message : failure;
    const end = { ...times, status, failure: message };
    return {
      record: recordOf(request, stream, end, this.#options.countTokens),
      ...(stream.tokenIds === undefined ? {} : { tokenIds: stream.tokenIds }),
      ...(failure instanceof UnreachableError ? { unreachable: true as const } : {}),
    };
  }
}

/** Reads one response: a stream of events, or an error's body. */
class Reading implements ResponseReader {
  status = 0;
  /** What the server refused the request with. */
  refusal: string | undefined;
  readonly done: Promise<void>;
  readonly #stream: AnswerStream;
  readonly #watched: Watched;
  readonly #context: SendContext;
  readonly #now: () => number;
  readonly #events: EventReader;
  readonly #isDone: () => void;
  #head: ResponseHead | undefined;
  #errorBody = "";
  /** When the piece that is being read came. */
  #at = 0;

  constructor(stream: AnswerStream, watched: Watched, context: SendContext, now: () => number) {
    ({ promise: this.done, resolve: this.#isDone } = Promise.withResolvers<void>());
    this.#stream = stream;
    this.#watched = watched;
    this.#context = context;
    this.#now = now;
    this.#events = new EventReader((data) => stream.push(data, this.#at));
  }

  enter(phase: Watched["phase"]): void {
    this.#watched.phase = phase;
    this.#watched.since = this.#now();
  }

  head(head: ResponseHead): void {
    this.#head = head;
    this.status = head.status;
  }

  body(bytes: Uint8Array): void {
    if (!this.#streams) {
      if (this.#errorBody.length < MAX_ERROR_BODY) this.#errorBody += Buffer.from(bytes).toString();
      return;
    }
    this.#at = this.#context.now();
    const before = this.#stream.chunks.length;
    this.#events.push(bytes);
    const numChunks = this.#stream.chunks.length;
    if (numChunks > 0) {
      this.enter("streaming");
      this.#watched.numChunks = numChunks;
      if (before === 0) this.#context.onFirstChunk();
    }
    if (this.#stream.done) this.#isDone();
  }

  end(): void {
    if (this.#streams) return;
    const { status, reason } = this.#head ?? { status: 0, reason: "" };
    const body = this.#errorBody;
    const message = body === "" ? "" : `: ${errorMessage(parseJson(body) ?? body)}`;
    this.refusal =
      status === 200
        ? `the server answered ${this.#head?.headers.get("content-type") ?? "something"} instead of a stream${message}`
        : `${status} ${reason}${message}`.replace("  ", " ");
  }

  get #streams(): boolean {
    const type = this.#head?.headers.get("content-type");
    return this.status === 200 && (type === undefined || type.includes("event-stream"));
  }
}
