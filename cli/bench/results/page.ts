/** `bench/RESULTS.md`: the page of results in the repository. Everything on it was measured on one machine. */

import type { Comparison } from "../ab/comparison.ts";
import { comparisonSection, type RunRow, runsTable } from "../report/comparison-sections.ts";
import { definitions } from "../report/run-sections.ts";
import { type Section, sectionMarkdown } from "../report/section.ts";

export interface ResultsPage {
  /** Of kvengine. */
  readonly version: string;
  /** ISO 8601: when the first and the last part was measured. */
  readonly dates: readonly string[];
  /** Processor, cores, memory, system; model; programs with their versions. */
  readonly machine: Readonly<Record<string, string>>;
  /** Of `bench engine`; empty = not measured yet. */
  readonly engine: readonly Section[];
  /** A `bench serve` session each. */
  readonly served: readonly ServedSession[];
  /** Titles of parts that are not measured yet. */
  readonly missing: readonly string[];
  /** Command lines that measure it again. */
  readonly commands: readonly string[];
}

export interface ServedSession {
  readonly title: string;
  /** Workload and load, in words. */
  readonly setting: string;
  readonly sides: readonly ServedSide[];
  readonly comparisons: readonly Comparison[];
  /** In the order in which they ran. */
  readonly runs: readonly RunRow[];
}

export interface ServedSide {
  readonly label: string;
  readonly server: string;
  /** How it was started. */
  readonly command: readonly string[];
}

export function resultsPage(page: ResultsPage): string {
  const dates = [...new Set(page.dates.map((date) => date.slice(0, 10)))];
  const parts = [
    "# Results",
    `Written by \`kvengine bench results\` ${page.version}, measured on ${dates.join(", ")}; not edited by hand. All figures are of the machine below; ratios have 95 % intervals, and one that holds 1 is no difference.`,
    ...(page.missing.length === 0
      ? []
      : [`Not measured yet: ${page.missing.join("; ")}. Run the command below again.`]),
    "## The machine",
    sectionMarkdown({
      title: "What it is",
      columns: ["", ""],
      rows: Object.entries(page.machine).map(([name, value]) => [name, value]),
      textual: true,
    }),
    ...(page.engine.length === 0 ? [] : ["## Engines without HTTP", ...page.engine.map(engine)]),
    ...page.served.flatMap(servedParts),
    "## Words",
    sectionMarkdown(definitions()),
    "## How to measure it again",
    ["```sh", ...page.commands, "```"].join("\n"),
  ];
  return `${parts.map((part) => part.trimEnd()).join("\n\n")}\n`;
}

function engine(section: Section): string {
  return sectionMarkdown(section);
}

function servedParts({ title, setting, sides, comparisons, runs }: ServedSession): string[] {
  return [
    `## ${title}`,
    setting,
    sides
      .map(({ label, server, command }) => `- ${label}: ${server}: \`${command.join(" ")}\``)
      .join("\n"),
    ...comparisons.map((comparison) => sectionMarkdown(comparisonSection(comparison))),
    sectionMarkdown(runsTable(runs)),
  ];
}
