/** How many conversations may run at a time, at a moment of a run. */

import type { LoadPlan } from "../types.ts";
import { rampProgress, rampValue } from "./ramp.ts";

/** Where a run stands: by time where it ends by time, else by what has begun. */
export interface Standing {
  readonly now: number;
  /** Conversations that have begun, and all of them. */
  readonly begun: number;
  readonly total: number;
}

/** At least 1. A ramp that is not one of the rate is one of this. */
export function concurrencyLimit(plan: LoadPlan, standing: Standing): number {
  const { maxConcurrency, ramp } = plan;
  if (ramp === undefined || Number.isFinite(plan.requestRate)) return maxConcurrency;
  const progress = Number.isFinite(plan.durationMs)
    ? standing.now / plan.durationMs
    : standing.begun / Math.max(1, standing.total - 1);
  return Math.min(maxConcurrency, Math.max(1, whole(rampValue(ramp, progress))));
}

/** When the limit next grows although nothing ends or begins; Infinity = not by itself. */
export function nextGrowth(plan: LoadPlan, standing: Standing): number {
  const { ramp, durationMs } = plan;
  const limit = concurrencyLimit(plan, standing);
  if (ramp === undefined || Number.isFinite(plan.requestRate) || !Number.isFinite(durationMs))
    return Number.POSITIVE_INFINITY;
  if (limit >= plan.maxConcurrency) return Number.POSITIVE_INFINITY;
  return rampProgress(ramp, limit + 1) * durationMs;
}

/** Rounded down, but for what a rounding error keeps below a whole number. */
function whole(value: number): number {
  return Math.floor(value + 1e-6);
}
