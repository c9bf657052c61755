/** `kvengine bench compare`: two sides from result files. Measures nothing. */

import type { CommandDef } from "citty";
import { compareSides, COMPARED } from "../ab/comparison.ts";
import { failuresOf, parseFailIf } from "../ab/fail-if.ts";
import { readResultFile, sidesOf } from "../ab/result-file.ts";
import { reportJson } from "../report/json.ts";
import type { BenchReport } from "../report/report.ts";
import { reportText } from "../report/text.ts";
import { COMPARISON_FORMATS, parseReportFiles, writeReports } from "../report/write.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { VERSION } from "../../version.ts";

const command: CommandDef = defineOurCommand(
  "bench compare",
  async ({ values, positionals, log }) => {
    const conditions = parseFailIf(values.failIf);
    const reports = parseReportFiles(values.report, COMPARISON_FORMATS);
    const files = await Promise.all(
      positionals.map(async (path) => ({ path, rows: await readResultFile(path) })),
    );
    const [a, ...others] = sidesOf(files);
    if (a === undefined) return EXIT.usage;
    const names = [...new Set([...COMPARED, ...conditions.map(({ metric }) => metric.name)])];
    const comparisons = others.map((b) => compareSides(a, b, names));
    const failures = comparisons.flatMap((comparison) => failuresOf(conditions, comparison));
    const report: BenchReport = {
      version: VERSION,
      runs: [],
      comparisons,
      warnings: [],
      metadata: {},
    };
    process.stdout.write(values.json ? reportJson(report) : reportText(report));
    await writeReports(reports, report);
    for (const { condition, found } of failures) log.error(`--fail-if ${condition.text}: ${found}`);
    return failures.length === 0 ? EXIT.ok : EXIT.failed;
  },
);

export default command;
