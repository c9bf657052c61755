/** From runs to a report: figures of each, and each other side against the first. */

import { compareSides, COMPARED, type Side } from "../ab/comparison.ts";
import { rowOfResult } from "../ab/result-file.ts";
import { DEFAULT_SUMMARY, summarize, type SummaryOptions } from "../metrics/summary.ts";
import type { Run } from "../types.ts";
import type { BenchReport, RunReport } from "./report.ts";
import { runResult } from "./run-result.ts";

export interface ReportPlan {
  /** Of kvengine. */
  readonly version: string;
  readonly metadata?: BenchReport["metadata"];
  readonly warnings?: readonly string[];
  readonly search?: BenchReport["search"];
  readonly kv?: BenchReport["kv"];
  readonly summary?: SummaryOptions;
  /** What is compared, beside the usual metrics: those of `--fail-if`. */
  readonly alsoCompared?: readonly string[];
}

/** Runs with the same label are one side; `runs` are in the order in which they ran. */
export function benchReport(runs: readonly Run[], plan: ReportPlan): BenchReport {
  const { summary = DEFAULT_SUMMARY, alsoCompared = [] } = plan;
  const reports = runs.map((run): RunReport => ({ run, summary: summarize(run, summary) }));
  const [first, ...others] = [...new Set(runs.map(({ label }) => label))].map((label) =>
    sideOf(label, reports),
  );
  const refused = (plan.kv?.refusals.length ?? 0) > 0;
  const names = [...new Set([...COMPARED, ...alsoCompared])];
  return {
    version: plan.version,
    runs: reports,
    comparisons:
      first === undefined || refused
        ? []
        : others.map((other) => compareSides(first, other, names)),
    ...(plan.search === undefined ? {} : { search: plan.search }),
    ...(plan.kv === undefined ? {} : { kv: plan.kv }),
    warnings: plan.warnings ?? [],
    metadata: plan.metadata ?? {},
  };
}

/** As if its runs had been read from a result file. */
function sideOf(label: string, reports: readonly RunReport[]): Side {
  const own = reports.filter(({ run }) => run.label === label);
  return { label, runs: own.map((report) => rowOfResult(runResult(report), label)) };
}
