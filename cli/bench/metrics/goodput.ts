/** Goodput: requests that keep every limit of `--goodput`. */

import { SLO_METRICS, type SloTargets } from "../slo.ts";
import type { RequestTimes } from "./request-times.ts";

/** A time that a request does not have breaks no limit: one token has no TPOT (vLLM takes it as 0). */
export function isGood(times: RequestTimes, limits: SloTargets): boolean {
  return SLO_METRICS.every(
    (name) => (times[name] ?? 0) <= (limits[name] ?? Number.POSITIVE_INFINITY),
  );
}
