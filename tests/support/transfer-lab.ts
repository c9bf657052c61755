/** A native witness with transfers beside it, driven step by step. */

import { blockKey, packBlockKeys } from "../../engine/cache/block-key.ts";
import type { FilePlace, FlightResult } from "../../engine/cache/page-transfers.ts";
import { DEFAULT_SAMPLING } from "../../engine/request.ts";
import { type KvGroup, Runner, type TransferOptions } from "../../engine/runner/native.ts";
import { seatHistory, seatParams } from "../../engine/runner/native-runner.ts";
import { NativeTransfers } from "../../engine/runner/native-transfers.ts";
import type { StepResult } from "../../engine/scheduler/batch.ts";
import { type StepRow, stepWords } from "./step-words.ts";

export type LabGroup = Pick<KvGroup, "kind" | "window">;

export const BLOCK_SIZE = 4;
export const VOCAB_SIZE = 150_000;

const TRANSFER_OPTIONS: TransferOptions = {
  hostPages: 64,
  threads: 1,
  fileThreads: 1,
  checksums: true,
  storeShare: 1,
  linkBytesPerSecond: 0,
  manual: false,
  guardSteps: false,
};

export interface LabOptions {
  readonly groups?: readonly LabGroup[];
  readonly backend?: "witness" | "null";
  readonly numBlocks?: number;
  readonly transfers?: Partial<TransferOptions>;
}

export class TransferLab {
  readonly runner: Runner;
  readonly transfers: NativeTransfers;
  /** In the order in which they came. */
  readonly results: FlightResult[] = [];
  /** Calls of the callback. */
  numBatches = 0;
  #arrived: () => void = () => undefined;
  readonly #steps: ((result: StepResult) => void)[];
  #nextStep = 0;

  private constructor(
    runner: Runner,
    steps: ((result: StepResult) => void)[],
    options: Partial<TransferOptions>,
  ) {
    this.runner = runner;
    this.#steps = steps;
    this.transfers = NativeTransfers.open(runner, { ...TRANSFER_OPTIONS, ...options }, (batch) => {
      this.numBatches++;
      this.results.push(...batch);
      this.#arrived();
    });
  }

  static async open(options: LabOptions = {}): Promise<TransferLab> {
    const { groups = [{ kind: "full", window: 0 }], numBlocks = 64 } = options;
    const steps: ((result: StepResult) => void)[] = [];
    const runner = await Runner.create(
      {
        backend: options.backend ?? "witness",
        isa: "auto",
        threads: 1,
        values: [],
        ops: [],
        files: [],
        tensors: [],
        groups: groups.map(({ kind, window }) => ({
          layers: 1,
          numKvHeads: 1,
          headDim: 1,
          kind,
          window,
        })),
        blockSize: BLOCK_SIZE,
        numBlocks,
        maxTokens: 256,
        maxRows: 4,
        maxSamples: 4,
        maxModelLen: 256,
        vocabSize: VOCAB_SIZE,
      },
      (result) => steps.shift()!(result),
    );
    const lab = new TransferLab(runner, steps, options.transfers ?? {});
    while (lab.transfers.numReady < lab.transfers.numPages)
      await new Promise((resolve) => setImmediate(resolve));
    for (let seat = 0; seat < 4; seat++) lab.openSeat(seat);
    return lab;
  }

  openSeat(seat: number): void {
    const sequence = {
      sampling: { ...DEFAULT_SAMPLING, temperature: 0, maxTokens: 1_000_000 },
      tokenIds: Int32Array.of(1),
      numTokens: 1,
      numPromptTokens: 1,
      numOutputTokens: 0,
    };
    this.runner.openSeat(seat, seatParams(sequence), seatHistory(sequence));
  }

  /** The id of the next step. */
  get nextStep(): number {
    return this.#nextStep;
  }

  /** Submits a step; the promise is its first token. */
  async step(...rows: readonly StepRow[]): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<StepResult>();
    this.#steps.push(resolve);
    this.runner.submit(stepWords(this.#nextStep++, rows));
    const { tokens, error } = await promise;
    if (error !== undefined) throw new Error(error.message);
    return tokens[0] ?? -1;
  }

  /** The result of a flight, when it is there. */
  async result(id: number): Promise<FlightResult> {
    for (;;) {
      const result = this.results.find((one) => one.id === id);
      if (result !== undefined) return result;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#arrived = resolve;
      await promise;
    }
  }

  async close(): Promise<void> {
    await this.transfers.stop(10_000);
    await this.runner.stop();
  }
}

/** A row that fills `tokens` into the blocks of the tables and samples nothing. */
export function fillRow(
  seat: number,
  tokens: readonly number[],
  tables: readonly (readonly number[])[],
): StepRow {
  return { seat, start: 0, tokens, samples: [], tables };
}

/** A test in a laboratory of its own. */
export function inLab(
  options: LabOptions,
  body: (lab: TransferLab) => Promise<void>,
): () => Promise<void> {
  return async () => {
    const lab = await TransferLab.open(options);
    try {
      await body(lab);
    } finally {
      await lab.close();
    }
  };
}

/** A key for each number. */
export function keysOf(numbers: Int32Array): Int32Array {
  const hash = (number: number): Int32Array => Int32Array.of(number, 0, 0, 0, 0, 0, 0, 7);
  return packBlockKeys(Array.from(numbers, (number) => blockKey(hash(number), 0, 0)));
}

/** Of pages of one model in a file. */
export function placeOf(path: string, ...offsets: number[]): FilePlace {
  return { path, fingerprint: "one", offsets: Float64Array.from(offsets) };
}
