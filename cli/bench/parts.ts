/** What stands before and behind the runs of `bench serve` and `bench throughput`: a workload, a report. Tests put their own there. */

import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../engine/config.ts";
import type { Tokenizer } from "../../engine/tokenizer/tokenizer.ts";
import { loadWorkload } from "./datasets/registry.ts";
import type { KvFindings, RateSearch } from "./report/report.ts";
import { createReporter } from "./report/reporter.ts";
import type { Run, Workload } from "./types.ts";

export interface BenchParts {
  /** The workload that the options name, with another seed, and with as many conversations as `numPrompts` where it is given. */
  readonly makeWorkload: (
    values: OptionValues,
    change: WorkloadChange,
    tokenizer: Tokenizer,
  ) => Workload | Promise<Workload>;
  /** Throws `bad_config` for options of the report that are wrong, before anything is measured. */
  readonly reporter: (values: OptionValues, log: ConsolaInstance) => Reporter;
}

/** Prints the report and writes the files that are asked for. Answers the exit code: of `--fail-if`, else 0. */
export type Reporter = (outcome: BenchOutcome) => Promise<number>;

export interface WorkloadChange {
  readonly seed: number;
  readonly numPrompts?: number;
}

export interface BenchOutcome {
  /** In the order in which they ran. */
  readonly runs: readonly Run[];
  /** Labels of the sides that are compared, the first one the base; empty = nothing is compared. */
  readonly sides: readonly string[];
  /** Of a search for a rate, whose best run is in `runs`. */
  readonly search?: RateSearch;
  /** Of `bench kv`. */
  readonly kv?: KvFindings;
  /** Why the session ended early. */
  readonly warnings?: readonly string[];
}

export const PARTS: BenchParts = {
  makeWorkload: (values, { seed, numPrompts = values.numPrompts }, tokenizer) =>
    loadWorkload({ ...values, seed, numPrompts }, tokenizer),
  reporter: createReporter,
};
