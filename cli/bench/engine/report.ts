/** The results of `bench engine` in each of its forms. */

import type { OptionValues } from "../../../engine/config.ts";
import { formatBytes } from "../../output.ts";
import { VERSION } from "../../version.ts";
import { csvTable } from "../report/csv.ts";
import { formatInterval } from "../report/format.ts";
import { type Section, sectionMarkdown, sectionText } from "../report/section.ts";
import type { LimitTable } from "./limits.ts";
import { profileSection } from "./profile.ts";
import type { BenchResult, PeerResult } from "./results.ts";

export interface Report {
  /** Bytes of the weights in the file, and their number. */
  readonly modelSize: number;
  readonly modelParameters: number;
  readonly results: readonly BenchResult[];
  readonly limits: LimitTable | undefined;
}

/** Text with a line feed at its end. */
export function renderReport(report: Report, form: OptionValues["output"]): string {
  switch (form) {
    case "json":
      return `${JSON.stringify(jsonOf(report), null, 2)}\n`;
    case "jsonl":
      return jsonLines(report);
    case "csv":
      return csvOf(report);
    default:
      return tablesOf(report, form);
  }
}

function jsonOf({ modelSize, modelParameters, results, limits }: Report): object {
  return {
    version: VERSION,
    model_size: modelSize,
    model_n_params: modelParameters,
    ...(limits === undefined ? {} : { limits }),
    results,
  };
}

/** A line for each row; of the limits, where they were measured, one more before. */
function jsonLines({ modelSize, modelParameters, results, limits }: Report): string {
  const common = { version: VERSION, model_size: modelSize, model_n_params: modelParameters };
  const objects: object[] = results.map((result) => ({ ...common, ...result }));
  if (limits !== undefined) objects.unshift({ ...common, limits });
  return objects.map((object) => `${JSON.stringify(object)}\n`).join("");
}

/** Columns of a CSV file; those of limits and peer are empty where they were not measured. */
function csvOf({ modelSize, modelParameters, results }: Report): string {
  const rows = results.map((one): Readonly<Record<string, string | number | boolean>> => ({
    version: VERSION,
    model: one.model,
    model_size: modelSize,
    model_n_params: modelParameters,
    backend: one.backend,
    threads: one.threads,
    test: one.test,
    n_prompt: one.n_prompt,
    n_gen: one.n_gen,
    n_depth: one.n_depth,
    n_parallel: one.n_parallel,
    shared_prompt: one.shared_prompt,
    test_time: one.test_time,
    avg_ns: one.avg_ns,
    stddev_ns: one.stddev_ns,
    avg_ts: one.avg_ts,
    stddev_ts: one.stddev_ts,
    limit_bound: one.limit?.bound.join("+") ?? "",
    limit_share: one.limit?.share ?? "",
    peer: one.peer?.name ?? "",
    peer_settings: one.peer?.settings ?? "",
    peer_avg_ts: one.peer?.avg_ts ?? "",
    ratio: one.peer?.ratio ?? "",
    ratio_low: one.peer?.interval?.low ?? "",
    ratio_high: one.peer?.interval?.high ?? "",
  }));
  return csvTable(rows);
}

function tablesOf(report: Report, form: "table" | "md"): string {
  const write = form === "md" ? sectionMarkdown : sectionText;
  return engineSections(report).map(write).join("\n");
}

/** Rates, profiles and limits, those of them that were measured. */
export function engineSections(report: Report): Section[] {
  return [
    ...(report.results.length > 0 ? [resultSection(report)] : []),
    ...report.results.flatMap(({ test, profile }) =>
      profile === undefined ? [] : [profileSection(test, profile)],
    ),
    ...(report.limits === undefined ? [] : [limitSection(report.limits)]),
  ];
}

function resultSection({ results, modelSize }: Report): Section {
  const columns: [head: string, cell: (one: BenchResult) => string][] = [
    ["model", (one) => one.model],
    ["size", () => formatBytes(modelSize)],
    ["backend", (one) => one.backend],
    ["threads", (one) => String(one.threads)],
    ["test", (one) => one.test],
    ["tokens/s", (one) => `${one.avg_ts.toFixed(2)} ± ${one.stddev_ts.toFixed(2)}`],
  ];
  if (results.some(({ limit }) => limit !== undefined)) {
    columns.push([
      "of the limit",
      ({ limit }) =>
        limit === undefined
          ? ""
          : `${(100 * limit.share).toFixed(0)} % of ${limit.bound.join(", ")}`,
    ]);
  }
  if (results.some(({ peer }) => peer !== undefined)) {
    columns.push(
      ["llama.cpp", ({ peer }) => peer?.avg_ts.toFixed(2) ?? ""],
      ["llama.cpp at", ({ peer }) => peer?.settings ?? ""],
      ["ratio [95 %]", ({ peer }) => (peer === undefined ? "" : ratioText(peer))],
    );
  }
  return {
    title: "Rates",
    columns: columns.map(([head]) => head),
    rows: results.map((one) => columns.map(([, cell]) => cell(one))),
    texts: ["backend", "test", "of the limit", "llama.cpp at"],
  };
}

export function ratioText({ ratio, interval }: PeerResult): string {
  return interval === undefined ? `${ratio.toFixed(2)} (one round)` : formatInterval(interval);
}

/** What the machine gave, a line for each limit. */
function limitSection(limits: LimitTable): Section {
  const threads = `${limits.threads} ${limits.threads === 1 ? "thread" : "threads"}`;
  const rows = [
    [
      `reading ${formatBytes(limits.footprint)}, ${threads}`,
      `${(limits.read / 1e9).toFixed(1)} GB/s`,
    ],
  ];
  for (const [isa, operations] of Object.entries(limits.operations)) {
    for (const [factors, rate] of Object.entries(operations)) {
      rows.push([`${factors} on ${isa}, ${threads}`, `${(rate / 1e9).toFixed(1)} Gop/s`]);
    }
  }
  return { title: "What the machine can do at most", columns: ["limit", "rate"], rows };
}
