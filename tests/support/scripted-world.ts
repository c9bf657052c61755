/**
 * A scheduler whose device is the test: it sees each step's rows by request, and says what they pick and how long they took.
 * Steps may be scheduled as far ahead as a test likes.
 */

import type { GenerateRequest } from "../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import type { ScheduledBatch, StepResult } from "../../engine/scheduler/batch.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import {
  createStopChecker,
  type Received,
  schedulerOptions,
  type WorldOptions,
} from "./scheduler-world.ts";

/** Tokens of each request in a step, in the order of its rows. */
export type Rows = ReadonlyMap<number, number>;

export interface Answer {
  /** What each request's row picks, one for each pick that counts; 7 where it is left out. */
  readonly picks?: Readonly<Record<number, readonly number[]>>;
  readonly micros?: number;
}

/** Picked where a test does not say what. */
const ANY_TOKEN = 7;
const PICK = -1;
const NONE = -1;

interface Submitted {
  readonly stepId: number;
  readonly sampleHandles: readonly number[];
  readonly targets: readonly number[];
}

export class ScriptedWorld {
  readonly scheduler: Scheduler;
  readonly received: Map<number, Pick<Received, "request" | "tokens" | "finish">> = new Map();
  readonly #submitted: Submitted[] = [];

  readonly #checks: boolean;

  /** `checks`: pool and tables are checked after each call, at a cost that grows with the pool. */
  constructor(options: WorldOptions, { checks }: { readonly checks: boolean } = { checks: true }) {
    this.#checks = checks;
    this.scheduler = new Scheduler(schedulerOptions(options), {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash("0"),
      now: () => 1,
    });
  }

  /** Steps that were scheduled and not committed. */
  get numInFlight(): number {
    return this.#submitted.length;
  }

  add(handle: number, request: GenerateRequest): void {
    this.scheduler.add(handle, request);
    this.received.set(handle, { request, tokens: [], finish: undefined });
  }

  abort(handle: number): void {
    this.#take(this.scheduler.abort(handle));
    this.#check();
  }

  /** The next step's rows; empty when there is nothing to compute. */
  schedule(): Rows {
    const batch = this.scheduler.schedule();
    this.#check();
    if (batch === undefined) return new Map();
    this.#submitted.push(submittedOf(batch));
    return new Map(
      batch.sequences
        .slice(0, batch.numRows)
        .map(({ handle }, row) => [handle, batch.counts[row]!]),
    );
  }

  /** Commits the oldest step. */
  commit(answer: Answer = {}): void {
    const step = this.#submitted.shift();
    if (step === undefined) throw new Error("no step is scheduled");
    this.#take(this.scheduler.commit(this.#resultOf(step, answer)));
    this.#check();
  }

  /** Schedules and commits in turn until nothing is left; answers the rows of each step. */
  drain(ahead = 2): Rows[] {
    const steps: Rows[] = [];
    for (;;) {
      while (this.numInFlight < ahead) {
        const rows = this.schedule();
        if (rows.size === 0) break;
        steps.push(rows);
      }
      if (this.numInFlight === 0) return steps;
      this.commit();
      if (steps.length > 20_000) throw new Error("the scheduler makes no progress");
    }
  }

  #resultOf(
    { stepId, sampleHandles, targets }: Submitted,
    { picks = {}, micros = 1 }: Answer,
  ): StepResult {
    const tokens = new Int32Array(targets.length).fill(NONE);
    const finish = new Uint8Array(targets.length);
    const picked = new Map<number, number>();
    for (const [sample, handle] of sampleHandles.entries()) {
      if (targets[sample] !== PICK) continue;
      const index = picked.get(handle) ?? 0;
      picked.set(handle, index + 1);
      const list = picks[handle] ?? [ANY_TOKEN];
      const { request, tokens: before, finish: ended } = this.received.get(handle)!;
      if (index >= list.length || ended !== undefined) continue;
      tokens[sample] = list[index]!;
      if (request.sampling.stopTokenIds.includes(list[index]!)) finish[sample] = 1;
      else if (before.length + index + 1 >= request.sampling.maxTokens) finish[sample] = 2;
    }
    return {
      stepId,
      tokens,
      finish,
      logprobs: new Float32Array(targets.length),
      ranks: new Int32Array(0),
      topStart: new Int32Array(0),
      topIds: new Int32Array(0),
      topLogprobs: new Float32Array(0),
      forcedStart: new Int32Array(0),
      forcedIds: new Int32Array(0),
      computeMicros: micros,
      gapMicros: 0,
    };
  }

  #check(): void {
    if (this.#checks) this.scheduler.checkIntegrity();
  }

  #take(events: ReturnType<Scheduler["commit"]>): void {
    for (const [i, handle] of events.handles.entries()) {
      const received = this.received.get(handle)!;
      if (received.finish !== undefined)
        throw new Error(`request ${handle} got an event after its end`);
      received.tokens.push(
        ...events.tokenIds.subarray(events.tokenStart[i]!, events.tokenStart[i + 1]!),
      );
      received.finish = events.finishes.find(({ index }) => index === i)?.finish;
    }
  }
}

/** The scheduler uses a batch again, so what the answer needs is copied. */
function submittedOf(batch: ScheduledBatch): Submitted {
  return {
    stepId: batch.stepId,
    sampleHandles: batch.sampleRows.map((row) => batch.sequences[row]!.handle),
    targets: [...batch.sampleTargets],
  };
}
