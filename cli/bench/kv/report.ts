/** The results of `bench kv` in each of its forms. */

import type { OptionValues } from "../../../engine/config.ts";
import { VERSION } from "../../version.ts";
import { deviation, mean } from "../engine/rates.ts";
import { formatRatio } from "../ratio.ts";
import { renderTable } from "../table.ts";
import type { Workload } from "../types.ts";
import type { KvRun } from "./run.ts";
import type { SideRuns, Verdict } from "./verdict.ts";

export interface KvReport {
  readonly model: string;
  readonly workload: Pick<Workload, "name" | "seed" | "parameters">;
  /** Blocks that come again. */
  readonly workingSet: number;
  readonly sides: readonly SideRuns[];
  readonly verdict: Verdict;
}

/** Text with a line feed at its end. */
export function renderKvReport(report: KvReport, form: OptionValues["output"]): string {
  switch (form) {
    case "json":
      return `${JSON.stringify(jsonOf(report), null, 2)}\n`;
    case "jsonl":
      return report.sides
        .flatMap(({ side, runs }) => runs.map((run) => ({ side: side.name, ...figuresOf(run) })))
        .map((line) => `${JSON.stringify(line)}\n`)
        .join("");
    case "csv":
      return sideTable(report, "csv");
    default:
      return `${sideTable(report, form)}\n${verdictText(report)}`;
  }
}

/** Times in milliseconds. */
function figuresOf(run: KvRun): Readonly<Record<string, number>> {
  return {
    duration_ms: run.durationMs,
    prompt_tokens: run.promptTokens,
    prompt_tokens_computed: run.promptTokens - run.cachedTokens,
    prompt_tokens_cached: run.cachedTokens,
    output_tokens: run.outputTokens,
    evicted_blocks: run.evictedBlocks,
    num_blocks: run.numBlocks,
    preemptions: run.preemptions,
    cpu_seconds: run.cpuSeconds,
    cpu_seconds_per_token: cpuPerToken(run),
  };
}

/** Of prompts and outputs together: what a token costs that somebody asked for. */
function cpuPerToken({ cpuSeconds, promptTokens, outputTokens }: KvRun): number {
  return cpuSeconds / (promptTokens + outputTokens);
}

function jsonOf({ model, workload, workingSet, sides, verdict }: KvReport): object {
  return {
    version: VERSION,
    model,
    workload: { ...workload, working_set_blocks: workingSet },
    sides: sides.map(({ side, runs }) => ({
      name: side.name,
      flags: side.flags,
      runs: runs.map(figuresOf),
      speed_up: verdict.refusals.length > 0 ? null : (verdict.speedUps.get(side.name) ?? null),
    })),
    refusals: verdict.refusals,
  };
}

const TEXT_COLUMNS: ReadonlySet<string> = new Set(["side", "flags"]);

function sideTable({ sides }: KvReport, form: "table" | "md" | "csv"): string {
  const columns: [head: string, cell: (one: SideRuns) => string][] = [
    ["side", ({ side }) => side.name],
    ["flags", ({ side }) => side.flags],
    ["seconds", ({ runs }) => overRuns(runs, ({ durationMs }) => durationMs / 1000)],
    ["prompt computed", ({ runs }) => total(runs, (run) => run.promptTokens - run.cachedTokens)],
    ["prompt cached", ({ runs }) => total(runs, ({ cachedTokens }) => cachedTokens)],
    ["output", ({ runs }) => total(runs, ({ outputTokens }) => outputTokens)],
    ["blocks", ({ runs }) => total(runs, ({ numBlocks }) => numBlocks)],
    ["evicted", ({ runs }) => total(runs, ({ evictedBlocks }) => evictedBlocks)],
    ["CPU ms/token", ({ runs }) => overRuns(runs, (run) => 1000 * cpuPerToken(run))],
  ];
  const rows = sides.map((one) => columns.map(([, cell]) => cell(one)));
  const heads = columns.map(([head]) => head);
  return renderTable(heads, rows, TEXT_COLUMNS, form);
}

function overRuns(runs: readonly KvRun[], figure: (run: KvRun) => number): string {
  const figures = runs.map(figure);
  return `${mean(figures).toPrecision(3)} ± ${deviation(figures).toPrecision(2)}`;
}

/** Of one run: the mean, which is a whole number where all runs are alike. */
function total(runs: readonly KvRun[], figure: (run: KvRun) => number): string {
  return String(Math.round(mean(runs.map(figure))));
}

function verdictText({ sides, workingSet, verdict }: KvReport): string {
  const lines = [`${workingSet} blocks come again.`];
  if (verdict.refusals.length > 0) {
    lines.push(...verdict.refusals.map((reason) => `No verdict: ${reason}.`));
  } else {
    lines.push("The answers are the same on all sides.");
    const first = sides[0]?.side.name ?? "";
    for (const [name, ratio] of verdict.speedUps)
      lines.push(`${name} against ${first}, times as fast: ${formatRatio(ratio)}.`);
  }
  return lines.map((line) => `${line}\n`).join("");
}
