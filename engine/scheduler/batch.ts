/**
 * One step: which tokens of which sequences are computed, as rows and as the flat array that crosses to the native side
 * (layout and checks: `kernels/core/src/step.rs`), and what comes back.
 */

import type { Sequence } from "./sequence.ts";

/** Version word of the layout. */
const VERSION = 1;
const HEADER_WORDS = 8;
/** Token id that stands for "the token last sampled for this row's seat". */
export const FROM_SEAT = -1;

/** What a step answers, in the order of the batch's samples. */
export interface StepResult {
  readonly stepId: number;
  /** -1 = the seat had ended before, the row was surplus. */
  readonly tokens: Int32Array;
  /** Why the seat ended with this token: 0 it did not, 1 a stop id, 2 `maxTokens`. */
  readonly finish: Uint8Array;
  readonly logprobs: Float32Array;
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
  /** The first `numRows` are valid, here and in the arrays below. */
  readonly sequences: Sequence[] = [];
  /** Position of each row's first token. */
  readonly starts: Int32Array;
  /** Tokens of each row. */
  readonly counts: Int32Array;
  /** Row of each sample, ascending. */
  readonly sampleRows: Int32Array;
  /** Sequences whose seat opens before this step. */
  readonly opened: Sequence[] = [];
  /** The step for the native side. Valid until the next batch is packed: whoever keeps it copies it. */
  words: Int32Array = new Int32Array(0);

  constructor(maxRows: number) {
    this.starts = new Int32Array(maxRows);
    this.counts = new Int32Array(maxRows);
    this.sampleRows = new Int32Array(maxRows);
  }

  begin(stepId: number): void {
    this.stepId = stepId;
    this.numRows = 0;
    this.numTokens = 0;
    this.numSamples = 0;
    this.opened.length = 0;
  }

  /** Adds `count` tokens of a sequence from position `start` on; `sampled`: the last of them picks a token. */
  addRow(sequence: Sequence, start: number, count: number, sampled: boolean): void {
    const row = this.numRows++;
    this.sequences[row] = sequence;
    this.starts[row] = start;
    this.counts[row] = count;
    this.numTokens += count;
    if (sampled) this.sampleRows[this.numSamples++] = row;
  }

  /** Lets go of the sequences. */
  clear(): void {
    this.sequences.length = 0;
    this.opened.length = 0;
    this.numRows = 0;
  }
}

/** Writes batches into one buffer that grows to the largest step seen. */
export class BatchPacker {
  readonly #numGroups: number;
  #buffer: Int32Array = new Int32Array(1024);

  constructor(numGroups: number) {
    this.#numGroups = numGroups;
  }

  /** Sets `batch.words`. */
  pack(batch: ScheduledBatch): void {
    const { numRows, numTokens, numSamples, sequences, starts, counts, sampleRows } = batch;
    const numGroups = this.#numGroups;
    let numEntries = 0;
    for (let row = 0; row < numRows; row++) {
      for (const table of (sequences[row] as Sequence).tables) numEntries += table.length;
    }
    const size =
      HEADER_WORDS +
      numTokens +
      numRows +
      (numRows + 1) +
      numRows +
      numSamples +
      (numGroups * numRows + 1) +
      numEntries;
    if (size > this.#buffer.length)
      this.#buffer = new Int32Array(Math.max(size, this.#buffer.length * 2));
    const words = this.#buffer;
    words[0] = VERSION;
    words[1] = batch.stepId;
    words[2] = numTokens;
    words[3] = numRows;
    words[4] = numGroups;
    words[5] = numSamples;
    words[6] = numEntries;
    words[7] = 0;

    let token = HEADER_WORDS;
    let seat = token + numTokens;
    let firstToken = seat + numRows;
    let startPosition = firstToken + numRows + 1;
    let sample = startPosition + numRows;
    let tableStart = sample + numSamples;
    let block = tableStart + numGroups * numRows + 1;
    const blocks = block;

    for (let row = 0; row < numRows; row++) {
      const sequence = sequences[row] as Sequence;
      const start = starts[row] as number;
      const count = counts[row] as number;
      words[firstToken++] = token - HEADER_WORDS;
      words[seat++] = sequence.seat;
      words[startPosition++] = start;
      for (let position = start; position < start + count; position++) {
        words[token++] =
          position < sequence.numTokens ? (sequence.tokenIds[position] as number) : FROM_SEAT;
      }
    }
    words[firstToken] = numTokens;
    const firstTokens = HEADER_WORDS + numTokens + numRows;
    for (let i = 0; i < numSamples; i++) {
      words[sample++] = (words[firstTokens + (sampleRows[i] as number) + 1] as number) - 1;
    }
    for (let group = 0; group < numGroups; group++) {
      for (let row = 0; row < numRows; row++) {
        const table = (sequences[row] as Sequence).tables[group]!;
        words[tableStart++] = block - blocks;
        words.set(table.entries, block);
        block += table.length;
      }
    }
    words[tableStart] = block - blocks;
    batch.words = words.subarray(0, size);
  }
}
