/**
 * The native `witness` backend as a `ModelRunner` under a test's control: it records what is submitted, can hold results back, and
 * can fail steps.
 */

import type { FlightResult } from "../../engine/cache/page-transfers.ts";
import type { StepsProfile } from "../../engine/runner/profile.ts";
import type { ModelRunner } from "../../engine/runner/model-runner.ts";
import type { KvGroup } from "../../engine/runner/native.ts";
import { NativeRunner } from "../../engine/runner/native-runner.ts";
import type { NativeTransfers } from "../../engine/runner/native-transfers.ts";
import { ScheduledBatch, type StepResult } from "../../engine/scheduler/batch.ts";

export interface WitnessRunnerOptions {
  readonly maxRows: number;
  readonly maxTokens: number;
  readonly maxSamples: number;
  readonly maxModelLen: number;
  readonly blockSize: number;
  /** The null block included. */
  readonly numBlocks: number;
  readonly groups: readonly Readonly<Pick<KvGroup, "kind" | "window">>[];
  readonly vocabSize: number;
  /** Results wait for `finishStep`; else each is given as soon as it is asked for. */
  readonly manual?: boolean;
}

/** A submitted step, for assertions about schedules. */
export interface SeenStep {
  readonly stepId: number;
  readonly seats: readonly number[];
  /** Tokens of each row. */
  readonly counts: readonly number[];
  /** Position of each row's first token. */
  readonly starts: readonly number[];
  readonly numSamples: number;
  /** From, to, from, to and so on. */
  readonly copies: readonly number[];
}

interface QueuedStep {
  readonly counts: readonly number[];
  readonly error: NonNullable<StepResult["error"]> | undefined;
  readonly released: Promise<void>;
  readonly release: () => void;
}

export class WitnessRunner implements ModelRunner {
  readonly seen: SeenStep[] = [];
  /** Calls that reached the device, steps and seats. */
  calls = 0;
  stopped = false;
  /** What results say that a step took, by the tokens of its rows; as measured when undefined. */
  microsOf: ((counts: readonly number[]) => number) | undefined;
  readonly #native: NativeRunner;
  readonly #manual: boolean;
  readonly #steps: QueuedStep[] = [];
  #numReleased = 0;
  #failNext: string | undefined;

  private constructor(native: NativeRunner, manual: boolean) {
    this.#native = native;
    this.#manual = manual;
  }

  static async create(options: WitnessRunnerOptions): Promise<WitnessRunner> {
    const { groups, manual = false, ...limits } = options;
    const native = new NativeRunner();
    await native.start({
      backend: "witness",
      isa: "auto",
      threads: 1,
      values: [],
      ops: [],
      files: [],
      tensors: [],
      groups: groups.map(({ kind, window }) => ({
        kind,
        window,
        layers: 1,
        numKvHeads: 1,
        headDim: 1,
      })),
      ...limits,
    });
    return new WitnessRunner(native, manual);
  }

  /** Opens a host pool of `hostPages` pages whose flights wait to be run. */
  openTransfers(
    hostPages: number,
    onResults: (results: readonly FlightResult[]) => void,
  ): NativeTransfers {
    return this.#native.openTransfers(
      {
        hostPages,
        threads: 1,
        fileThreads: 1,
        checksums: true,
        storeShare: 1,
        linkBytesPerSecond: 0,
        guardSteps: true,
        manual: true,
      },
      onResults,
    );
  }

  takeProfile(on: boolean): Promise<StepsProfile> {
    return this.#native.takeProfile(on);
  }

  get queued(): number {
    return this.#steps.length;
  }

  /** Submitted steps whose result is held back. The device may have done them long before. */
  get numPending(): number {
    return this.#steps.length - this.#numReleased;
  }

  /** The next submitted step fails, and computes nothing. */
  failNextStep(message: string): void {
    this.#failNext = message;
  }

  submit(batch: ScheduledBatch): void {
    this.calls += 1 + batch.opened.length;
    const seen = seenOf(batch.words);
    this.seen.push(seen);
    const message = this.#failNext;
    this.#failNext = undefined;
    if (message === undefined) {
      this.#native.submit(batch);
    } else {
      const refused = new ScheduledBatch(0);
      refused.stepId = batch.stepId;
      refused.opened.push(...batch.opened);
      // No version of the layout: the device refuses the step as it does any that it cannot read.
      refused.words = Int32Array.of(-1, ...batch.words.subarray(1));
      this.#native.submit(refused);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const error = message === undefined ? undefined : { code: "internal", message };
    this.#steps.push({ counts: seen.counts, error, released: promise, release: resolve });
  }

  async next(): Promise<StepResult> {
    if (!this.#manual && this.numPending > 0) this.finishStep();
    const step = this.#steps[0];
    const [measured] = await Promise.all([this.#native.next(), step?.released]);
    const result =
      this.microsOf === undefined || step === undefined
        ? measured
        : { ...measured, computeMicros: this.microsOf(step.counts) };
    this.#steps.shift();
    this.#numReleased--;
    if (step?.error === undefined) return result;
    if (result.error === undefined) throw new Error("a step without a version was done");
    return { ...result, error: step.error };
  }

  /** Gives the oldest result that is held back. */
  finishStep(): void {
    const step = this.#steps[this.#numReleased];
    if (step === undefined) throw new Error("no step is submitted");
    this.#numReleased++;
    step.release();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    while (this.numPending > 0) this.finishStep();
    await this.#native.stop();
  }
}

function seenOf(words: Int32Array): SeenStep {
  let at = 0;
  const take = (count: number): number[] => [...words.subarray(at, (at += count))];
  const [, stepId, numTokens, numRows, , numSamples, , numCopies] = take(8);
  take(numTokens!);
  const seats = take(numRows!);
  const first = take(numRows! + 1);
  const starts = take(numRows!);
  const counts = starts.map((_, row) => first[row + 1]! - first[row]!);
  const copies = [...words.subarray(words.length - 2 * numCopies!)];
  return { stepId: stepId!, seats, counts, starts, numSamples: numSamples!, copies };
}
