/**
 * A device that computes nothing but sees every KV slot: each slot stores a chain hash of the slot before it and its
 * token, a sampled token is a function of all slots of its sequence as read through the block table. A wrong, stale or
 * overwritten block changes the answer. Steps run in order, and only when the test lets them.
 */

import { KvEngineError } from "../../engine/errors.ts";
import type { SamplingParams } from "../../engine/request.ts";
import type { ModelRunner } from "../../engine/runner/model-runner.ts";
import { FROM_SEAT, type ScheduledBatch, type StepResult } from "../../engine/scheduler/batch.ts";

export interface FakeRunnerOptions {
  readonly maxRows: number;
  readonly maxTokens: number;
  readonly blockSize: number;
  /** The null block included. */
  readonly numBlocks: number;
  readonly numGroups: number;
  readonly vocabSize: number;
  /** Steps wait for `finishStep`; else each runs when its result is asked for. */
  readonly manual?: boolean;
}

/** What a step did, for assertions about schedules. */
export interface SeenStep {
  readonly stepId: number;
  readonly seats: readonly number[];
  readonly counts: readonly number[];
  readonly starts: readonly number[];
}

interface Seat {
  readonly sampling: SamplingParams;
  outputIndex: number;
  lastToken: number;
  frozen: boolean;
}

interface QueuedStep {
  readonly opened: readonly { readonly seat: number; readonly sampling: SamplingParams }[];
  readonly words: Int32Array;
  readonly error: StepResult["error"] | undefined;
  readonly deliver: (result: StepResult) => void;
}

/** A 64-bit mix in two 32-bit halves would be no stronger here: 52 bits in one double are collision-free in practice. */
function mix(hash: number, value: number): number {
  let low = Math.imul((hash | 0) ^ Math.imul(value + 0x7f4a7c15, 0x9e3779b1), 0x85ebca6b);
  let high = Math.imul(Math.floor(hash / 0x1_0000_0000) ^ low ^ (low >>> 13), 0xc2b2ae35) ^ value;
  low ^= low >>> 16;
  high ^= high >>> 15;
  return ((high & 0xfffff) >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

function pick(
  fold: number,
  sampling: SamplingParams,
  outputIndex: number,
  vocabSize: number,
): number {
  const seed =
    sampling.temperature === 0
      ? 0
      : mix(mix(sampling.seed[0], sampling.seed[1]), (sampling.choice << 20) ^ outputIndex);
  return mix(fold, seed | 0) % vocabSize;
}

/** What a request must answer, computed without blocks, batches or steps: its sampled tokens, the ending one included. */
export function witnessTokens(
  prompt: Int32Array,
  sampling: SamplingParams,
  options: { readonly vocabSize: number; readonly numGroups: number },
): number[] {
  let chain = 0;
  let fold = 0;
  const see = (token: number): void => {
    chain = mix(chain, token);
    for (let group = 0; group < options.numGroups; group++) fold = mix(fold, chain | 0);
  };
  prompt.forEach(see);
  const output: number[] = [];
  while (output.length < sampling.maxTokens) {
    const token = pick(fold, sampling, output.length, options.vocabSize);
    output.push(token);
    if (sampling.stopTokenIds.includes(token)) break;
    see(token);
  }
  return output;
}

export class FakeRunner implements ModelRunner {
  readonly seen: SeenStep[] = [];
  /** Calls that reached the device, steps and seats. */
  calls = 0;
  stopped = false;
  readonly #options: FakeRunnerOptions;
  readonly #slots: Float64Array;
  readonly #seats: (Seat | undefined)[];
  readonly #pending: QueuedStep[] = [];
  readonly #results: Promise<StepResult>[] = [];
  #failNext: StepResult["error"] | undefined;
  #queued = 0;

  constructor(options: FakeRunnerOptions) {
    this.#options = options;
    this.#slots = new Float64Array(options.numBlocks * options.blockSize).fill(-1);
    this.#seats = Array.from({ length: options.maxRows });
  }

  get queued(): number {
    return this.#queued;
  }

  /** Steps submitted that have not run. */
  get numPending(): number {
    return this.#pending.length;
  }

  /** The next submitted step fails. */
  failNextStep(message: string): void {
    this.#failNext = { code: "internal", message };
  }

  submit(batch: ScheduledBatch): void {
    this.calls += 1 + batch.opened.length;
    const opened = batch.opened.map(({ seat, sampling }) => ({ seat, sampling }));
    const { promise, resolve } = Promise.withResolvers<StepResult>();
    this.#pending.push({
      opened,
      words: batch.words.slice(),
      error: this.#failNext,
      deliver: resolve,
    });
    this.#failNext = undefined;
    this.#results.push(promise);
    this.#queued++;
  }

  async next(): Promise<StepResult> {
    const result = this.#results.shift();
    if (result === undefined) throw new KvEngineError("internal", "next() with nothing queued");
    if (this.#options.manual !== true && this.#pending.length > 0) this.finishStep();
    const taken = await result;
    this.#queued--;
    return taken;
  }

  /** Runs the oldest submitted step and delivers its result. */
  finishStep(): void {
    const step = this.#pending.shift();
    if (step === undefined) throw new Error("no step is submitted");
    for (const { seat, sampling } of step.opened) {
      this.#seats[seat] = { sampling, outputIndex: 0, lastToken: FROM_SEAT, frozen: false };
    }
    step.deliver(step.error === undefined ? this.#run(step.words) : failed(step.words, step.error));
  }

  stop(): Promise<void> {
    this.stopped = true;
    const error = { code: "unavailable", message: "the runner was stopped" };
    for (const step of this.#pending.splice(0)) step.deliver(failed(step.words, error));
    return Promise.resolve();
  }

  #run(words: Int32Array): StepResult {
    const { maxRows, maxTokens, blockSize, numBlocks, numGroups, vocabSize } = this.#options;
    let at = 0;
    const take = (count: number): Int32Array => words.subarray(at, (at += count));
    const header = take(8);
    const [version, stepId, numTokens, numRows, groups, numSamples, numEntries] =
      header as unknown as number[];
    check(version === 1 && groups === numGroups, "header");
    check(
      numTokens! <= maxTokens && numRows! <= maxRows,
      `step of ${numTokens} tokens in ${numRows} rows`,
    );
    const tokens = take(numTokens!);
    const seats = take(numRows!);
    const firstToken = take(numRows! + 1);
    const starts = take(numRows!);
    const samples = take(numSamples!);
    const tableStart = take(numGroups * numRows! + 1);
    const blocks = take(numEntries!);
    check(at === words.length, "length");
    check(new Set(seats).size === seats.length, "a seat in two rows");
    check(new Set(blocks).size === blocks.length, "a block in two tables");
    const counts = Array.from(starts, (_, row) => firstToken[row + 1]! - firstToken[row]!);
    this.seen.push({ stepId: stepId!, seats: [...seats], counts, starts: [...starts] });

    const result: StepResult = {
      stepId: stepId!,
      tokens: new Int32Array(numSamples!),
      finish: new Uint8Array(numSamples!),
      logprobs: new Float32Array(numSamples!),
      computeMicros: 0,
      gapMicros: 0,
    };
    let sample = 0;
    for (let row = 0; row < numRows!; row++) {
      const seat = this.#seats[seats[row]!];
      check(seat !== undefined, `seat ${seats[row]} is not open`);
      const slotOf = (group: number, position: number): number => {
        const entry = tableStart[group * numRows! + row]! + Math.floor(position / blockSize);
        check(
          entry < tableStart[group * numRows! + row + 1]!,
          `position ${position} is past the block table`,
        );
        const block = blocks[entry]!;
        check(block > 0 && block < numBlocks, `block ${block}`);
        return block * blockSize + (position % blockSize);
      };
      const end = starts[row]! + counts[row]!;
      for (let position = starts[row]!; position < end; position++) {
        const given = tokens[firstToken[row]! + position - starts[row]!]!;
        const token = given === FROM_SEAT ? seat!.lastToken : given;
        for (let group = 0; group < numGroups; group++) {
          const before = position === 0 ? 0 : this.#slots[slotOf(group, position - 1)]!;
          this.#slots[slotOf(group, position)] = mix(before, token);
        }
      }
      if (samples[sample] !== firstToken[row + 1]! - 1) continue;
      let fold = 0;
      for (let position = 0; position < end; position++) {
        for (let group = 0; group < numGroups; group++)
          fold = mix(fold, this.#slots[slotOf(group, position)]! | 0);
      }
      this.#sample(seat!, fold, vocabSize, result, sample++);
    }
    check(sample === numSamples, "samples that are not the last of a row");
    return result;
  }

  #sample(seat: Seat, fold: number, vocabSize: number, result: StepResult, sample: number): void {
    if (seat.frozen) {
      result.tokens[sample] = -1;
      return;
    }
    const token = pick(fold, seat.sampling, seat.outputIndex++, vocabSize);
    seat.lastToken = token;
    const stopped = seat.sampling.stopTokenIds.includes(token);
    const finish = stopped ? 1 : seat.outputIndex >= seat.sampling.maxTokens ? 2 : 0;
    seat.frozen = finish !== 0;
    result.tokens[sample] = token;
    result.finish[sample] = finish;
    result.logprobs[sample] = -token / vocabSize;
  }
}

function failed(words: Int32Array, error: NonNullable<StepResult["error"]>): StepResult {
  return {
    stepId: words[1]!,
    tokens: new Int32Array(0),
    finish: new Uint8Array(0),
    logprobs: new Float32Array(0),
    computeMicros: 0,
    gapMicros: 0,
    error,
  };
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`fake runner: ${what}`);
}
