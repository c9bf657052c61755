/** Names of result files, after vLLM's: label, rate, concurrency, model, time. */

import type { Run } from "../types.ts";

/** `kvengine-infqps-concurrency16-smollm2-135m-20260131-235900.json`; of several runs their labels, and the rest of the first. */
export function resultFileName(runs: readonly Run[]): string {
  const [first] = runs;
  if (first === undefined) return "no-runs.json";
  const { requestRate, maxConcurrency } = first.load;
  const parts = [
    [...new Set(runs.map(({ label }) => label))].join("-"),
    `${Number.isFinite(requestRate) ? requestRate : "inf"}qps`,
    ...(Number.isFinite(maxConcurrency) ? [`concurrency${maxConcurrency}`] : []),
    first.target.model.split(/[/\\]/).at(-1) ?? "",
    first.startedAt.slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-"),
  ];
  return `${parts.map((part) => part.replaceAll(/[^\w.-]+/g, "_")).join("-")}.json`;
}
