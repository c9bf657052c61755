/**
 * One step: which tokens of which sequences are computed, as rows and as the flat array that crosses to the native side
 * (layout and checks: `kernels/core/src/step.rs`), and what comes back.
 */

import type { Sequence } from "./sequence.ts";

/** Version word of the layout. */
const VERSION = 2;
const HEADER_WORDS = 8;
/** Token id that stands for "the token last sampled for this row's seat". */
export const FROM_SEAT = -1;
/** Target of a sample that picks a token. */
export const PICK = -1;

/** A step's id as its words have it: ids ascend without end, a word has 31 bits for one. */
export function stepWord(stepId: number): number {
  return stepId % 2 ** 31;
}

/** What a step answers, in the order of the batch's samples. */
export interface StepResult {
  readonly stepId: number;
  /** The picked token; -1 = none: the seat had ended before, or a draft before this sample was wrong. */
  readonly tokens: Int32Array;
  /** Why the seat ended with this token: 0 it did not, 1 a stop id, 2 `maxTokens`. */
  readonly finish: Uint8Array;
  /** Of the picked token, 0 where its seat did not ask; or of the sample's target. */
  readonly logprobs: Float32Array;
  /** Place of that token among all by probability, from 1; 0 where its seat did not ask. Empty when no seat did. */
  readonly ranks: Int32Array;
  /** The most probable tokens at sample `i` are `topIds[topStart[i]..topStart[i + 1]]`. Empty when no seat asked. */
  readonly topStart: Int32Array;
  readonly topIds: Int32Array;
  readonly topLogprobs: Float32Array;
  /** Behind the token of sample `i` surely come `forcedIds[forcedStart[i]..forcedStart[i + 1]]`. Empty when there are none. */
  readonly forcedStart: Int32Array;
  readonly forcedIds: Int32Array;
  readonly computeMicros: number;
  /** Idle time before the step, -1 when nothing was queued. */
  readonly gapMicros: number;
  /** The step computed nothing that counts. */
  readonly error?: { readonly code: string; readonly message: string };
}

/** Rows of a step. The scheduler uses an object again once its step has committed. */
export class ScheduledBatch {
  stepId = 0;
  numRows = 0;
  numTokens = 0;
  numSamples = 0;
  /** Rows that are one token of a decoding sequence, with or without drafts behind it. */
  numDecodes = 0;
  /** The first `numRows` are valid, here and in the three arrays below. */
  readonly sequences: Sequence[] = [];
  /** Position of each row's first token. */
  readonly starts: Int32Array;
  /** Tokens of each row. */
  readonly counts: Int32Array;
  /** Where each row's drafts begin in `drafts`; they are its last tokens. */
  readonly draftStarts: Int32Array;
  /** Drafted tokens of the step, row after row. */
  readonly drafts: number[] = [];
  /** Row, token index within it and target of each sample, ascending. */
  readonly sampleRows: number[] = [];
  readonly sampleOffsets: number[] = [];
  readonly sampleTargets: number[] = [];
  /** Pairs of blocks (from, to), copied before the step computes. Each `from` is referenced until the step has committed. */
  readonly copies: number[] = [];
  /** Sequences whose seat opens before this step. */
  readonly opened: Sequence[] = [];
  /** The step for the native side. Valid until the next batch is packed: whoever keeps it copies it. */
  words: Int32Array = new Int32Array(0);

  constructor(maxRows: number) {
    this.starts = new Int32Array(maxRows);
    this.counts = new Int32Array(maxRows);
    this.draftStarts = new Int32Array(maxRows);
  }

  /** Empties the batch, so that it can serve another step and keeps no sequence alive. */
  clear(): void {
    this.numRows = 0;
    this.numTokens = 0;
    this.numSamples = 0;
    this.numDecodes = 0;
    this.sequences.length = 0;
    this.drafts.length = 0;
    this.sampleRows.length = 0;
    this.sampleOffsets.length = 0;
    this.sampleTargets.length = 0;
    this.copies.length = 0;
    this.opened.length = 0;
  }

  /**
   * Adds `count` tokens of a sequence from position `start` on; its first row opens its seat. Samples and drafts that follow belong
   * to it.
   */
  addRow(sequence: Sequence, start: number, count: number): void {
    if (!sequence.isSeated) {
      sequence.isSeated = true;
      this.opened.push(sequence);
    }
    const row = this.numRows++;
    this.sequences[row] = sequence;
    this.starts[row] = start;
    this.counts[row] = count;
    this.draftStarts[row] = this.drafts.length;
    this.numTokens += count;
  }

  /** Samples token `offset` of the newest row; `target` as in the step's layout. */
  addSample(offset: number, target: number): void {
    this.sampleRows.push(this.numRows - 1);
    this.sampleOffsets.push(offset);
    this.sampleTargets.push(target);
    this.numSamples++;
  }
}

/** Writes batches into one buffer that grows to the largest step seen. */
export class BatchPacker {
  readonly #numGroups: number;
  readonly #blockSize: number;
  #buffer: Int32Array = new Int32Array(1024);

  constructor(numGroups: number, blockSize: number) {
    this.#numGroups = numGroups;
    this.#blockSize = blockSize;
  }

  /** Sets `batch.words`. */
  pack(batch: ScheduledBatch): void {
    const { numRows, numTokens, numSamples, sequences, starts, counts } = batch;
    const numGroups = this.#numGroups;
    let numEntries = 0;
    for (let row = 0; row < numRows; row++)
      numEntries += numGroups * this.#blocksOf((starts[row] as number) + (counts[row] as number));
    const size =
      HEADER_WORDS +
      numTokens +
      numRows +
      (numRows + 1) +
      numRows +
      2 * numSamples +
      (numGroups * numRows + 1) +
      numEntries +
      batch.copies.length;
    if (size > this.#buffer.length)
      this.#buffer = new Int32Array(Math.max(size, this.#buffer.length * 2));
    const words = this.#buffer;
    words[0] = VERSION;
    words[1] = stepWord(batch.stepId);
    words[2] = numTokens;
    words[3] = numRows;
    words[4] = numGroups;
    words[5] = numSamples;
    words[6] = numEntries;
    words[7] = batch.copies.length / 2;

    let at = this.#packRows(batch, words);
    const firstTokens = HEADER_WORDS + numTokens + numRows;
    for (let i = 0; i < numSamples; i++) {
      const first = words[firstTokens + (batch.sampleRows[i] as number)] as number;
      words[at + i] = first + (batch.sampleOffsets[i] as number);
      words[at + numSamples + i] = batch.sampleTargets[i] as number;
    }
    at += 2 * numSamples;

    const blocks = at + numGroups * numRows + 1;
    let block = blocks;
    for (let group = 0; group < numGroups; group++) {
      for (let row = 0; row < numRows; row++) {
        words[at++] = block - blocks;
        const length = this.#blocksOf((starts[row] as number) + (counts[row] as number));
        const entries = (sequences[row] as Sequence).blocks.tables[group]!.entries;
        if (entries.length === length) words.set(entries, block);
        else for (let i = 0; i < length; i++) words[block + i] = entries[i] as number;
        block += length;
      }
    }
    words[at] = block - blocks;
    for (let i = 0; i < batch.copies.length; i++) words[block++] = batch.copies[i] as number;
    batch.words = words.subarray(0, size);
  }

  /** Tokens, seats, first tokens and start positions; answers where they end. */
  #packRows(batch: ScheduledBatch, words: Int32Array): number {
    const { numRows, numTokens, sequences, starts, counts, draftStarts, drafts } = batch;
    let token = HEADER_WORDS;
    let seat = token + numTokens;
    let firstToken = seat + numRows;
    let startPosition = firstToken + numRows + 1;
    for (let row = 0; row < numRows; row++) {
      const sequence = sequences[row] as Sequence;
      const start = starts[row] as number;
      const draft = draftStarts[row] as number;
      const numDrafts =
        (row + 1 < numRows ? (draftStarts[row + 1] as number) : drafts.length) - draft;
      words[firstToken++] = token - HEADER_WORDS;
      words[seat++] = sequence.seat;
      words[startPosition++] = start;
      const end = start + (counts[row] as number) - numDrafts;
      for (let position = start; position < end; position++) {
        words[token++] =
          position < sequence.numTokens ? (sequence.tokenIds[position] as number) : FROM_SEAT;
      }
      for (let i = 0; i < numDrafts; i++) words[token++] = drafts[draft + i] as number;
    }
    words[firstToken] = numTokens;
    return startPosition;
  }

  #blocksOf(numTokens: number): number {
    return Math.ceil(numTokens / this.#blockSize);
  }
}
