/** Sides of a comparison with given figures. */

import type { ResultRow, Side } from "../../cli/bench/ab/comparison.ts";

/** Runs in turns from time 0: a takes places 0, 3, 4, 7 …, b the others. `figures` is a list of values by metric key. */
export function sideInTurns(
  which: "a" | "b",
  figures: Readonly<Record<string, readonly number[]>>,
  conditions: ResultRow["conditions"] = {},
): Side {
  const count = Math.max(...Object.values(figures).map((values) => values.length));
  const first = which === "a" ? 0 : 1;
  return {
    label: which,
    runs: Array.from({ length: count }, (_, round) => ({
      label: which,
      startedAt: 1000 * (2 * round + (round % 2 === 0 ? first : 1 - first)),
      metrics: Object.fromEntries(
        Object.entries(figures).flatMap(([key, values]) =>
          values[round] === undefined ? [] : [[key, values[round]]],
        ),
      ),
      conditions,
    })),
  };
}
