/**
 * The machine's limits: all of them once, and those that the tests are held against before each run, so that both are of the
 * same seconds.
 */

import { type Factors, MachineLimits } from "../../../engine/runner/native.ts";
import type { Row } from "./grid.ts";
import { mean } from "../metrics/distribution.ts";
import { median } from "./rates.ts";
import { type Bound, floorOf, type ModelWork, type Peaks, phasesOf } from "./work.ts";

const ISAS = ["avx512", "avx2", "neon", "portable"] as const;
export type Isa = (typeof ISAS)[number];
const FACTORS: readonly Factors[] = ["int8", "bf16", "fp32"];

/** For each limit of the table, and for each beside a run. */
const TABLE_MS = 200;
const BESIDE_MS = 100;
/** Reads of more are not slower, and no cache holds as much. */
const MOST_FOOTPRINT = 2 ** 30;

export interface LimitTable {
  readonly threads: number;
  /** Bytes that reads go through again and again. */
  readonly footprint: number;
  /** Bytes a second, on pages of 2 MiB where the system gives them: the median of all that were taken. */
  readonly read: number;
  /** Operations a second (a multiply-accumulate is two) where the processor has the instructions. */
  readonly operations: Readonly<Record<Isa, Readonly<Partial<Record<Factors, number>>>>>;
}

/** Of a row: its mean share of the least time that the machine allows, and what decides that. */
export interface Share {
  readonly bound: readonly Bound[];
  /** 1 = at the limit. */
  readonly share: number;
  /** Of each run. */
  readonly samples: readonly number[];
}

export class LimitMeter {
  readonly #machine: MachineLimits;
  readonly #isa: Isa;
  readonly #work: ModelWork;
  readonly #threads: number;
  readonly #footprint: number;
  readonly #reads: number[] = [];
  readonly #operations: LimitTable["operations"];

  /** `isa`: of the kernels that run the tests. Measures the whole table. */
  constructor(isa: Isa, threads: number, work: ModelWork) {
    this.#isa = isa;
    this.#work = work;
    this.#threads = threads;
    this.#footprint = Math.min(work.weightBytes, MOST_FOOTPRINT);
    this.#machine = new MachineLimits(threads, this.#footprint);
    this.#reads.push(this.#machine.readBandwidth(TABLE_MS));
    const operations = { avx512: {}, avx2: {}, neon: {}, portable: {} } as Record<
      Isa,
      Partial<Record<Factors, number>>
    >;
    for (const isa of ISAS) {
      for (const factors of FACTORS) {
        const rate = this.#machine.multiplyRate(isa, factors, TABLE_MS);
        if (rate !== undefined) operations[isa][factors] = 2 * rate;
      }
    }
    this.#operations = operations;
  }

  /** What this very moment gives. */
  peaks(): Peaks {
    const { perToken, perSample } = this.#work;
    const read = this.#machine.readBandwidth(BESIDE_MS);
    this.#reads.push(read);
    const rate = (factors: "int8" | "fp32"): number => {
      if (perToken[factors] + perSample[factors] === 0) return Number.POSITIVE_INFINITY;
      return this.#machine.multiplyRate(this.#isa, factors, BESIDE_MS) ?? Number.POSITIVE_INFINITY;
    };
    return { read, int8: rate("int8"), fp32: rate("fp32") };
  }

  table(): LimitTable {
    return {
      threads: this.#threads,
      footprint: this.#footprint,
      read: median(this.#reads),
      operations: this.#operations,
    };
  }
}

/** `samples` in nanoseconds, each with the peaks of the moment before it. */
export function shareOf(
  row: Row,
  samples: readonly number[],
  peaks: readonly Peaks[],
  work: ModelWork,
  maxBatchedTokens: number,
): Share {
  const phases = phasesOf(row, maxBatchedTokens);
  const floors = peaks.map((one) => floorOf(phases, work, one));
  const shares = floors.map(({ ns }, run) => ns / (samples[run] ?? Number.NaN));
  const bound = [...new Set(floors.flatMap(({ bounds }) => bounds))];
  return { bound, share: mean(shares), samples: shares };
}

/** The instruction set in the name of a backend, `cpu/avx2`; undefined for one that has none. */
export function isaOf(backend: string): Isa | undefined {
  return ISAS.find((isa) => backend.endsWith(`/${isa}`));
}
