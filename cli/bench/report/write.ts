/** Writes a report to files; the ending of a name decides its format. */

import { join } from "node:path";
import { KvEngineError } from "../../../engine/errors.ts";
import { comparisonsCsv, reportJson, requestsJsonl, runsCsv } from "./json.ts";
import { reportHtml } from "./html/html.ts";
import type { BenchReport, ReportOptions } from "./report.ts";
import { reportMarkdown } from "./text.ts";

type Writer = (report: BenchReport, options: ReportOptions) => string;

const WRITERS: Readonly<Record<string, Writer>> = {
  ".json": reportJson,
  ".jsonl": requestsJsonl,
  ".csv": (report) => (report.runs.length === 0 ? comparisonsCsv(report) : runsCsv(report)),
  ".md": reportMarkdown,
  ".html": reportHtml,
};

export interface ReportFile {
  readonly path: string;
  readonly write: Writer;
}

/** What can be written of a comparison of files, which knows no requests. */
export const COMPARISON_FORMATS: readonly string[] = [".json", ".csv", ".md", ".html"];

/** `a.json,b.html`. Throws `bad_config` for an ending that is not among `formats`, before anything was measured. */
export function parseReportFiles(
  text: string,
  formats: readonly string[] = Object.keys(WRITERS),
): ReportFile[] {
  const paths = text
    .split(",")
    .map((path) => path.trim())
    .filter((path) => path !== "");
  return paths.map((path) => {
    const ending = /\.[^./\\]+$/.exec(path)?.[0] ?? "";
    const write = formats.includes(ending) ? WRITERS[ending] : undefined;
    if (write === undefined) {
      throw new KvEngineError("bad_config", `--report: \`${path}\` is of no format`, {
        subject: "--report",
        hint: `the ending is the format: ${formats.join(", ")}; commas join several files`,
      });
    }
    return { path, write };
  });
}

/** A JSON file, whatever its ending. */
export function fileNamed(folder: string, name: string): ReportFile {
  return { path: join(folder, name), write: reportJson };
}

/** Folders are made where they are missing. */
export async function writeReports(
  files: readonly ReportFile[],
  report: BenchReport,
  options: ReportOptions = {},
): Promise<void> {
  for (const { path, write } of files) {
    const text = write(report, options);
    try {
      await Bun.write(path, text);
    } catch (cause) {
      throw new KvEngineError("bad_config", `the report ${path} cannot be written`, {
        subject: path,
        cause,
      });
    }
  }
}
