/**
 * Fills one step: decodes first, so that no running stream waits for a prompt; then chunks of prompts that have begun; then
 * waiting requests, while there is a seat, budget and room. A sequence that finds no free block preempts the last ones in
 * scheduling order; the last one itself waits, keeping what it has, until others end. So the first in order always goes on.
 */

import type { ScheduledBatch } from "./batch.ts";
import { PICK } from "./batch.ts";
import type { StepBudget } from "./budget.ts";
import type { ChunkSizer } from "./chunk-sizer.ts";
import type { LiveSequences } from "./live-sequences.ts";
import type { Admission } from "./admission.ts";
import type { Sequence } from "./sequence.ts";

const NO_DRAFT: Int32Array = new Int32Array(0);

export class StepPlanner {
  readonly #live: LiveSequences;
  readonly #budget: StepBudget;
  readonly #sizer: ChunkSizer;
  readonly #admission: Admission;
  readonly #maxPrefillTokens: number;
  /** Somebody in this step found too few free blocks: what becomes free is for the running ones. */
  #short = false;
  /** Sequences past their prompt that want more tokens, with a row in this step or without. */
  #numStreams = 0;
  /** Running sequences that prefill, when the step was begun. */
  #numPrefilling = 0;

  constructor(
    live: LiveSequences,
    budget: StepBudget,
    sizer: ChunkSizer,
    admission: Admission,
    maxPrefillTokens: number,
  ) {
    this.#live = live;
    this.#budget = budget;
    this.#sizer = sizer;
    this.#admission = admission;
    this.#maxPrefillTokens = maxPrefillTokens;
  }

  plan(batch: ScheduledBatch): void {
    const budget = this.#budget;
    budget.reset();
    this.#short = false;
    this.#numStreams = 0;
    this.#numPrefilling = this.#decodes(batch);
    if (this.#numPrefilling === 0 && this.#live.waiting.length === 0) return;
    const ceiling = Math.min(this.#maxPrefillTokens, budget.tokensLeft);
    budget.allowPrefill(ceiling === 0 ? 0 : this.#promptTokens(batch, ceiling));
    if (this.#numPrefilling > 0) this.#prefills(batch);
    if (!this.#short) this.#admission.admit(batch, (sequence) => this.#chunk(batch, sequence));
  }

  /** Answers how many running sequences are prefilling. */
  #decodes(batch: ScheduledBatch): number {
    let numPrefilling = 0;
    for (let one = this.#live.running.first; one !== undefined; one = one.next) {
      if (one.prefilling) numPrefilling++;
      else this.#decode(batch, one);
    }
    return numPrefilling;
  }

  /** How many prompt tokens the step may have. A stream without a row in a step gets its tokens two steps after the last. */
  #promptTokens({ numDecodes, drafts }: ScheduledBatch, ceiling: number): number {
    const skips = drafts.length > 0 || this.#numStreams > numDecodes;
    return this.#sizer.size(this.#numStreams, ceiling, {
      draftTokens: drafts.length,
      stepsBetween: skips ? 2 : 1,
    });
  }

  #decode(batch: ScheduledBatch, sequence: Sequence): void {
    if (sequence.numSubmittedSamples >= sequence.sampling.maxTokens) return;
    this.#numStreams++;
    if (sequence.verifying || !this.#budget.fits(1, 1)) return;
    const start = sequence.numSubmittedTokens;
    const draft = sequence.drafter === undefined ? NO_DRAFT : this.#draft(sequence, start);
    if (draft === undefined || !this.#makeRoom(sequence, start + 1 + draft.length)) return;
    const numTokens = 1 + draft.length;
    this.#budget.take(numTokens, numTokens);
    batch.numDecodes++;
    batch.addRow(sequence, start, numTokens);
    for (let i = 0; i < draft.length; i++) batch.drafts.push(draft[i] as number);
    for (let offset = 0; offset < numTokens; offset++) batch.addSample(offset, PICK);
    sequence.verifying = draft.length > 0;
    sequence.numSubmittedTokens = start + numTokens;
    sequence.numSubmittedSamples++;
    sequence.lastStepId = batch.stepId;
  }

  /**
   * Tokens that may follow the newest one. Undefined = wait: that token is still being computed, and drafts could follow it.
   * Drafts take no budget from other sequences' next tokens and no block from anyone.
   */
  #draft(sequence: Sequence, start: number): Int32Array | undefined {
    const drafter = sequence.drafter!;
    if (sequence.numSubmittedSamples > sequence.numOutputTokens)
      return drafter.mayPropose() ? undefined : NO_DRAFT;
    const budget = this.#budget;
    const spare = Math.min(budget.tokensLeft, budget.samplesLeft) - this.#live.running.length;
    const limit = Math.min(sequence.sampling.maxTokens - sequence.numOutputTokens - 1, spare);
    if (limit <= 0) return NO_DRAFT;
    const draft = drafter.propose(limit);
    const { kv } = this.#live;
    const growth = kv.growth(sequence.blocks, start + 1 + draft.length);
    return growth <= kv.pool.numFree ? draft : NO_DRAFT;
  }

  #prefills(batch: ScheduledBatch): void {
    for (let one = this.#live.running.first; one !== undefined; one = one.next) {
      if (this.#budget.prefillLeft === 0) return;
      if (one.prefilling) this.#chunk(batch, one);
    }
  }

  /** Adds a chunk of known tokens, if there is budget and room for any. */
  #chunk(batch: ScheduledBatch, sequence: Sequence): void {
    const { kv } = this.#live;
    const { blocks, prefillEnd } = sequence;
    const start = sequence.numSubmittedTokens;
    if (kv.isBlocked(blocks, start)) return;
    const runEnd = Math.min(prefillEnd, kv.missingEnd(blocks, start));
    const scores = sequence.promptScores;
    const scored = scores === undefined || scores.complete ? Infinity : this.#samplesForScores();
    const count = Math.min(runEnd - start, this.#budget.prefillLeft, scored);
    const end = start + count;
    const last = end === prefillEnd;
    if (count <= 0 || (last && this.#budget.samplesLeft === 0)) return;
    if (!this.#makeRoom(sequence, end)) return;
    batch.addRow(sequence, start, count);
    const samplesBefore = batch.numSamples;
    if (scores !== undefined) {
      for (let position = start; position < end; position++) {
        if (scores.wants(position))
          batch.addSample(position - start, sequence.tokenIds[position + 1] as number);
      }
    }
    if (last) {
      batch.addSample(count - 1, PICK);
      sequence.numSubmittedSamples++;
      sequence.prefilledAt = batch.stepId;
    }
    this.#budget.takePrefill(count, batch.numSamples - samplesBefore);
    sequence.lastStepId = batch.stepId;
    kv.markPresent(blocks, end);
    kv.publish(blocks, end, batch.stepId);
    sequence.numSubmittedTokens = last ? end : kv.presentEnd(blocks, end);
    if (sequence.firstTokenAt === 0)
      sequence.computed.add(start, Math.min(end, sequence.numPromptTokens));
    this.#live.reserve(sequence, this.#admission.stillNeeded(sequence));
    this.#live.unpark(sequence);
  }

  /** One sample is kept for the pick behind the last token; others whose prompt may end in this step get theirs too, where possible. */
  #samplesForScores(): number {
    const { waiting, numFreeSeats } = this.#live;
    const numOthers = Math.max(0, this.#numPrefilling - 1) + Math.min(waiting.length, numFreeSeats);
    const most = this.#budget.samplesLeft - 1;
    return Math.min(most, Math.max(1, most - numOthers));
  }

  /** Grows a sequence's tables, at the cost of those behind it in order; false = it must wait. */
  #makeRoom(sequence: Sequence, numTokens: number): boolean {
    const live = this.#live;
    const { kv, running } = live;
    while (!kv.grow(sequence.blocks, numTokens)) {
      this.#short = true;
      const missing = kv.growth(sequence.blocks, numTokens) - kv.pool.numFree;
      if (live.leaving.size > 0 && live.numLeavingBlocks() >= missing) return false;
      if (live.connectors !== undefined) {
        const before = kv.pool.numFree;
        const soon = live.connectors.relieve(missing, true);
        if (kv.pool.numFree > before) continue;
        if (soon >= missing) return false;
      }
      const victim = running.last;
      if (victim === undefined || victim === sequence) return false;
      live.preempt(victim);
    }
    return true;
  }
}
