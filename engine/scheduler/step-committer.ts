/**
 * What a finished step meant: picked tokens go to their sequences, drafts that were right count, blocks that are complete are
 * published, blocks that left a window are freed, sequences end. A step that failed computed nothing that counts: its
 * requests end with the error, what it published is withdrawn, and whoever has read that is computed again.
 */

import { NULL_BLOCK } from "../cache/block-pool.ts";
import { KvEngineError, type ErrorData } from "../errors.ts";
import { type Finish, NO_LOGPROBS, type TopLogprobs } from "../request.ts";
import type { CacheCounts } from "./cache-counts.ts";
import { receiptOf } from "./cache-receipt.ts";
import { PICK, type ScheduledBatch, type StepResult } from "./batch.ts";
import type { LiveSequences } from "./live-sequences.ts";
import type { PromptHasher } from "./prompt-hasher.ts";
import type { SchedulerConnectors } from "./scheduler-connectors.ts";
import { NONE, type Sequence } from "./sequence.ts";

/** The sampler froze the seat with this token: `StepResult.finish`. */
const FINISH_STOP_ID = 1;
const FINISH_MAX_TOKENS = 2;
/** Without a token: the grammar that the answer follows got beyond its limits. */
const FINISH_GRAMMAR_FAILED = 3;

/** How a sequence ends by itself. */
interface End {
  readonly reason: "stop" | "length";
  readonly details: Pick<Finish, "stopReason">;
}

export class StepCommitter {
  readonly #live: LiveSequences;
  readonly #hasher: PromptHasher;
  readonly #counts: CacheCounts;
  readonly #microsPerPromptToken: () => number;
  /** The clock at the commit under way. */
  #now = 0;
  numPromptTokens = 0;
  numGenerationTokens = 0;
  /** Prompt tokens that were looked up in the prefix cache, and those that were there. */
  numDrafts = 0;
  numDraftTokens = 0;
  numAcceptedTokens = 0;

  /** `microsPerPromptToken`: what one has cost lately. */
  constructor(
    live: LiveSequences,
    hasher: PromptHasher,
    counts: CacheCounts,
    microsPerPromptToken: () => number,
  ) {
    this.#live = live;
    this.#hasher = hasher;
    this.#counts = counts;
    this.#microsPerPromptToken = microsPerPromptToken;
  }

  /** Takes the oldest submitted step's result; events of it are left in `live.events`. */
  commit(batch: ScheduledBatch, result: StepResult): void {
    this.#now = this.#live.now();
    if (result.error === undefined) this.#commitRows(batch, result);
    else this.#failRows(batch, result.error);
  }

  #commitRows(batch: ScheduledBatch, result: StepResult): void {
    let sample = 0;
    for (let row = 0; row < batch.numRows; row++) {
      const first = sample;
      while (sample < batch.numSamples && batch.sampleRows[sample] === row) sample++;
      const sequence = batch.sequences[row] as Sequence;
      // One that ended at an earlier commit was in this step already: whatever its row picked is surplus.
      if (sequence.state === "finished" || batch.stepId <= sequence.voidUntilStep) continue;
      this.#commitRow(batch, result, row, first, sample);
    }
    // A block that was filled and whose last token became known in one commit has its hash only now.
    this.#hasher.flush((sequence) => this.#keepComplete(sequence, batch.stepId));
  }

  #commitRow(
    batch: ScheduledBatch,
    result: StepResult,
    row: number,
    first: number,
    last: number,
  ): void {
    const sequence = batch.sequences[row] as Sequence;
    const start = batch.starts[row] as number;
    const count = batch.counts[row] as number;
    let pick = first;
    for (; pick < last && batch.sampleTargets[pick] !== PICK; pick++)
      sequence.promptScores?.add(result.logprobs[pick] as number, topOf(result, pick));
    sequence.numComputedTokens = start + count;
    if (pick < last) {
      this.#live.events.begin(sequence.handle);
      this.#commitPicks(sequence, batch, result, pick, last);
    }
    this.#keepBlocks(sequence, batch.stepId);
  }

  /** One pick, or that of the newest token and one for each draft behind it. */
  #commitPicks(
    sequence: Sequence,
    batch: ScheduledBatch,
    result: StepResult,
    first: number,
    last: number,
  ): void {
    if ((result.tokens[first] as number) < 0) {
      const error = noToken(batch, sequence, result.finish[first] === FINISH_GRAMMAR_FAILED);
      this.#live.finish(sequence, "error", { error });
      return;
    }
    const numDrafts = last - first - 1;
    const before = sequence.numTokens;
    let end: End | undefined;
    let pick = first;
    for (; pick < last && end === undefined && (result.tokens[pick] as number) >= 0; pick++)
      end = this.#commitToken(sequence, result.tokens[pick] as number, result, pick);
    const accepted = sequence.numTokens - before - 1;
    if (numDrafts > 0) this.#verify(sequence, numDrafts, accepted);
    sequence.drafter?.append(sequence.tokenIds, before, sequence.numTokens);
    sequence.drafter?.force(forcedBehind(result, pick - 1));
    if (end === undefined) return;
    // Who hears of the end finds the last block, which this step has completed, with its content.
    this.#keepBlocks(sequence, batch.stepId);
    this.#live.finish(sequence, end.reason, end.details);
  }

  /** The sequence goes on behind the drafts that were right. */
  #verify(sequence: Sequence, numDrafts: number, accepted: number): void {
    if (sequence.drafter?.isGuess === true) {
      this.numDrafts++;
      this.numDraftTokens += numDrafts;
      this.numAcceptedTokens += accepted;
    }
    sequence.drafter?.verified(numDrafts, accepted);
    sequence.verifying = false;
    sequence.numComputedTokens -= numDrafts - accepted;
    sequence.numSubmittedTokens = sequence.numComputedTokens;
    sequence.numSubmittedSamples = sequence.numOutputTokens;
  }

  /** Answers how the sequence ends, if it does. */
  #commitToken(
    sequence: Sequence,
    token: number,
    result: StepResult,
    pick: number,
  ): End | undefined {
    const { events } = this.#live;
    sequence.lastTokenAt = this.#now;
    if (sequence.firstTokenAt === 0) {
      sequence.firstTokenAt = this.#now;
      this.#countPrompt(sequence);
      if (sequence.cacheReceipt !== undefined)
        events.cached(sequence.numCachedTokens, sequence.cacheReceipt);
      const scores = sequence.promptScores?.take();
      if (scores !== undefined) events.prompt(scores);
    }
    this.numGenerationTokens++;
    sequence.appendToken(token);
    const finish = result.finish[pick] as number;
    if (finish === FINISH_STOP_ID) return { reason: "stop", details: { stopReason: token } };
    events.token(token, result.logprobs[pick] as number);
    if (sequence.sampling.topLogprobs !== NO_LOGPROBS) events.top(topOf(result, pick));
    const stop = sequence.stopChecker?.(token);
    if (stop !== undefined) return { reason: "stop", details: { stopReason: stop } };
    return finish === FINISH_MAX_TOKENS ? { reason: "length", details: {} } : undefined;
  }

  /** With the first token it is known what of the prompt was computed, whatever was found, lost or given up on the way. */
  #countPrompt(sequence: Sequence): void {
    const { numPromptTokens, computed } = sequence;
    this.numPromptTokens += numPromptTokens;
    sequence.numCachedTokens = numPromptTokens - computed.size;
    if (sequence.numCachedTokens > 0)
      sequence.cacheReceipt = receiptOf(sequence, this.#microsPerPromptToken());
    this.#counts.firstToken(sequence, this.#live.connectors !== undefined);
  }

  /** Publishes blocks that this step has completed and frees those that no later position sees. */
  #keepBlocks(sequence: Sequence, stepId: number): void {
    const { kv } = this.#live;
    const { blocks, numComputedTokens } = sequence;
    this.#hasher.grow(sequence);
    this.#keepComplete(sequence, stepId);
    if (sequence.state === "running") kv.slide(blocks, numComputedTokens);
  }

  #keepComplete(sequence: Sequence, stepId: number): void {
    this.#publish(sequence, stepId);
    if (this.#live.connectors !== undefined) this.#tellComplete(sequence, this.#live.connectors);
  }

  /** Connectors see a block once its step has committed. */
  #tellComplete(sequence: Sequence, connectors: SchedulerConnectors): void {
    const { pool, blockSize } = this.#live.kv;
    if (sequence.numComputedTokens < (sequence.numToldBlocks + 1) * blockSize) return;
    const { tables, numHashes } = sequence.blocks;
    const end = Math.min(Math.floor(sequence.numComputedTokens / blockSize), numHashes);
    for (let block = sequence.numToldBlocks; block < end; block++) {
      for (const { entries } of tables) {
        const id = entries[block] ?? NULL_BLOCK;
        if (id !== NULL_BLOCK && pool.isHashed(id)) connectors.completed(id);
      }
    }
    sequence.numToldBlocks = Math.max(sequence.numToldBlocks, end);
  }

  #publish({ blocks, numComputedTokens }: Sequence, stepId: number): void {
    const { kv } = this.#live;
    if (numComputedTokens < (blocks.numPublished + 1) * kv.blockSize) return;
    kv.markPresent(blocks, numComputedTokens);
    kv.publish(blocks, numComputedTokens, stepId);
  }

  #failRows(batch: ScheduledBatch, error: ErrorData): void {
    const { kv, events } = this.#live;
    const damaged = new Set<number>();
    for (let row = 0; row < batch.numRows; row++) {
      const sequence = batch.sequences[row] as Sequence;
      addWritten(damaged, batch, row, kv.blockSize);
      kv.withdraw(sequence.blocks, batch.stepId);
      if (sequence.state === "finished" || batch.stepId <= sequence.voidUntilStep) continue;
      events.begin(sequence.handle);
      this.#live.finish(sequence, "error", { error });
    }
    this.#recompute(damaged, batch.stepId);
  }

  /** Who is in a later step with a block that was never filled is computed again, and so is who reads what that one wrote. */
  #recompute(damaged: Set<number>, failedStep: number): void {
    const { kv, inFlight } = this.#live;
    for (const batch of inFlight) {
      if (batch.stepId <= failedStep) continue;
      for (let i = 0; i < batch.copies.length; i += 2)
        if (damaged.has(batch.copies[i]!)) damaged.add(batch.copies[i + 1]!);
      for (let row = 0; row < batch.numRows; row++) {
        const sequence = batch.sequences[row] as Sequence;
        if (!holdsAny(sequence, damaged)) continue;
        addWritten(damaged, batch, row, kv.blockSize);
        kv.withdraw(sequence.blocks, failedStep);
        sequence.voidUntilStep = sequence.lastStepId;
        if (sequence.state === "running") this.#live.preempt(sequence);
      }
    }
    this.#recomputeWaiting(damaged, failedStep);
  }

  /** As `#recompute`, for those that run and are in no step: they wait for what connectors bring behind such a block. */
  #recomputeWaiting(damaged: ReadonlySet<number>, failedStep: number): void {
    const { kv, running } = this.#live;
    let next: Sequence | undefined;
    for (let one = running.first; one !== undefined; one = next) {
      next = one.next;
      if (!holdsAny(one, damaged)) continue;
      kv.withdraw(one.blocks, failedStep);
      this.#live.preempt(one);
    }
  }
}

/** Blocks that a row writes. */
function addWritten(to: Set<number>, batch: ScheduledBatch, row: number, blockSize: number): void {
  const start = batch.starts[row] as number;
  const end = start + (batch.counts[row] as number);
  for (const { entries } of (batch.sequences[row] as Sequence).blocks.tables) {
    for (let i = Math.floor(start / blockSize); i * blockSize < end; i++) {
      const id = entries[i] ?? NULL_BLOCK;
      if (id !== NULL_BLOCK) to.add(id);
    }
  }
}

function holdsAny(sequence: Sequence, ids: ReadonlySet<number>): boolean {
  return sequence.blocks.tables.some(({ entries }) => entries.some((id) => ids.has(id)));
}

function forcedBehind({ forcedStart, forcedIds }: StepResult, sample: number): Int32Array {
  return forcedIds.subarray(forcedStart[sample] ?? 0, forcedStart[sample + 1] ?? 0);
}

function noToken({ stepId }: ScheduledBatch, { id }: Sequence, grammarFailed: boolean): ErrorData {
  if (!grammarFailed)
    return { code: "internal", message: `step ${stepId} sampled nothing for request ${id}` };
  return {
    code: "unsupported",
    message: "the answer's grammar got too complex at the place it had come to",
    hint: "make the grammar simpler",
  };
}

function topOf(result: StepResult, sample: number): TopLogprobs {
  const from = result.topStart[sample] ?? 0;
  const to = result.topStart[sample + 1] ?? 0;
  return {
    rank: result.ranks[sample] ?? NONE,
    tokenIds: Array.from(result.topIds.subarray(from, to)),
    logprobs: Array.from(result.topLogprobs.subarray(from, to)),
  };
}

/** Throws `internal` where a result is not that of the batch or not whole: the native side broke its word. */
export function checkResult(batch: ScheduledBatch, result: StepResult): void {
  const { stepId, numSamples } = batch;
  if (result.stepId !== stepId) {
    throw new KvEngineError(
      "internal",
      `step ${result.stepId} was committed, step ${stepId} is the oldest submitted`,
    );
  }
  if (result.error !== undefined) return;
  const { tokens, finish, logprobs, ranks, topStart, topIds, topLogprobs } = result;
  const { forcedStart, forcedIds } = result;
  const numTops = topStart.length === 0 ? 0 : (topStart.at(-1) as number);
  const lengths: readonly (readonly [string, number, number])[] = [
    ["tokens", tokens.length, numSamples],
    ["finish", finish.length, numSamples],
    ["logprobs", logprobs.length, numSamples],
    ["ranks", ranks.length, ranks.length === 0 ? 0 : numSamples],
    ["topStart", topStart.length, topStart.length === 0 ? 0 : numSamples + 1],
    ["topIds", topIds.length, numTops],
    ["forcedStart", forcedStart.length, forcedStart.length === 0 ? 0 : numSamples + 1],
    ["forcedIds", forcedIds.length, forcedStart.at(-1) ?? 0],
    ["topLogprobs", topLogprobs.length, numTops],
  ];
  for (const [name, length, expected] of lengths) {
    if (length === expected) continue;
    throw new KvEngineError(
      "internal",
      `the result of step ${stepId} has ${length} ${name}; with ${numSamples} samples it must have ${expected}`,
    );
  }
}
