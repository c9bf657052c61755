/** The rest of the bench as small as it can be: one workload, and a report that keeps the runs. */

import type { BenchOutcome, BenchParts } from "../../cli/bench/parts.ts";
import type { Workload } from "../../cli/bench/types.ts";
import { shapedWorkload } from "./bench-workload.ts";

export interface TestParts extends BenchParts {
  /** What was reported. */
  readonly outcomes: BenchOutcome[];
}

/** @param workload of all runs, with as many conversations as a search asks for. */
export function testParts(workload: (numPrompts?: number) => Workload): TestParts {
  const outcomes: BenchOutcome[] = [];
  return {
    outcomes,
    makeWorkload: (_values, { numPrompts }) => workload(numPrompts),
    reporter: () => async (outcome) => {
      outcomes.push(outcome);
      return 0;
    },
  };
}

/** Prompts that any model has, short enough for all. */
export function smallWorkload(numPrompts = 4): Workload {
  return shapedWorkload({
    turns: Array.from({ length: numPrompts }, () => 1),
    promptTokens: 12,
    maxTokens: 5,
  });
}
