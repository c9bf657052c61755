/** A scheduler on the witness, step by step under the test's control, with what each request got. */

import { expect } from "bun:test";
import type { KvCache } from "../../engine/cache/kv-cache.ts";
import { ConnectorHost } from "../../engine/connectors/connector-host.ts";
import { joinScheduler } from "../../engine/connectors/join-scheduler.ts";
import type { KvConnectors } from "../../engine/connectors/kv-connectors.ts";
import { Explainer } from "../../engine/explain/explainer.ts";
import {
  DEFAULT_SAMPLING,
  type Finish,
  type GenerateRequest,
  type PromptLogprobs,
  type SamplingParams,
  type TopLogprobs,
} from "../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import type { ScheduledBatch } from "../../engine/scheduler/batch.ts";
import type { RequestLog } from "../../engine/scheduler/request-log.ts";
import { Scheduler, type SchedulerOptions } from "../../engine/scheduler/scheduler.ts";
import type { StepEvents } from "../../engine/scheduler/step-events.ts";
import { FlightDesk } from "../../engine/connectors/trial/flight-desk.ts";
import { answerOf, createStopChecker, type Definition, expectedOf } from "./expected-answer.ts";
import { WitnessRunner } from "./witness-runner.ts";
import { CONNECTOR_OPTIONS, schedulerOptions, type WorldOptions } from "./world-options.ts";

export {
  type Answer,
  answerOf,
  createStopChecker,
  type Definition,
  expectedOf,
  spell,
} from "./expected-answer.ts";
export {
  FULL,
  schedulerOptions,
  STATE,
  windowOf,
  type WorldConnectors,
  type WorldOptions,
} from "./world-options.ts";

export const GREEDY: SamplingParams = {
  ...DEFAULT_SAMPLING,
  temperature: 0,
  seed: [1, 2],
  maxTokens: 8,
};

export function makeRequest(
  id: number,
  prompt: readonly number[],
  sampling: Partial<SamplingParams> = {},
  more: Partial<Pick<GenerateRequest, "priority" | "cacheSalt" | "leader">> = {},
): GenerateRequest {
  return {
    id: requestId(id),
    promptTokenIds: Int32Array.from(prompt),
    sampling: { ...GREEDY, ...sampling },
    arrivalTime: 0,
    priority: 0,
    ...more,
  };
}

export function requestId(handle: number): string {
  return `request-${handle}`;
}

/** Token ids of a prompt that depends on `salt`. */
export function promptOf(length: number, salt: number, vocabSize: number): number[] {
  return Array.from({ length }, (_, i) => (i * 7 + salt * 13 + (i >> 2) * salt) % vocabSize);
}

export interface Received {
  readonly request: GenerateRequest;
  readonly tokens: number[];
  readonly tops: TopLogprobs[];
  prompt: PromptLogprobs | undefined;
  /** Number of the commit that brought the first token. */
  firstTokenAt: number;
  finish: Finish | undefined;
}

/** What steps of a world take. */
const MICROS_PER_STEP = 500;
const MICROS_PER_TOKEN = 50;

/** Milliseconds since the epoch at which a world's clock stands at 0. */
export const EPOCH: number = 1_700_000_000_000;

export class World {
  readonly scheduler: Scheduler;
  readonly runner: WitnessRunner;
  readonly received: Map<number, Received> = new Map();
  readonly definition: Definition;
  /** Where there are connectors. */
  readonly connectors: KvConnectors | undefined;
  readonly host: ConnectorHost | undefined;
  readonly desk: FlightDesk | undefined;
  /** Where requests are remembered. */
  readonly explainer: Explainer | undefined;
  commits: number = 0;
  /** Milliseconds that passed while nothing ran. */
  idleMs: number = 0;
  /** Times that a connector asked to be looked at again. */
  wakes: number = 0;
  /** Handles in the order in which they ended. */
  readonly finishOrder: number[] = [];
  /** Of each request: prompt positions that steps computed before its first token had come. */
  readonly computed: Map<number, Set<number>> = new Map();

  readonly #turn: (isIdle: boolean) => boolean;
  readonly #hasTiers: boolean;
  #wakesSeen = 0;

  private constructor(
    options: SchedulerOptions,
    runner: WitnessRunner,
    { connectors, firstStepId, explains }: WorldOptions,
  ) {
    let joined: KvConnectors | undefined;
    let explainer: Explainer | undefined;
    this.#turn = connectors?.turn ?? (() => false);
    this.#hasTiers = connectors?.list.some(({ tiers = [] }) => tiers.length > 0) ?? false;
    const now = (): number => this.now;
    const desk =
      connectors === undefined
        ? undefined
        : new FlightDesk(
            (onResults) => runner.openTransfers(connectors.hostPages, onResults),
            (results) => joined?.flights.report(results),
          );
    const host =
      connectors === undefined
        ? undefined
        : new ConnectorHost(connectors.list, {
            slowHookMs: connectors.slowHookMs ?? Infinity,
            now,
            log: connectors.log ?? (() => {}),
          });
    this.definition = { vocabSize: options.limits.vocabSize, groups: options.limits.groups };
    this.scheduler = new Scheduler(options, {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash("0"),
      now,
      ...(firstStepId === undefined ? {} : { firstStepId }),
      ...(explains === undefined
        ? {}
        : {
            createLog: (kv: KvCache): RequestLog => {
              const states = host === undefined ? {} : { connectors: () => host.states() };
              explainer = new Explainer(kv, {
                now: () => EPOCH + this.now,
                ...states,
                ...explains,
              });
              return explainer.log;
            },
          }),
      ...(host === undefined || desk === undefined
        ? {}
        : {
            createConnectors: (side) =>
              (joined = joinScheduler(
                side,
                host,
                desk,
                {
                  ...CONNECTOR_OPTIONS,
                  onEvents: (_, events) => {
                    for (const { kind, keys } of events)
                      if (kind === "removed") explainer?.dropped(keys);
                  },
                  ...connectors?.options,
                  maxBatchedTokens: options.maxNumBatchedTokens,
                },
                () => this.wakes++,
              )),
          }),
    });
    this.connectors = joined;
    this.explainer = explainer;
    this.host = host;
    this.desk = desk;
    this.runner = runner;
    // Not the clock's: what is scheduled by them must be the same in every run.
    const microsPerToken = connectors?.microsPerToken ?? MICROS_PER_TOKEN;
    runner.microsOf = (counts) =>
      MICROS_PER_STEP + microsPerToken * counts.reduce((a, b) => a + b, 0);
  }

  static async create(options: WorldOptions): Promise<World> {
    const scheduling = schedulerOptions(options);
    const { limits } = scheduling;
    const runner = await WitnessRunner.create({
      maxRows: scheduling.maxNumSeqs,
      maxTokens: scheduling.maxNumBatchedTokens,
      maxSamples: scheduling.maxSamples,
      maxModelLen: limits.maxModelLen,
      blockSize: limits.blockSize,
      numBlocks: limits.numBlocks + 1,
      groups: limits.groups,
      vocabSize: limits.vocabSize,
      manual: true,
    });
    const world = new World(scheduling, runner, options);
    await world.desk?.untilReady();
    return world;
  }

  add(handle: number, request: GenerateRequest): void {
    this.scheduler.add(handle, request);
    this.computed.set(handle, new Set());
    this.received.set(handle, {
      request,
      tokens: [],
      tops: [],
      prompt: undefined,
      firstTokenAt: -1,
      finish: undefined,
    });
  }

  abort(handle: number): void {
    this.#take(this.scheduler.abort(handle));
    this.scheduler.checkIntegrity();
  }

  /** Submits steps until `most` are queued or nothing is to be done; answers whether one was. */
  submit(most = 2): boolean {
    let submitted = false;
    while (this.runner.queued < most) {
      const batch = this.scheduler.schedule();
      this.scheduler.checkIntegrity();
      if (batch === undefined) break;
      this.#noteComputed(batch);
      this.runner.submit(batch);
      submitted = true;
    }
    return submitted;
  }

  /** Runs the oldest submitted step and commits it. */
  async commit(): Promise<StepEvents> {
    this.runner.finishStep();
    const result = await this.runner.next();
    this.#turn(false);
    await this.settled();
    const events = this.scheduler.commit(result);
    this.commits++;
    this.#take(events);
    this.scheduler.checkIntegrity();
    return events;
  }

  /** Until whoever waits for promises of connectors, tiers and transfers that have settled has gone on. */
  async settled(): Promise<void> {
    await this.desk?.settled();
    // Calls of tiers begin, and wakes come, a turn of the event loop later.
    for (let turn = 0; this.#hasTiers && turn < 2; turn++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      await this.desk?.settled();
    }
  }

  /** Milliseconds of the scheduler's clock: commits, and those that passed while nothing ran. */
  get now(): number {
    return 1 + this.commits + this.idleMs;
  }

  /** Serves until nothing is left; `check` is called before each step. */
  async drain(check: () => void = () => {}): Promise<void> {
    for (let step = 0; ; step++) {
      check();
      this.submit();
      if (this.runner.queued > 0) await this.commit();
      else if (!(await this.#passTime())) break;
      if (step > 20_000) throw new Error("the scheduler makes no progress");
    }
    expect(this.scheduler.numUnfinished).toBe(0);
    expect(this.scheduler.pool.numUsed).toBe(0);
    expect(this.scheduler.takeStats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    this.scheduler.checkIntegrity();
  }

  /** Nothing can be computed: a flight ends, or the next deadline comes. False when nothing is awaited. */
  async #passTime(): Promise<boolean> {
    const { desk, scheduler } = this;
    const isSettling = desk?.isSettling === true;
    await this.settled();
    if (isSettling) return true;
    if (this.#turn(true)) await this.settled();
    if (this.#hasTiers && this.wakes > this.#wakesSeen) {
      this.#wakesSeen = this.wakes;
      return true;
    }
    const ms = scheduler.msToDeadline();
    const flight = desk?.next ?? (ms === Infinity ? desk?.pending[0] : undefined);
    if (flight !== undefined) {
      await desk?.run(flight);
      return true;
    }
    if (!scheduler.isBusy) return false;
    if (ms === Infinity) throw new Error("the scheduler waits for what never comes");
    this.idleMs += Math.max(1, ms);
    return true;
  }

  /** Serves until nothing is left, then lets the device go. */
  async end(): Promise<void> {
    await this.drain();
    await this.stop();
  }

  async stop(): Promise<void> {
    await this.host?.shutdown(0);
    await this.desk?.stop(10_000);
    await this.runner.stop();
  }

  /** Tokens and end of a request that nobody disturbed. */
  expectAsAlone(handle: number): void {
    const received = this.received.get(handle)!;
    expect(answerOf(received)).toEqual(expectedOf(received.request, this.definition));
  }

  #noteComputed({ numRows, sequences, starts, counts }: ScheduledBatch): void {
    for (let row = 0; row < numRows; row++) {
      const { handle, firstTokenAt, numPromptTokens } = sequences[row]!;
      if (firstTokenAt !== 0) continue;
      const end = Math.min(starts[row]! + counts[row]!, numPromptTokens);
      for (let position = starts[row]!; position < end; position++)
        this.computed.get(handle)!.add(position);
    }
  }

  #take(events: StepEvents): void {
    for (const [i, handle] of events.handles.entries()) {
      const received = this.received.get(handle)!;
      if (received.finish !== undefined)
        throw new Error(`request ${handle} got an event after its end`);
      const from = events.tokenStart[i]!;
      const to = events.tokenStart[i + 1]!;
      if (to > from && received.tokens.length === 0) received.firstTokenAt = this.commits;
      received.tokens.push(...events.tokenIds.subarray(from, to));
      for (const { index, top } of events.tops)
        if (index >= from && index < to) received.tops.push(top);
      received.prompt ??= events.prompts.find(({ index }) => index === i)?.logprobs;
      received.finish = events.finishes.find(({ index }) => index === i)?.finish;
      if (received.finish !== undefined) this.finishOrder.push(handle);
    }
  }
}
