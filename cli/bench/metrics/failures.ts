/** Failed requests by class, the most frequent first. */

import type { RequestRecord } from "../types.ts";

export interface FailureClass {
  /** `no answer`, `HTTP 503`, `cut off`, `bad answer`. */
  readonly name: string;
  readonly count: number;
  /** What the first of them said. */
  readonly example: string;
}

export function failureClasses(records: readonly RequestRecord[]): FailureClass[] {
  const classes = new Map<string, { count: number; example: string }>();
  for (const record of records) {
    if (record.outcome === "ok") continue;
    const name = classOf(record);
    const known = classes.get(name);
    if (known === undefined) classes.set(name, { count: 1, example: record.error ?? "" });
    else known.count += 1;
  }
  return [...classes]
    .map(([name, { count, example }]) => ({ name, count, example }))
    .sort((a, b) => b.count - a.count || a.name.localeCompare(b.name));
}

function classOf({ outcome, status }: RequestRecord): string {
  if (outcome === "cut") return "cut off";
  if (status === 0) return "no answer";
  return status >= 400 ? `HTTP ${status}` : "bad answer";
}
