/** A value that changes over a run, from its first to its last request or moment. */

import type { LoadPlan } from "../types.ts";

export type Ramp = NonNullable<LoadPlan["ramp"]>;

/** The value at a share of the run, 0 to 1. */
export function rampValue({ shape, from, to }: Ramp, progress: number): number {
  const share = Math.min(1, Math.max(0, progress));
  return shape === "linear" ? from + (to - from) * share : from * (to / from) ** share;
}

/** The share of the run at which a growing ramp reaches `value`; Infinity = never. */
export function rampProgress({ shape, from, to }: Ramp, value: number): number {
  if (value <= from) return 0;
  if (value > to) return Number.POSITIVE_INFINITY;
  return shape === "linear"
    ? (value - from) / (to - from)
    : Math.log(value / from) / Math.log(to / from);
}
