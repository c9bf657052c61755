/** A scheduler on a fake device, step by step under the test's control, with what each request got. */

import { expect } from "bun:test";
import type { Finish, GenerateRequest, SamplingParams } from "../../engine/request.ts";
import { Scheduler, type SchedulerOptions } from "../../engine/scheduler/scheduler.ts";
import type { StopChecker } from "../../engine/scheduler/sequence.ts";
import type { StepEvents } from "../../engine/scheduler/step-events.ts";
import { FakeRunner, witnessTokens } from "./fake-runner.ts";

export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: [1, 2],
  choice: 0,
  maxTokens: 8,
  stop: [],
  stopTokenIds: [],
};

export function makeRequest(
  id: number,
  prompt: readonly number[],
  sampling: Partial<SamplingParams> = {},
): GenerateRequest {
  return {
    id: `request-${id}`,
    promptTokenIds: Int32Array.from(prompt),
    sampling: { ...GREEDY, ...sampling },
    arrivalTime: 0,
  };
}

/** Token ids of a prompt that depends on `salt`. */
export function promptOf(length: number, salt: number, vocabSize: number): number[] {
  return Array.from({ length }, (_, i) => (i * 7 + salt * 13 + (i >> 2) * salt) % vocabSize);
}

/** The text of a fake token: one character. */
function textOf(token: number): string {
  return String.fromCodePoint(0x100 + token);
}

/** A stop string that tokens spell. */
export function spell(tokens: readonly number[]): string {
  return tokens.map(textOf).join("");
}

export function createStopChecker(stops: readonly string[]): StopChecker {
  let text = "";
  return (token) => {
    text += textOf(token);
    return stops.find((stop) => text.endsWith(stop));
  };
}

export interface Received {
  readonly request: GenerateRequest;
  readonly tokens: number[];
  /** Number of the commit that brought the first token. */
  firstTokenAt: number;
  finish: Finish | undefined;
}

/** What a request must get when nothing goes wrong, from the definition alone. */
export function expectedOf(
  request: GenerateRequest,
  options: { readonly vocabSize: number; readonly numGroups: number },
): { tokens: number[]; finish: Finish } {
  const { sampling, promptTokenIds } = request;
  const sampled = witnessTokens(promptTokenIds, sampling, options);
  const check = createStopChecker(sampling.stop);
  const tokens: number[] = [];
  for (const [index, token] of sampled.entries()) {
    const usage = {
      promptTokens: promptTokenIds.length,
      completionTokens: index + 1,
      cachedTokens: 0,
    };
    if (sampling.stopTokenIds.includes(token))
      return { tokens, finish: { reason: "stop", stopReason: token, usage } };
    tokens.push(token);
    const stop = sampling.stop.length === 0 ? undefined : check(token);
    if (stop !== undefined) return { tokens, finish: { reason: "stop", stopReason: stop, usage } };
    if (tokens.length === sampling.maxTokens)
      return { tokens, finish: { reason: "length", usage } };
  }
  throw new Error("a sequence without an end");
}

export interface WorldOptions {
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxPrefillTokens?: number;
  readonly blockSize: number;
  readonly numBlocks: number;
  readonly numGroups?: number;
  readonly maxModelLen?: number;
  readonly vocabSize?: number;
}

export class World {
  readonly scheduler: Scheduler;
  readonly runner: FakeRunner;
  readonly received: Map<number, Received> = new Map();
  readonly vocabSize: number;
  readonly numGroups: number;
  commits: number = 0;
  /** Requests that have begun to decode get a token in every commit. */
  readonly #decodesAlwaysFit: boolean;

  constructor(options: WorldOptions) {
    const { maxNumSeqs, maxNumBatchedTokens, maxPrefillTokens, blockSize, numBlocks } = options;
    this.vocabSize = options.vocabSize ?? 50;
    this.numGroups = options.numGroups ?? 1;
    this.#decodesAlwaysFit = maxNumBatchedTokens >= maxNumSeqs;
    const limits = {
      maxModelLen: options.maxModelLen ?? 1000,
      vocabSize: this.vocabSize,
      blockSize,
      numGroups: this.numGroups,
      numBlocks,
    };
    const scheduling: SchedulerOptions = {
      maxNumSeqs,
      maxNumBatchedTokens,
      ...(maxPrefillTokens === undefined ? {} : { maxPrefillTokens }),
      limits,
    };
    this.scheduler = new Scheduler(scheduling, createStopChecker);
    this.runner = new FakeRunner({
      maxRows: maxNumSeqs,
      maxTokens: maxNumBatchedTokens,
      blockSize,
      numBlocks: numBlocks + 1,
      numGroups: this.numGroups,
      vocabSize: this.vocabSize,
      manual: true,
    });
  }

  add(handle: number, request: GenerateRequest): void {
    this.scheduler.add(handle, request);
    this.received.set(handle, { request, tokens: [], firstTokenAt: -1, finish: undefined });
  }

  abort(handle: number): void {
    this.#take(this.scheduler.abort(handle));
    this.scheduler.checkIntegrity();
  }

  /** Submits steps until two are queued or nothing is to be done; answers whether one was. */
  submit(most = 2): boolean {
    let submitted = false;
    while (this.runner.queued < most) {
      const batch = this.scheduler.schedule();
      this.scheduler.checkIntegrity();
      if (batch === undefined) break;
      this.runner.submit(batch);
      submitted = true;
    }
    return submitted;
  }

  /** Runs the oldest submitted step and commits it. */
  async commit(): Promise<StepEvents> {
    const decoding = [...this.received.entries()].filter(
      ([, r]) => r.tokens.length > 0 && r.finish === undefined,
    );
    this.runner.finishStep();
    const result = await this.runner.next();
    const events = this.scheduler.commit(result);
    this.commits++;
    this.#take(events);
    this.scheduler.checkIntegrity();
    if (this.#decodesAlwaysFit)
      for (const [handle] of decoding) expect([...events.handles]).toContain(handle);
    return events;
  }

  /** Serves until nothing is left. */
  async drain(): Promise<void> {
    for (let step = 0; ; step++) {
      this.submit();
      if (this.runner.queued === 0) break;
      await this.commit();
      if (step > 10_000) throw new Error("the scheduler makes no progress");
    }
    expect(this.scheduler.numUnfinished).toBe(0);
    expect(this.scheduler.pool.numUsed).toBe(0);
    expect(this.scheduler.stats).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    this.scheduler.checkIntegrity();
  }

  /** Tokens and end of a request that nobody disturbed. */
  expectAsAlone(handle: number): void {
    const { request, tokens, finish } = this.received.get(handle)!;
    expect({ tokens, finish }).toEqual(
      expectedOf(request, this) as { tokens: number[]; finish: Finish | undefined },
    );
  }

  #take(events: StepEvents): void {
    for (const [i, handle] of events.handles.entries()) {
      const received = this.received.get(handle)!;
      if (received.finish !== undefined)
        throw new Error(`request ${handle} got an event after its end`);
      const tokens = events.tokenIds.subarray(events.tokenStart[i], events.tokenStart[i + 1]);
      if (tokens.length > 0 && received.tokens.length === 0) received.firstTokenAt = this.commits;
      received.tokens.push(...tokens);
      received.finish = events.finishes.find(({ index }) => index === i)?.finish;
    }
  }
}
