/**
 * What page transfers cost: bandwidth by page size, threads and checksums; the time from a call to its result; and what a stream of
 * stores does to the steps beside it.
 *
 *   bun tests/measure/transfers.ts MODEL.gguf [--rounds 5] [--threads N]
 */
import { parseArgs } from "node:util";
import type { FlightResult } from "../../engine/cache/page-transfers.ts";
import { loadModel } from "../../engine/models/registry.ts";
import { DEFAULT_SAMPLING } from "../../engine/request.ts";
import { type ProgramSpec, Runner, type TransferOptions } from "../../engine/runner/native.ts";
import { seatHistory, seatParams } from "../../engine/runner/native-runner.ts";
import { NativeTransfers } from "../../engine/runner/native-transfers.ts";
import type { StepResult } from "../../engine/scheduler/batch.ts";
import { stepWords } from "../support/step-words.ts";

/** The token that the row's seat picked last. */
const FROM_SEAT = -1;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
  },
});
const [modelPath] = positionals;
if (modelPath === undefined) throw new Error("usage: transfers.ts MODEL.gguf");
const rounds = Number(values.rounds);
const MAX_LEN = 2048;
const NUM_BLOCKS = 512;

const OPTIONS: TransferOptions = {
  hostPages: 256,
  threads: 1,
  fileThreads: 1,
  checksums: true,
  storeShare: 1,
  linkBytesPerSecond: 0,
  manual: false,
  guardSteps: false,
};

const LIMITS = {
  isa: "auto",
  maxTokens: 512,
  maxRows: 1,
  maxSamples: 1,
  maxModelLen: MAX_LEN,
} as const;

/** Pages of about so many bytes that nothing computes on. */
function witness(pageBytes: number): ProgramSpec {
  return {
    ...LIMITS,
    backend: "witness",
    threads: 1,
    ...{ values: [], ops: [], files: [], tensors: [] },
    groups: [{ layers: 1, numKvHeads: 1, headDim: 1, kind: "full", window: 0 }],
    blockSize: Math.floor((pageBytes - 4) / 8),
    numBlocks: NUM_BLOCKS,
    vocabSize: 1000,
  };
}

function median(of: readonly number[]): number {
  return of.toSorted((a, b) => a - b)[Math.floor(of.length / 2)] ?? Number.NaN;
}

type StepCallbacks = ((result: StepResult) => void)[];

/** A runner and transfers whose results are awaited by id. */
class Bench {
  readonly #waiting = new Map<number, (result: FlightResult) => void>();
  #steps: ((result: StepResult) => void)[] = [];
  #nextId = 0;
  readonly runner: Runner;
  readonly transfers: NativeTransfers;

  private constructor(runner: Runner, steps: StepCallbacks, options: Partial<TransferOptions>) {
    this.runner = runner;
    this.#steps = steps;
    this.transfers = NativeTransfers.open(runner, { ...OPTIONS, ...options }, (results) => {
      for (const result of results) {
        this.#waiting.get(result.id)?.(result);
        this.#waiting.delete(result.id);
      }
    });
  }

  static async open(spec: ProgramSpec, options: Partial<TransferOptions>): Promise<Bench> {
    const steps: StepCallbacks = [];
    const runner = await Runner.create(spec, (result) => steps.shift()?.(result));
    const bench = new Bench(runner, steps, options);
    while (bench.transfers.isGrowing) await Bun.sleep(1);
    return bench;
  }

  flight(kind: "store" | "load", first: number, count: number): Promise<FlightResult> {
    const id = this.#nextId++;
    const { promise, resolve } = Promise.withResolvers<FlightResult>();
    this.#waiting.set(id, resolve);
    const pages = Int32Array.from({ length: count }, (_, i) => first + i);
    const blocks = pages.map((page) => page + 1 + NUM_BLOCKS / 2);
    if (kind === "store") this.transfers.store(id, blocks, pages, -1);
    else this.transfers.load(id, pages, blocks, -1);
    return promise;
  }

  step(words: Int32Array): Promise<StepResult> {
    const { promise, resolve } = Promise.withResolvers<StepResult>();
    this.#steps.push(resolve);
    this.runner.submit(words);
    return promise;
  }

  async close(): Promise<void> {
    await this.transfers.stop(10_000);
    await this.runner.stop();
  }
}

/** GB/s of flights of 200 pages, stores and loads in turn. */
async function bandwidth(pageBytes: number, options: Partial<TransferOptions>): Promise<number[]> {
  const bench = await Bench.open(witness(pageBytes), options);
  const rates: Record<"store" | "load", number[]> = { store: [], load: [] };
  for (let round = 0; round <= 3 * rounds; round++) {
    for (const kind of ["store", "load"] as const) {
      const { ok, bytes, copyMicros } = await bench.flight(kind, 0, 200);
      if (!ok) throw new Error("a flight failed");
      if (round > 0) rates[kind].push(bytes / copyMicros / 1000);
    }
  }
  await bench.close();
  return [median(rates.store), median(rates.load)];
}

for (const pageBytes of [192, 4160, 65_536, 368_640, 2_097_152]) {
  for (const threads of [1, 2]) {
    const cells: string[] = [];
    for (const checksums of [false, true]) {
      const [store = 0, load = 0] = await bandwidth(pageBytes, { threads, checksums });
      cells.push(
        `${checksums ? "with" : "no"} checksums: store ${store.toFixed(1)}, load ${load.toFixed(1)}`,
      );
    }
    console.log(`${pageBytes} bytes a page, ${threads} threads, GB/s, ${cells.join("; ")}`);
  }
}

for (const pageBytes of [192, 368_640]) {
  const bench = await Bench.open(witness(pageBytes), {});
  const micros: number[] = [];
  for (let i = 0; i < 1000; i++) {
    const start = performance.now();
    await bench.flight("store", i % 200, 1);
    micros.push((performance.now() - start) * 1000);
  }
  const sorted = micros.toSorted((a, b) => a - b);
  console.log(
    `${pageBytes} bytes: call to result ${median(sorted).toFixed(0)} µs, 99 % below ${sorted[990]?.toFixed(0)}`,
  );
  await bench.close();
}

const model = await loadModel(modelPath);
const bench = await Bench.open(
  {
    ...LIMITS,
    ...model.tape,
    backend: "cpu",
    threads: Number(values.threads),
    files: [...model.files],
    tensors: [...model.tensors],
    groups: [...model.groups],
    blockSize: 16,
    numBlocks: NUM_BLOCKS,
    vocabSize: model.config.vocabSize,
  },
  {},
);
const PROMPT = 512;
const table = Array.from({ length: MAX_LEN / 16 }, (_, i) => i + 1);
const sequence = {
  sampling: { ...DEFAULT_SAMPLING, temperature: 0, maxTokens: MAX_LEN },
  tokenIds: Int32Array.of(1),
  numTokens: 1,
  numPromptTokens: 1,
  numOutputTokens: 0,
};
const tokens = Array.from({ length: PROMPT }, (_, i) => (i * 7919) % 40_000);
const row = (start: number, of: readonly number[]): Int32Array =>
  stepWords(0, [
    { seat: 0, start, tokens: of, tables: [table.slice(0, Math.ceil((start + of.length) / 16))] },
  ]);
/** Microseconds of each of 64 decode steps after a prompt of 512. */
async function decode(): Promise<number[]> {
  bench.runner.openSeat(0, seatParams(sequence), seatHistory(sequence));
  await bench.step(row(0, tokens));
  const micros: number[] = [];
  for (let i = 0; i < 64; i++)
    micros.push((await bench.step(row(PROMPT + i, [FROM_SEAT]))).computeMicros);
  return micros;
}

console.log(
  `decode beside stores, ${bench.runner.info().backend}, pages of ${bench.transfers.pageBytes}`,
);
const shares = [0, 0.1, 0.25, 0.5, 1];
const steps = new Map(shares.map((share) => [share, [] as number[]]));
const stored = new Map(shares.map((share) => [share, [] as number[]]));
for (let round = 0; round <= rounds; round++) {
  for (const share of shares) {
    bench.transfers.setStoreShare(share === 0 ? 1 : share);
    const stream = { running: share > 0 };
    const streamed = (async () => {
      while (stream.running) await bench.flight("store", 0, 32);
    })();
    const before = bench.transfers.stats().storeBytes;
    const start = performance.now();
    const micros = await decode();
    const seconds = (performance.now() - start) / 1000;
    const bytes = bench.transfers.stats().storeBytes - before;
    stream.running = false;
    await streamed;
    if (round === 0) continue;
    steps.get(share)?.push(...micros);
    stored.get(share)?.push(bytes / seconds / 1e9);
  }
}
const alone = median(steps.get(0) ?? []);
for (const share of shares) {
  const micros = median(steps.get(share) ?? []);
  console.log(
    `store share ${share}: step ${micros.toFixed(0)} µs (${((100 * micros) / alone).toFixed(1)} % of alone), ` +
      `${median(stored.get(share) ?? []).toFixed(2)} GB/s stored`,
  );
}
await bench.close();
