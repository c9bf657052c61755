/** What `bench serve` and `bench throughput` take from the rest of the bench. */

import type { OptionValues } from "../../engine/config.ts";
import { KvEngineError } from "../../engine/errors.ts";
import type { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import type { SloMetric } from "./slo.ts";
import type { Run, Workload } from "./types.ts";

export interface BenchParts {
  /** The workload that the options name, with another seed, and with as many conversations as `numPrompts` where it is given. */
  readonly makeWorkload: (
    values: OptionValues,
    change: WorkloadChange,
    tokenizer: Tokenizer,
  ) => Workload | Promise<Workload>;
  /** A percentile of the requests that ended well, in milliseconds; undefined = no request has this time. */
  readonly latency: (run: Run, metric: SloMetric, percentile: number) => number | undefined;
  /** Runs sides in turn, `rounds` times each. */
  readonly interleave: (plan: TurnPlan) => Promise<Turns>;
  /** Prints the report and writes the files that are asked for. Answers the exit code: of `--fail-if`, else 0. */
  readonly report: (outcome: BenchOutcome, values: OptionValues) => Promise<number>;
}

export interface WorkloadChange {
  readonly seed: number;
  readonly numPrompts?: number;
}

export interface TurnPlan {
  readonly numSides: number;
  readonly rounds: number;
  readonly warmUps: number;
  readonly runOnce: (call: { readonly side: number }) => Promise<Run>;
  readonly signal: AbortSignal;
}

export interface Turns {
  readonly runs: readonly { readonly side: number; readonly result: Run }[];
  /** Why it ended early. */
  readonly stopped?: unknown;
}

export interface BenchOutcome {
  /** In the order in which they ran. */
  readonly runs: readonly Run[];
  /** Labels of the sides that are compared, the first one the base; empty = nothing is compared. */
  readonly sides: readonly string[];
}

const missing = (what: string): never => {
  throw new KvEngineError("unsupported", `${what} is not part of this build`);
};

export const PARTS: BenchParts = {
  makeWorkload: () => missing("the making of workloads"),
  latency: () => missing("the arithmetic of latencies"),
  interleave: () => missing("the comparison of sides"),
  report: () => missing("the report"),
};
