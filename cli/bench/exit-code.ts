/** How a bench ends: a figure of nothing is a failure. */

import { EXIT } from "../output.ts";
import type { BenchOutcome } from "./parts.ts";

/** @param reported what the report says: of `--fail-if`. */
export function exitCode({ runs }: BenchOutcome, reported: number): number {
  const answered = runs.some(({ records }) => records.some(({ outcome }) => outcome === "ok"));
  return answered ? reported : EXIT.failed;
}
