/** The end of `bench serve` and `bench throughput`: prints the report, writes the files, holds the figures to `--fail-if`. */

import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { EXIT } from "../../output.ts";
import { VERSION } from "../../version.ts";
import { type Failure, failuresOf, failuresOfRun } from "../ab/fail-if.ts";
import { flatMetrics } from "../metrics/flat-metrics.ts";
import type { BenchOutcome, Reporter } from "../parts.ts";
import { benchReport } from "./bench-report.ts";
import { reportJson } from "./json.ts";
import type { BenchReport } from "./report.ts";
import { type ReportRequest, reportRequest } from "./report-request.ts";
import { resultFileName } from "./result-file-name.ts";
import { reportText } from "./text.ts";
import { fileNamed, writeReports } from "./write.ts";

/** Throws `bad_config` for options of the report that are wrong. */
export function createReporter(values: OptionValues, log: ConsolaInstance): Reporter {
  const request = reportRequest(values);
  return async (outcome) => {
    const report = reportOf(outcome, request);
    const { options, files, resultFolder, resultName } = request;
    process.stdout.write(values.json ? reportJson(report, options) : reportText(report, options));
    const results =
      resultFolder === undefined
        ? []
        : [fileNamed(resultFolder, resultName || resultFileName(outcome.runs))];
    await writeReports([...files, ...results], report, options);
    for (const { path } of results) log.info(`the results are in ${path}`);
    // Nothing is held to figures that say nothing.
    if ((report.kv?.refusals.length ?? 0) > 0) return EXIT.failed;
    const failures = failuresIn(report, request);
    for (const { condition, found } of failures) log.error(`--fail-if ${condition.text}: ${found}`);
    return failures.length === 0 ? EXIT.ok : EXIT.failed;
  };
}

function reportOf(
  { runs, search, kv, warnings = [] }: BenchOutcome,
  { summary, conditions, metadata }: ReportRequest,
): BenchReport {
  return benchReport(runs, {
    version: VERSION,
    metadata,
    warnings,
    summary,
    alsoCompared: conditions.map(({ metric }) => metric.name),
    ...(search === undefined ? {} : { search }),
    ...(kv === undefined ? {} : { kv }),
  });
}

/** Of a comparison, else of each run that answered something; one that did not is a failure anyway. */
function failuresIn(
  { runs, comparisons }: BenchReport,
  { conditions }: ReportRequest,
): readonly Failure[] {
  if (comparisons.length > 0)
    return comparisons.flatMap((comparison) => failuresOf(conditions, comparison));
  return runs
    .filter(({ summary }) => summary.completed > 0)
    .flatMap(({ summary }) => failuresOfRun(conditions, flatMetrics(summary)));
}
