/** Reading differences of a server's counters, which are keyed as `/metrics` writes them: `name{label="value",…}`. */

import type { Run } from "../types.ts";

type Counters = Run["counters"];

/** The sum over all label sets of a counter; undefined where the server does not have it. */
export function counterTotal(counters: Counters, name: string): number | undefined {
  const values = Object.entries(counters).filter(([key]) => nameOf(key) === name);
  return values.length === 0 ? undefined : values.reduce((sum, [, value]) => sum + value, 0);
}

/** The sums for each value of one label; undefined where the server does not have the counter with that label. */
export function counterByLabel(
  counters: Counters,
  name: string,
  label: string,
): Readonly<Record<string, number>> | undefined {
  const sums: Record<string, number> = {};
  const pattern = new RegExp(`[{,]\\s*${label}="([^"]*)"`);
  for (const [key, value] of Object.entries(counters)) {
    const found = nameOf(key) === name ? pattern.exec(key)?.[1] : undefined;
    if (found !== undefined) sums[found] = (sums[found] ?? 0) + value;
  }
  return Object.keys(sums).length === 0 ? undefined : sums;
}

function nameOf(key: string): string {
  return key.split("{")[0] ?? key;
}
