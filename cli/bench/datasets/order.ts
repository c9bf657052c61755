/** In which order conversations are sent, and how many. */

import type { DatasetConfig } from "../../../engine/config.ts";
import { shuffled, streams } from "./random-numbers.ts";

/** Shuffled, unless `--disable-shuffle` says to leave them. */
export function inOrder<T>(
  items: readonly T[],
  { disableShuffle }: Pick<DatasetConfig, "disableShuffle">,
  seed: number,
): readonly T[] {
  return disableShuffle
    ? items
    : Array.from(shuffled(items.length, streams(seed, "order")(0)), (i) => items[i] as T);
}
