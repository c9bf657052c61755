/** When the requests of a timed trace are due. */

import type { DatasetConfig } from "../../../engine/config.ts";

/**
 * Milliseconds after the earliest, for each time in milliseconds; `undefined` where `--no-self-timed` leaves the times to the rate.
 */
export function arrivals(
  timesMs: readonly number[],
  { selfTimed, slowdownFactor }: Pick<DatasetConfig, "selfTimed" | "slowdownFactor">,
): readonly (number | undefined)[] {
  const first = timesMs.reduce((least, time) => Math.min(least, time), Number.POSITIVE_INFINITY);
  return timesMs.map((time) => (selfTimed ? (time - first) * slowdownFactor : undefined));
}
