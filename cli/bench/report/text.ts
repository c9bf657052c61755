/** Reports for people: the terminal and Markdown. */

import { comparisonSection, runsSection } from "./comparison-sections.ts";
import { kvSection } from "./kv-section.ts";
import type { BenchReport, ReportOptions } from "./report.ts";
import { definitions, runSections } from "./run-sections.ts";
import { searchSection } from "./search-section.ts";
import { type Section, sectionMarkdown, sectionText } from "./section.ts";

/** One run is shown in full; of several a row each, and what they say together. */
export function reportSections(report: BenchReport, options: ReportOptions = {}): Section[] {
  const { runs, comparisons, search, kv } = report;
  const [only, ...more] = runs;
  const ofRuns =
    only !== undefined && more.length === 0
      ? runSections(only, options)
      : runs.length === 0
        ? []
        : [runsSection(runs)];
  return [
    ...(search === undefined ? [] : [searchSection(search)]),
    ...ofRuns,
    ...(kv === undefined ? [] : [kvSection(kv)]),
    ...comparisons.map(comparisonSection),
    ...warningsSection(report),
    definitions(),
  ];
}

function warningsSection({ warnings }: BenchReport): Section[] {
  if (warnings.length === 0) return [];
  const notes = warnings.map((warning) => `Warning: ${warning}.`);
  return [{ title: "The session", columns: [], rows: [], notes }];
}

export function reportText(report: BenchReport, options: ReportOptions = {}): string {
  return reportSections(report, options).map(sectionText).join("\n");
}

export function reportMarkdown(report: BenchReport, options: ReportOptions = {}): string {
  const metadata = Object.entries(report.metadata).map(([key, value]) => `- ${key}: ${value}\n`);
  return [
    `## kvengine bench ${report.version}\n`,
    ...(metadata.length === 0 ? [] : [metadata.join("")]),
    ...reportSections(report, options).map(sectionMarkdown),
  ].join("\n");
}
