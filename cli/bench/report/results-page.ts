/** `bench/RESULTS.md`: the page of results in the repository. Everything on it was measured on one machine. */

import { comparisonSection, runsSection } from "./comparison-sections.ts";
import { describeLoad, describeWorkload, formatNumber } from "./format.ts";
import type { BenchReport } from "./report.ts";
import { definitions } from "./run-sections.ts";
import { type Section, sectionMarkdown } from "./section.ts";

export interface ResultsPage {
  /** Of kvengine. */
  readonly version: string;
  /** ISO 8601. */
  readonly date: string;
  /** Processor, cores, memory, system; models and programs with their versions. */
  readonly machine: Readonly<Record<string, string>>;
  /** What the machine itself can do: read bandwidth, peaks. */
  readonly limits: readonly MachineLimit[];
  /** `bench engine` and its peers. */
  readonly grid: readonly GridCell[];
  /** A `bench serve` session each. */
  readonly served: readonly ServedWorkload[];
  /** Command lines that measure it again. */
  readonly commands: readonly string[];
}

export interface MachineLimit {
  readonly name: string;
  readonly value: number;
  /** `GB/s`, `Gop/s`. */
  readonly unit: string;
}

/** Tokens a second of a test (`pp512`) on a side; one row of the page has all sides of a test. */
export interface GridCell {
  readonly test: string;
  readonly side: string;
  readonly rate: number;
  /** Of the sample. */
  readonly deviation: number;
  /** Against the first side of the test, with its 95 % interval in words. */
  readonly ratio?: string;
}

export interface ServedWorkload {
  readonly title: string;
  readonly report: BenchReport;
}

export function resultsPage(page: ResultsPage): string {
  const parts = [
    "# Results",
    `Written by \`kvengine bench\` ${page.version} on ${page.date}; not edited by hand. All figures are of the machine below; ratios have 95 % intervals, and one that holds 1 is no difference.`,
    "## The machine",
    sectionMarkdown({
      title: "What it is",
      columns: ["", ""],
      rows: Object.entries(page.machine).map(([name, value]) => [name, value]),
      textual: true,
    }),
    ...(page.limits.length === 0 ? [] : [sectionMarkdown(limitsSection(page.limits))]),
    ...(page.grid.length === 0
      ? []
      : ["## Engines without HTTP", sectionMarkdown(gridSection(page.grid))]),
    ...page.served.flatMap(servedParts),
    "## Words",
    sectionMarkdown(definitions()),
    "## How to measure it again",
    ["```sh", ...page.commands, "```"].join("\n"),
  ];
  return `${parts.map((part) => part.trimEnd()).join("\n\n")}\n`;
}

function limitsSection(limits: readonly MachineLimit[]): Section {
  return {
    title: "What it can do at most",
    columns: ["", "rate"],
    rows: limits.map(({ name, value, unit }) => [name, `${formatNumber(value)} ${unit}`]),
  };
}

/** A row a test, a column a side, in the order in which they come first. */
function gridSection(cells: readonly GridCell[]): Section {
  const tests = [...new Set(cells.map(({ test }) => test))];
  const sides = [...new Set(cells.map(({ side }) => side))];
  const cellText = (test: string, side: string): string => {
    const cell = cells.find((one) => one.test === test && one.side === side);
    if (cell === undefined) return "–";
    const rate = `${formatNumber(cell.rate)} ± ${formatNumber(cell.deviation)}`;
    return cell.ratio === undefined ? rate : `${rate} (${cell.ratio})`;
  };
  return {
    title: "Tokens a second",
    columns: ["test", ...sides],
    rows: tests.map((test) => [test].concat(sides.map((side) => cellText(test, side)))),
    notes: [
      "pp: prompt tokens by the time to the first token. tg: generated tokens by their time. ± is the deviation of the runs.",
    ],
  };
}

function servedParts({ title, report }: ServedWorkload): string[] {
  const run = report.runs[0]?.run;
  const setting =
    run === undefined
      ? []
      : [
          `${describeWorkload(run.workload)}; ${describeLoad(run.load)}; prefix cache before each run: ${run.cacheState}.`,
        ];
  const sides = new Map(report.runs.map(({ run }) => [run.label, run.target]));
  const commands = [...sides].map(([label, { server, command }]) => {
    const started = command === undefined ? "" : `: \`${command.join(" ")}\``;
    return `- ${label}: ${server}${started}`;
  });
  return [
    `## ${title}`,
    ...setting,
    ...(commands.length === 0 ? [] : [commands.join("\n")]),
    ...report.comparisons.map((comparison) => sectionMarkdown(comparisonSection(comparison))),
    ...(report.runs.length === 0 ? [] : [sectionMarkdown(runsSection(report.runs))]),
  ];
}
