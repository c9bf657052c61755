/** Which records of a file are used: as many as are asked for, in the file's order or shuffled, within a bound of memory. */

import type { DatasetConfig } from "../../../../engine/config.ts";
import { KvEngineError } from "../../../../engine/errors.ts";
import { shuffled, streams } from "../random-numbers.ts";
import type { DatasetInput } from "../dataset.ts";
import type { DataSource } from "./data-source.ts";
import type { RecordPlace } from "./records.ts";

/** Most records of a file whose places are kept, at 24 bytes each. */
const MAX_RECORDS = 2_000_000;
/** Most bytes that the texts and hashes of a workload may take. */
const MAX_KEPT_BYTES: number = 2 ** 30;

/** The places of all records: in the file's order, or shuffled by the seed. */
export function* sampled(
  source: DataSource,
  places: Iterable<RecordPlace>,
  { disableShuffle }: Pick<DatasetConfig, "disableShuffle">,
  seed: number,
): Generator<RecordPlace> {
  if (disableShuffle) {
    yield* places;
    return;
  }
  const found = indexOf(source, places);
  for (const i of shuffled(found.numbers.length, streams(seed, "records")(0))) {
    const [number, from, to] = [found.numbers[i], found.from[i], found.to[i]];
    if (number !== undefined && from !== undefined && to !== undefined) yield { number, from, to };
  }
}

interface Index {
  readonly numbers: number[];
  readonly from: number[];
  readonly to: number[];
}

function indexOf(source: DataSource, places: Iterable<RecordPlace>): Index {
  const index: Index = { numbers: [], from: [], to: [] };
  for (const { number, from, to } of places) {
    if (index.numbers.length === MAX_RECORDS) {
      throw new KvEngineError(
        "bad_config",
        `${source.name} has more than ${MAX_RECORDS} records; allowed is that many where they are shuffled`,
        { subject: source.name, hint: "take the first ones with --disable-shuffle" },
      );
    }
    index.numbers.push(number);
    index.from.push(from);
    index.to.push(to);
  }
  return index;
}

/**
 * Up to `--num-prompts` (0 = all) of what is made of the records; `undefined` = this one is passed over, and counted.
 * Throws `bad_config` where there is none, and beyond the bound of memory.
 */
export function take<T>(
  { options: { numPrompts }, note }: DatasetInput,
  source: DataSource,
  places: Iterable<RecordPlace>,
  make: (place: RecordPlace, kept: KeptBytes) => T | undefined,
): T[] {
  const kept = new KeptBytes(source);
  const taken: T[] = [];
  let passedOver = 0;
  for (const place of places) {
    const made = make(place, kept);
    if (made === undefined) passedOver++;
    else if (taken.push(made) === numPrompts) break;
  }
  if (taken.length === 0) {
    throw new KvEngineError(
      "bad_config",
      `${source.name} has no record that can be used${passedOver === 0 ? "" : `; ${passedOver} were passed over`}`,
      {
        subject: source.name,
        hint: "see what the data set takes in `kvengine bench serve --help`",
      },
    );
  }
  if (passedOver > 0) note("records-passed-over", passedOver);
  return taken;
}

/** The same; with `--oversample`, those there are are repeated until there are enough. */
export function takeOrRepeat<T>(...args: Parameters<typeof take<T>>): T[] {
  const taken = take(...args);
  const { numPrompts, oversample } = args[0].options;
  const missing = oversample ? Math.max(0, numPrompts - taken.length) : 0;
  return [...taken, ...Array.from({ length: missing }, (_, i) => taken[i % taken.length] as T)];
}

/** Counts what a workload holds of a file. */
export class KeptBytes {
  readonly #source: DataSource;
  #bytes = 0;

  constructor(source: DataSource) {
    this.#source = source;
  }

  /** Throws `bad_config` beyond the bound. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= MAX_KEPT_BYTES) return;
    throw new KvEngineError(
      "bad_config",
      `the prompts of ${this.#source.name} need more than ${MAX_KEPT_BYTES / 2 ** 30} GiB of memory`,
      { subject: this.#source.name, hint: "take fewer of them with --num-prompts" },
    );
  }
}
