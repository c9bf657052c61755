/** A report as one HTML file: nothing is fetched, it can be mailed and opened anywhere. */

import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import type { Comparison } from "../../ab/comparison.ts";
import { flatMetrics, metricKind } from "../../metrics/flat-metrics.ts";
import { describeLoad, describeWorkload, formatNumber } from "../format.ts";
import type { BenchReport, ReportOptions, RunReport } from "../report.ts";
import { holdsText, type Section } from "../section.ts";
import { reportSections } from "../text.ts";
import { escapeHtml, scriptJson } from "./escape.ts";
import pageStyle from "./page.css" with { type: "text" };
import pageScript from "./page.js" with { type: "text" };
import { plotData, type PlotData } from "./plot-data.ts";
import { ratioChart } from "./ratio-chart.ts";

export function reportHtml(report: BenchReport, options: ReportOptions = {}): string {
  const data = plotData(report.runs);
  const title = titleOf(report);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="kvengine ${escapeHtml(report.version)}">
<title>${escapeHtml(title)}</title>
<style>${uplotStyle}</style>
<style>${pageStyle}</style>
</head>
<body>
${header(title, report)}
${cards(report.runs)}
${warnings(report)}
${report.comparisons.map(comparisonFigure).join("\n")}
${charts(data)}
<div class="tables">
${reportSections(report, options).map(sectionHtml).join("\n")}
</div>
<script type="application/json" id="data">${scriptJson(data)}</script>
${data.runs.length === 0 ? "" : script()}
</body>
</html>
`;
}

/** uPlot is under the MIT licence, whose notice must travel with it. */
function script(): string {
  return `<!-- uPlot, copyright (c) 2022 Leon Sorokin, MIT licence -->
<script>${uplotScript}
${pageScript}</script>`;
}

function titleOf({ runs, comparisons }: BenchReport): string {
  const [comparison] = comparisons;
  if (comparison !== undefined) return `${comparison.a} against ${comparison.b}`;
  const run = runs[0]?.run;
  return run === undefined ? "kvengine bench" : `${run.label}: ${run.target.model}`;
}

function header(title: string, { version, runs, metadata }: BenchReport): string {
  const run = runs[0]?.run;
  const lines = [
    ...(run === undefined
      ? []
      : [
          `${run.target.server} · ${describeWorkload(run.workload)} · ${describeLoad(run.load)} · prefix cache ${run.cacheState}`,
        ]),
    [
      `kvengine bench ${version}`,
      ...(run === undefined ? [] : [run.startedAt]),
      ...Object.entries(metadata).map(([key, value]) => `${key} ${value}`),
    ].join(" · "),
  ];
  return `<header><h1>${escapeHtml(title)}</h1>${lines.map((line) => `<p class="faint">${escapeHtml(line)}</p>`).join("")}</header>`;
}

const HEADLINES = [
  "output_throughput",
  "ttft_median",
  "ttft_p99",
  "tpot_median",
  "tpot_p99",
  "e2el_p99",
];

/** The figures of one run; several are in the comparison. */
function cards(runs: readonly RunReport[]): string {
  const [only, ...more] = runs;
  if (only === undefined || more.length > 0) return "";
  const flat = flatMetrics(only.summary);
  const found = HEADLINES.flatMap((name) => metricKind(name) ?? []);
  const shown = [
    [String(only.summary.completed), `of ${only.summary.requests} requests completed`],
    ...found.map(({ key, name, unit }) => [
      formatNumber(flat[key]),
      `${name === "output_throughput" ? "output" : name.replaceAll("_", " ")}, ${unit}`,
    ]),
  ];
  return `<div class="cards">${shown.map(([value = "", word = ""]) => `<div class="card"><b>${escapeHtml(value)}</b><span class="faint">${escapeHtml(word)}</span></div>`).join("")}</div>`;
}

function warnings({ runs, comparisons, warnings }: BenchReport): string {
  const all = [
    ...warnings,
    ...runs.flatMap(({ run, summary }) => [
      ...[...summary.warnings, ...summary.client.warnings].map(
        (warning) => `${run.label}: ${warning}`,
      ),
      ...(run.stopped === undefined ? [] : [`${run.label}: ended early: ${run.stopped}`]),
    ]),
    ...comparisons.flatMap((comparison) => comparison.warnings),
  ];
  return [...new Set(all)].map((text) => `<p class="warning">${escapeHtml(text)}</p>`).join("\n");
}

function comparisonFigure(comparison: Comparison): string {
  const chart = ratioChart(comparison);
  if (chart === "") return "";
  return `<section><h2>b / a with 95 % intervals</h2><p class="faint">a = ${escapeHtml(comparison.a)}, b = ${escapeHtml(comparison.b)}; grey holds 1</p>${chart}</section>`;
}

function charts({ runs, distributions, perRun }: PlotData): string {
  if (runs.length === 0) return "";
  const figure = (title: string, chart: string, index = 0, wide = false): string =>
    `<figure${wide ? ' class="wide"' : ""}><h2>${escapeHtml(title)}</h2><div data-chart="${chart}" data-index="${index}"></div></figure>`;
  const chooser =
    runs.length === 1
      ? ""
      : `<p><label>Run shown over time: <select id="run">${runs.map(({ label }, i) => `<option value="${i}">${i + 1}: ${escapeHtml(label)}</option>`).join("")}</select></label></p>`;
  return [
    `<div class="charts">`,
    ...perRun.map(({ title }, i) => figure(`Each run: ${title}`, "runs", i)),
    `</div>`,
    chooser,
    `<div class="charts">`,
    figure(
      "Requests: pale until the first token, then streaming; red = failed",
      "timeline",
      0,
      true,
    ),
    figure("Output tokens over time", "tokens"),
    figure("Prompt tokens by source, when the first token came", "sources"),
    ...distributions.map(({ title }, i) =>
      figure(`${title}: histogram and cumulative share`, "distribution", i),
    ),
    `</div>`,
  ].join("\n");
}

function sectionHtml(section: Section): string {
  const { title, columns, rows, textual, notes = [] } = section;
  const classOf = (column: number): string => (holdsText(section, column) ? ' class="text"' : "");
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((cell, i) => `<${tag}${classOf(i)}>${escapeHtml(cell)}</${tag}>`).join("")}</tr>`;
  const head = columns.every((column) => column === "")
    ? ""
    : `<thead>${cells("th", columns)}</thead>`;
  const body = rows.map((row) => cells("td", row)).join("");
  const table =
    rows.length === 0
      ? ""
      : `<table${textual ? ' class="textual"' : ""}>${head}<tbody>${body}</tbody></table>`;
  const remarks = notes.map((note) => `<p class="faint">${escapeHtml(note)}</p>`).join("");
  return `<section><h2>${escapeHtml(title)}</h2>${table}${remarks}</section>`;
}
