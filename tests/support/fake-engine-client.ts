/**
 * An engine client that computes nothing. Every sequence answers by a script, at once or when the test says so, and what
 * was asked of it is recorded.
 */

import type { EngineClient } from "../../engine/engine-client.ts";
import { KvEngineError } from "../../engine/errors.ts";
import type { EngineInfo, EngineStats, GenerateRequest, TokenEvent } from "../../engine/request.ts";
import { BYTE_VOCAB_SIZE } from "./byte-tokenizer.ts";

/** The events of a sequence; the last must have `finish`. */
export type Script = (request: GenerateRequest) => readonly TokenEvent[];

/** `text` as bytes, one event a byte, then the end; `length` where max_tokens comes first, as the engine would do it. */
export function say(
  text: string,
  { eosId, cachedTokens = 0 }: { eosId?: number; cachedTokens?: number } = {},
): Script {
  return (request) => {
    const { maxTokens, stop, stopTokenIds } = request.sampling;
    let bytes = [...new TextEncoder().encode(text)];
    const ends = stop.map((one) => [text.indexOf(one), one] as const).filter(([at]) => at >= 0);
    const end = ends.sort(([a, one], [b, two]) => a + one.length - (b + two.length))[0];
    if (end !== undefined)
      bytes = [...new TextEncoder().encode(text.slice(0, end[0] + end[1].length))];
    const stopId = bytes.findIndex((id) => stopTokenIds.includes(id));
    if (stopId >= 0) bytes = bytes.slice(0, stopId);
    const cut =
      bytes.length > maxTokens || (bytes.length === maxTokens && stopId < 0 && end === undefined);
    bytes = bytes.slice(0, maxTokens);
    const events: TokenEvent[] = bytes.map((id, i) => ({
      tokenIds: [id],
      logprobs: [-(i + 1) / 8],
    }));
    const stopReason = cut
      ? undefined
      : (end?.[1] ?? (stopId >= 0 ? [...new TextEncoder().encode(text)][stopId] : eosId));
    const usage = {
      promptTokens: request.promptTokenIds.length,
      completionTokens: bytes.length + (cut || end !== undefined ? 0 : 1),
      cachedTokens,
    };
    const last = events.pop() ?? { tokenIds: [], logprobs: [] };
    const finish = {
      reason: cut ? "length" : "stop",
      usage,
      ...(stopReason === undefined ? {} : { stopReason }),
    } as const;
    return [...events, { ...last, finish }];
  };
}

class FakeSequence implements AsyncIterableIterator<TokenEvent> {
  readonly request: GenerateRequest;
  /** The reader left before the end. */
  returned = false;
  readonly #onLeave: () => void;
  readonly #events: TokenEvent[] = [];
  #waiting: ((result: IteratorResult<TokenEvent>) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;
  #ended = false;

  constructor(request: GenerateRequest, onLeave: () => void) {
    this.request = request;
    this.#onLeave = onLeave;
  }

  /** Events that nobody has taken yet. */
  get untaken(): number {
    return this.#events.length;
  }

  send(...events: readonly TokenEvent[]): void {
    this.#events.push(...events);
    this.#settle();
  }

  sendText(text: string): void {
    for (const id of new TextEncoder().encode(text))
      this.send({ tokenIds: [id], logprobs: [-0.5] });
  }

  fail(error: unknown): void {
    if (this.#reject === undefined) throw new Error("nobody waits for this sequence");
    this.#reject(error);
  }

  next(): Promise<IteratorResult<TokenEvent>> {
    return new Promise((resolve, reject) => {
      this.#waiting = resolve;
      this.#reject = reject;
      this.#settle();
    });
  }

  return(): Promise<IteratorResult<TokenEvent>> {
    if (!this.#ended) {
      this.returned = true;
      this.#ended = true;
      this.#events.length = 0;
      this.#settle();
      this.#onLeave();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #settle(): void {
    const resolve = this.#waiting;
    if (resolve === undefined) return;
    const value = this.#events.shift();
    if (value === undefined && !this.#ended) return;
    this.#waiting = undefined;
    if (value?.finish !== undefined) this.#ended = true;
    resolve(value === undefined ? { done: true, value: undefined } : { done: false, value });
  }
}

export type { FakeSequence };

export class FakeEngineClient implements EngineClient {
  info: EngineInfo = {
    modelName: "tiny",
    maxModelLen: 200,
    vocabSize: BYTE_VOCAB_SIZE,
    blockSize: 16,
    numBlocks: 64,
    backend: "fake/none",
    threads: 1,
    weightBytes: 0,
    activationBytes: 0,
    kvBytes: 0,
  };
  currentStats: EngineStats = {
    running: 0,
    waiting: 0,
    usedBlocks: 0,
    totalBlocks: 64,
    preemptions: 0,
    promptTokens: 0,
    generationTokens: 0,
    steps: 0,
  };
  /** What sequences answer by; `undefined` = nothing until the test sends it. */
  script: Script | undefined = say("Hello");
  readonly sequences: FakeSequence[] = [];
  readonly aborted: string[] = [];
  readonly #fatal: ((error: KvEngineError) => void)[] = [];
  readonly #arrivals: (() => void)[] = [];
  readonly #aborts: (() => void)[] = [];

  stats(): EngineStats {
    return this.currentStats;
  }

  generate(request: GenerateRequest): AsyncIterable<TokenEvent> {
    if (this.sequences.some((one) => one.request.id === request.id))
      throw new Error(`the id ${request.id} is not unique`);
    const events = this.script?.(request) ?? [];
    const sequence = new FakeSequence(request, () => this.abort(request.id));
    this.sequences.push(sequence);
    sequence.send(...events);
    for (const tell of this.#arrivals.splice(0)) tell();
    return sequence;
  }

  abort(id: string): void {
    this.aborted.push(id);
    for (const tell of this.#aborts.splice(0)) tell();
  }

  shutdown(): Promise<void> {
    return Promise.resolve();
  }

  onFatal(callback: (error: KvEngineError) => void): void {
    this.#fatal.push(callback);
  }

  die(message: string): void {
    for (const callback of this.#fatal) callback(new KvEngineError("internal", message));
  }

  /** Once `count` sequences have been started in all. */
  async arrived(count: number): Promise<readonly FakeSequence[]> {
    while (this.sequences.length < count)
      await new Promise<void>((resolve) => this.#arrivals.push(resolve));
    return this.sequences;
  }

  /** Once `count` aborts have come in all. */
  async abortsArrived(count: number): Promise<void> {
    while (this.aborted.length < count)
      await new Promise<void>((resolve) => this.#aborts.push(resolve));
  }
}
