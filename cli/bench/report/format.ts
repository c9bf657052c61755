/** Numbers and loads as people read them. */

import type { RatioInterval } from "../ab/ratio-interval.ts";
import type { LoadPlan, Run } from "../types.ts";

/** Three digits or more, none of them past what a measurement holds. `–` for what was not measured. */
export function formatNumber(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value)) return value.toFixed(0);
  if (size >= 1000) return value.toFixed(0);
  if (size >= 100) return value.toFixed(1);
  if (size >= 1) return value.toFixed(2);
  return value.toPrecision(3);
}

/** `8 requests/s (Poisson), at most 16 at a time`. */
export function describeLoad(load: LoadPlan): string {
  const parts: string[] = [];
  if (Number.isFinite(load.requestRate)) {
    const gaps = load.burstiness === 1 ? "Poisson" : `gamma, burstiness ${load.burstiness}`;
    parts.push(`${formatNumber(load.requestRate)} requests/s (${gaps})`);
  }
  if (Number.isFinite(load.maxConcurrency)) {
    const word = parts.length === 0 ? "" : "at most ";
    parts.push(`${word}${load.maxConcurrency} at a time`);
  }
  if (parts.length === 0) parts.push("all at once");
  if (load.ramp !== undefined)
    parts.push(`${load.ramp.shape} ramp from ${load.ramp.from} to ${load.ramp.to}`);
  if (Number.isFinite(load.durationMs)) parts.push(`for ${formatNumber(load.durationMs / 1000)} s`);
  return parts.join(", ");
}

/** `random (input-len 512, output-len 128), seed 0`. */
export function describeWorkload({ name, seed, parameters }: Run["workload"]): string {
  const listed = Object.entries(parameters).map(([key, value]) => `${key} ${value}`);
  return `${name}${listed.length === 0 ? "" : ` (${listed.join(", ")})`}, seed ${seed}`;
}

/** `1.83 [1.79, 1.87]`, with `no difference` where the interval holds 1. */
export function formatInterval({ ratio, low, high, larger }: RatioInterval): string {
  const text = `${ratio.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
  return larger === "none" ? `${text} no difference` : text;
}
