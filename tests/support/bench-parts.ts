/** The rest of the bench as small as it can be: one workload, runs in turn, and a report that is the runs as JSON. */

import type { BenchOutcome, BenchParts } from "../../cli/bench/parts.ts";
import type { Run, Workload } from "../../cli/bench/types.ts";
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
    latency: (run, metric) => (metric === "ttft" ? meanTtft(run) : undefined),
    async interleave({ numSides, rounds, warmUps, runOnce }) {
      const runs = [];
      for (let round = 0; round < rounds + warmUps; round++) {
        for (let side = 0; side < numSides; side++) {
          const result = await runOnce({ side });
          if (round >= warmUps) runs.push({ side, result });
        }
      }
      return { runs };
    },
    async report(outcome) {
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

function meanTtft({ records }: Run): number | undefined {
  const times = records.flatMap(({ chunks, sentAt }) => (chunks[0]?.at ?? sentAt) - sentAt);
  return times.length === 0 ? undefined : times.reduce((sum, time) => sum + time, 0) / times.length;
}
