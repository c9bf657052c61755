/**
 * Decides who runs in the next step and what a finished step meant. `schedule()` may be called while earlier steps are
 * still computing: it counts on what they will have done, and a token that is not known yet is taken from the seat.
 * `commit()` takes the results in the order of the steps. It computes nothing, waits for nothing and talks to nobody.
 *
 * Order is first come, first served. Admission promises a request the blocks for its prompt and `maxTokens`, so a running
 * request can always go on and nothing is ever preempted; blocks are taken from the pool as positions are reached.
 * What a request in a submitted step holds (blocks, seat) is given back when its last step has committed, because the
 * device may still read and write it.
 */

import { BlockPool } from "../cache/block-pool.ts";
import { type ErrorData, KvEngineError } from "../errors.ts";
import type { EngineStats, Finish, FinishReason, GenerateRequest } from "../request.ts";
import { blocksNeeded, checkRequest, type RequestLimits } from "../request-limits.ts";
import { BatchPacker, ScheduledBatch, type StepResult } from "./batch.ts";
import { StepBudget } from "./budget.ts";
import { NONE, Sequence, SequenceList, type StopCheckerFactory } from "./sequence.ts";
import { type StepEvents, StepEventsBuilder } from "./step-events.ts";

export interface SchedulerOptions {
  /** Most sequences in a step, and the number of seats. */
  readonly maxNumSeqs: number;
  /** Most tokens in a step. */
  readonly maxNumBatchedTokens: number;
  /** Most prompt tokens in a step; as many as the step has room for when left out. */
  readonly maxPrefillTokens?: number;
  readonly limits: RequestLimits;
}

/** The sampler froze the seat with this token: `StepResult.finish`. */
const FINISH_STOP_ID = 1;
const FINISH_MAX_TOKENS = 2;

export class Scheduler {
  readonly limits: RequestLimits;
  readonly pool: BlockPool;
  readonly #maxNumSeqs: number;
  readonly #createStopChecker: StopCheckerFactory;
  readonly #budget: StepBudget;
  readonly #packer: BatchPacker;
  readonly #waiting: SequenceList = new SequenceList();
  readonly #running: SequenceList = new SequenceList();
  /** Live requests, for abort; not read in a step. */
  readonly #sequences = new Map<number, Sequence>();
  readonly #freeSeats: number[] = [];
  /** Submitted and not committed, in order. */
  readonly #inFlight: ScheduledBatch[] = [];
  readonly #idleBatches: ScheduledBatch[] = [];
  readonly #events: StepEventsBuilder = new StepEventsBuilder();
  /** Blocks promised to running sequences and not taken yet. */
  #promisedBlocks = 0;
  /** Running sequences with pending prompt tokens. */
  #numPrefilling = 0;
  #nextStepId = 0;
  #numPromptTokens = 0;
  #numGenerationTokens = 0;
  #numSteps = 0;

  /** `createStopChecker` is asked for each request with stop strings. */
  constructor(options: SchedulerOptions, createStopChecker: StopCheckerFactory) {
    const { maxNumSeqs, maxNumBatchedTokens, limits } = options;
    const maxPrefillTokens = options.maxPrefillTokens ?? maxNumBatchedTokens;
    for (const [subject, value] of Object.entries({
      maxNumSeqs,
      maxNumBatchedTokens,
      maxPrefillTokens,
    })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new KvEngineError("bad_config", `${subject} is ${value}; allowed is 1 and more`, {
          subject,
        });
      }
    }
    this.limits = limits;
    this.pool = new BlockPool(limits.numBlocks + 1);
    this.#maxNumSeqs = maxNumSeqs;
    this.#createStopChecker = createStopChecker;
    this.#budget = new StepBudget(maxNumBatchedTokens, maxPrefillTokens);
    this.#packer = new BatchPacker(limits.numGroups);
    for (let seat = maxNumSeqs - 1; seat >= 0; seat--) this.#freeSeats.push(seat);
  }

  /** Requests that have not ended. */
  get numUnfinished(): number {
    return this.#sequences.size;
  }

  get stats(): EngineStats {
    return {
      running: this.#running.length,
      waiting: this.#waiting.length,
      usedBlocks: this.pool.numUsed,
      totalBlocks: this.limits.numBlocks,
      preemptions: 0,
      promptTokens: this.#numPromptTokens,
      generationTokens: this.#numGenerationTokens,
      steps: this.#numSteps,
    };
  }

  /** Queues a request. Throws what `checkRequest` throws, before anything is queued. */
  add(handle: number, request: GenerateRequest): void {
    checkRequest(request, this.limits);
    if (this.#sequences.has(handle)) {
      throw new KvEngineError("internal", `request handle ${handle} is in use`, {
        subject: request.id,
      });
    }
    const { stop } = request.sampling;
    const stopChecker = stop.length === 0 ? undefined : this.#createStopChecker(stop);
    const sequence = new Sequence(handle, request, this.limits.numGroups, stopChecker);
    this.#sequences.set(handle, sequence);
    this.#waiting.append(sequence);
  }

  /**
   * Ends a request at any moment; one that has ended already is left alone. What it holds is free at once, or when the
   * last step it was submitted in commits. Answers its last event.
   */
  abort(handle: number): StepEvents {
    const sequence = this.#sequences.get(handle);
    if (sequence !== undefined) {
      this.#events.begin(handle);
      this.#finish(sequence, "abort");
    }
    return this.#events.take();
  }

  /**
   * The next step, or undefined when there is nothing to compute. The caller must submit it: its `words` are valid until
   * the next call, and `commit` expects its result.
   */
  schedule(): ScheduledBatch | undefined {
    const batch = this.#idleBatches.pop() ?? new ScheduledBatch(this.#maxNumSeqs);
    batch.begin(this.#nextStepId);
    this.#budget.reset();
    this.#scheduleDecodes(batch);
    if (this.#numPrefilling > 0) this.#schedulePrefills(batch);
    this.#admit(batch);
    if (batch.numRows === 0) {
      this.#idleBatches.push(batch);
      return undefined;
    }
    this.#nextStepId = (this.#nextStepId + 1) & 0x7fffffff;
    this.#packer.pack(batch);
    this.#inFlight.push(batch);
    return batch;
  }

  /** Takes the result of the oldest submitted step; answers what it brought. A failed step fails its requests. */
  commit(result: StepResult): StepEvents {
    const batch = this.#inFlight[0];
    if (batch === undefined || batch.stepId !== result.stepId) {
      throw new KvEngineError(
        "internal",
        `result of step ${result.stepId}, expected ${batch?.stepId ?? "none"}`,
      );
    }
    this.#numSteps++;
    if (result.error === undefined) this.#commitRows(batch, result);
    else this.#failRows(batch, result.error);
    this.#inFlight.shift();
    for (let row = 0; row < batch.numRows; row++) {
      const sequence = batch.sequences[row] as Sequence;
      if (sequence.state === "finished" && sequence.lastStepId === batch.stepId)
        this.#release(sequence);
    }
    batch.clear();
    this.#idleBatches.push(batch);
    return this.#events.take();
  }

  /** Ends every request, whatever state it is in. */
  endAll(reason: "abort" | "error", error?: ErrorData): StepEvents {
    for (const sequence of this.#sequences.values()) {
      this.#events.begin(sequence.handle);
      this.#finish(sequence, reason, error === undefined ? {} : { error });
    }
    return this.#events.take();
  }

  /** Throws `internal` unless pool, promises and seats agree with the sequences that hold them. */
  checkIntegrity(): void {
    this.pool.checkIntegrity();
    const holders = new Set<Sequence>();
    let promised = 0;
    let prefilling = 0;
    for (let sequence = this.#running.first; sequence !== undefined; sequence = sequence.next) {
      holders.add(sequence);
      if (sequence.numPendingPromptTokens > 0) prefilling++;
    }
    for (const batch of this.#inFlight)
      for (const sequence of batch.sequences) holders.add(sequence);
    let held = 0;
    for (const sequence of holders) {
      const blocks = sequence.tables.reduce((sum, table) => sum + table.length, 0);
      held += blocks;
      promised += this.#blocksNeeded(sequence) - blocks;
    }
    const expected: [string, number, number][] = [
      ["blocks held by sequences", held, this.pool.numUsed],
      ["promised blocks", promised, this.#promisedBlocks],
      ["prefilling sequences", prefilling, this.#numPrefilling],
      ["taken seats", holders.size, this.#maxNumSeqs - this.#freeSeats.length],
      ["live requests", this.#running.length + this.#waiting.length, this.#sequences.size],
    ];
    for (const [what, found, counted] of expected) {
      if (found !== counted)
        throw new KvEngineError("internal", `scheduler: ${what}: ${found}, counted ${counted}`);
    }
    if (this.#promisedBlocks > this.pool.numFree) {
      throw new KvEngineError(
        "internal",
        `${this.#promisedBlocks} blocks promised, ${this.pool.numFree} are free`,
      );
    }
  }

  #scheduleDecodes(batch: ScheduledBatch): void {
    for (let sequence = this.#running.first; sequence !== undefined; sequence = sequence.next) {
      if (sequence.numPendingPromptTokens > 0) continue;
      if (sequence.numSubmittedSamples === sequence.sampling.maxTokens) continue;
      if (!this.#budget.takeDecode()) return;
      this.#addRow(batch, sequence, 1, true);
    }
  }

  #schedulePrefills(batch: ScheduledBatch): void {
    for (let sequence = this.#running.first; sequence !== undefined; sequence = sequence.next) {
      if (this.#budget.prefillLeft === 0) return;
      if (sequence.numPendingPromptTokens > 0) this.#addChunk(batch, sequence);
    }
  }

  /** Lets waiting requests in while there is a seat, budget and room for all they may need; the head waits until it fits. */
  #admit(batch: ScheduledBatch): void {
    for (let head = this.#waiting.first; head !== undefined; head = this.#waiting.first) {
      if (this.#budget.prefillLeft === 0 || this.#freeSeats.length === 0) return;
      const needed = this.#blocksNeeded(head);
      if (needed > this.pool.numFree - this.#promisedBlocks) return;
      this.#waiting.remove(head);
      this.#running.append(head);
      head.state = "running";
      head.seat = this.#freeSeats.pop() as number;
      this.#promisedBlocks += needed;
      this.#numPrefilling++;
      batch.opened.push(head);
      this.#addChunk(batch, head);
    }
  }

  #addChunk(batch: ScheduledBatch, sequence: Sequence): void {
    const pending = sequence.numPendingPromptTokens;
    const count = this.#budget.takePrefill(pending);
    const last = count === pending;
    if (last) this.#numPrefilling--;
    this.#addRow(batch, sequence, count, last);
  }

  #addRow(batch: ScheduledBatch, sequence: Sequence, count: number, sampled: boolean): void {
    const start = sequence.numSubmittedTokens;
    const end = start + count;
    const length = Math.ceil(end / this.limits.blockSize);
    const tables = sequence.tables;
    for (let group = 0; group < tables.length; group++) {
      const table = tables[group]!;
      if (table.length < length) {
        this.#promisedBlocks -= length - table.length;
        table.growTo(length, this.pool);
      }
    }
    sequence.numSubmittedTokens = end;
    if (sampled) sequence.numSubmittedSamples++;
    sequence.lastStepId = batch.stepId;
    batch.addRow(sequence, start, count, sampled);
  }

  #commitRows(batch: ScheduledBatch, result: StepResult): void {
    for (let row = 0; row < batch.numRows; row++) {
      const sequence = batch.sequences[row] as Sequence;
      sequence.numComputedTokens = (batch.starts[row] as number) + (batch.counts[row] as number);
    }
    for (let sample = 0; sample < batch.numSamples; sample++) {
      const sequence = batch.sequences[batch.sampleRows[sample] as number] as Sequence;
      // A sequence that ended at an earlier commit was in this step already: whatever its row picked is surplus.
      if (sequence.state === "finished") continue;
      const token = result.tokens[sample] as number;
      this.#events.begin(sequence.handle);
      if (token < 0) {
        const message = `step ${batch.stepId} sampled nothing for request ${sequence.id}`;
        this.#finish(sequence, "error", { error: { code: "internal", message } });
        continue;
      }
      this.#commitToken(
        sequence,
        token,
        result.logprobs[sample] as number,
        result.finish[sample] as number,
      );
    }
  }

  #commitToken(sequence: Sequence, token: number, logprob: number, finish: number): void {
    if (sequence.numOutputTokens === 0) this.#numPromptTokens += sequence.numPromptTokens;
    this.#numGenerationTokens++;
    sequence.appendToken(token);
    if (finish === FINISH_STOP_ID) {
      this.#finish(sequence, "stop", { stopReason: token });
      return;
    }
    this.#events.token(token, logprob);
    const stop = sequence.stopChecker?.(token);
    if (stop !== undefined) this.#finish(sequence, "stop", { stopReason: stop });
    else if (finish === FINISH_MAX_TOKENS) this.#finish(sequence, "length");
  }

  #failRows(batch: ScheduledBatch, error: ErrorData): void {
    for (let row = 0; row < batch.numRows; row++) {
      const sequence = batch.sequences[row] as Sequence;
      if (sequence.state === "finished") continue;
      this.#events.begin(sequence.handle);
      this.#finish(sequence, "error", { error });
    }
  }

  /** Ends a live sequence, within the event that was begun for it. */
  #finish(
    sequence: Sequence,
    reason: FinishReason,
    details: Pick<Finish, "stopReason" | "error"> = {},
  ): void {
    const running = sequence.state === "running";
    if (running && sequence.numPendingPromptTokens > 0) this.#numPrefilling--;
    (running ? this.#running : this.#waiting).remove(sequence);
    sequence.state = "finished";
    this.#sequences.delete(sequence.handle);
    this.#events.finish({
      reason,
      ...details,
      usage: {
        promptTokens: sequence.numPromptTokens,
        completionTokens: sequence.numOutputTokens,
        cachedTokens: sequence.numCachedTokens,
      },
    });
    if (running && !this.#isInFlight(sequence)) this.#release(sequence);
  }

  /** Whether a submitted step, the one that is committing among them, has a row of the sequence. */
  #isInFlight(sequence: Sequence): boolean {
    return this.#inFlight.some((batch) => batch.stepId === sequence.lastStepId);
  }

  /** Gives back blocks and seat of a finished sequence that no submitted step has. */
  #release(sequence: Sequence): void {
    let held = 0;
    for (const table of sequence.tables) {
      held += table.length;
      table.release(this.pool);
    }
    this.#promisedBlocks -= this.#blocksNeeded(sequence) - held;
    this.#freeSeats.push(sequence.seat);
    sequence.seat = NONE;
  }

  #blocksNeeded(sequence: Sequence): number {
    return blocksNeeded(sequence.numPromptTokens, sequence.sampling.maxTokens, this.limits);
  }
}
