/** What a session of `bench engine` has measured, and the rows it is reported as. */

import { geometricMean, pairedInterval, type RatioInterval } from "../ab/ratio-interval.ts";
import { mean } from "../metrics/distribution.ts";
import { nameOf, type Part, partsOf, type Row, rowOf, type Test } from "./grid.ts";
import { type Share, shareOf } from "./limits.ts";
import type { PeerRate } from "./llama-cpp-programs.ts";
import type { TestProfile } from "./profile.ts";
import { median, type Rates, ratesOf } from "./rates.ts";
import type { ModelWork, Peaks } from "./work.ts";

/** A run of a part of a test. */
export interface Sample {
  readonly ns: number;
  /** What the machine gave just before, where that was asked for. */
  readonly peaks?: Peaks;
}

/** The peer at the best of its settings. */
export interface PeerResult {
  readonly name: string;
  readonly settings: string;
  readonly avg_ts: number;
  readonly samples_ts: readonly number[];
  /** Ours / the peer's: geometric mean over the rounds. */
  readonly ratio: number;
  /** Absent with one round, which says nothing of the noise. */
  readonly interval?: RatioInterval;
}

export interface BenchResult extends Row, Rates {
  readonly model: string;
  readonly backend: string;
  readonly threads: number;
  /** ISO 8601: when the last of its runs ended. */
  readonly test_time: string;
  readonly limit?: Share;
  readonly peer?: PeerResult;
  /** Where the time of one more run went. */
  readonly profile?: TestProfile;
}

/** What is the same for all rows. */
export interface Setting {
  readonly model: string;
  readonly backend: string;
  readonly threads: number;
  readonly work: ModelWork;
  /** Most tokens of a step. */
  readonly maxBatchedTokens: number;
}

export class Results {
  readonly #samples = new Map<string, Sample[]>();
  readonly #times = new Map<string, string>();
  readonly #profiles = new Map<string, TestProfile>();
  readonly #peers = new Map<string, Map<string, number[]>>();

  add(test: Test, part: Part, sample: Sample, time: Date): void {
    const key = keyOf(nameOf(test), part);
    this.#samples.set(key, [...(this.#samples.get(key) ?? []), sample]);
    this.#times.set(key, time.toISOString());
  }

  addProfile(test: Test, part: Part, profile: TestProfile): void {
    this.#profiles.set(keyOf(nameOf(test), part), profile);
  }

  addPeer({ test, part, settings, tokensPerSecond }: PeerRate): void {
    const key = keyOf(test, part);
    const bySettings = this.#peers.get(key) ?? new Map<string, number[]>();
    bySettings.set(settings, [...(bySettings.get(settings) ?? []), tokensPerSecond]);
    this.#peers.set(key, bySettings);
  }

  /** A row for each part of each test, in the order of the tests. */
  rows(tests: readonly Test[], setting: Setting): BenchResult[] {
    return tests.flatMap((test) => partsOf(test).map((part) => this.#row(test, part, setting)));
  }

  #row(test: Test, part: Part, setting: Setting): BenchResult {
    const key = keyOf(nameOf(test), part);
    const samples = this.#samples.get(key) ?? [];
    const row = rowOf(test, part);
    const times = samples.map(({ ns }) => ns);
    const rates = ratesOf(row, times);
    const peaks = samples.flatMap((sample) => sample.peaks ?? []);
    const bySettings = this.#peers.get(key);
    const profile = this.#profiles.get(key);
    return {
      model: setting.model,
      backend: setting.backend,
      threads: setting.threads,
      ...row,
      test_time: this.#times.get(key) ?? "",
      ...rates,
      ...(peaks.length === 0
        ? {}
        : { limit: shareOf(row, times, peaks, setting.work, setting.maxBatchedTokens) }),
      ...(bySettings === undefined ? {} : { peer: bestOf(bySettings, rates.samples_ts) }),
      ...(profile === undefined ? {} : { profile }),
    };
  }
}

function keyOf(test: string, part: Part): string {
  return `${test} ${part}`;
}

/** The settings with the highest median: chosen on the figures that are compared, so chance is on the peer's side. */
function bestOf(
  bySettings: ReadonlyMap<string, readonly number[]>,
  ours: readonly number[],
): PeerResult {
  const [settings, rates] = [...bySettings].reduce((best, one) =>
    median(one[1]) > median(best[1]) ? one : best,
  );
  // Who is first swaps from round to round; ours are in the first.
  const pairs = rates.map((rate, round) => ({
    a: rate,
    b: ours[round] ?? Number.NaN,
    aFirst: round % 2 === 1,
  }));
  const interval = pairedInterval(pairs);
  return {
    name: "llama.cpp",
    settings,
    avg_ts: mean(rates),
    samples_ts: rates,
    ratio: geometricMean(pairs.map(({ a, b }) => b / a)),
    ...(interval === undefined ? {} : { interval }),
  };
}
