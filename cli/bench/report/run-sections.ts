/** What a report says of one run. */

import { compatRows, type CompatTool } from "../metrics/compat.ts";
import type { Distribution } from "../metrics/distribution.ts";
import { type Latency, LATENCIES, type Summary } from "../metrics/summary.ts";
import { STATISTICS, TOOLS, VOCABULARY } from "../metrics/vocabulary.ts";
import { describeLoad, describeWorkload, formatNumber } from "./format.ts";
import type { ReportOptions, RunReport } from "./report.ts";
import type { Section } from "./section.ts";

export function runSections(report: RunReport, { compat }: ReportOptions = {}): Section[] {
  const { summary } = report;
  return [
    overview(report),
    throughput(summary),
    latencies(summary),
    ...sources(summary),
    ...failures(summary),
    client(summary),
    ...(compat === undefined ? [] : [compatSection(compat, report)]),
  ];
}

function overview({ run, summary }: RunReport): Section {
  const rows = [
    ["server", `${run.target.server} at ${run.target.baseUrl}`],
    ["model", run.target.model],
    ["workload", describeWorkload(run.workload)],
    ["load", describeLoad(run.load)],
    ["prefix cache before", run.cacheState],
    [
      "requests",
      `${summary.completed} of ${summary.requests} completed in ${formatNumber(run.durationMs / 1000)} s`,
    ],
    ["tokens", `${summary.inputTokens} in, ${summary.outputTokens} out`],
  ];
  if (run.target.command !== undefined) rows.push(["started as", run.target.command.join(" ")]);
  if (summary.goodput !== undefined) {
    const limits = Object.entries(summary.goodput.limits).map(([name, ms]) => `${name} ≤ ${ms} ms`);
    rows.push([
      "within limits",
      `${summary.goodput.good} of ${summary.requests} (${limits.join(", ")})`,
    ]);
  }
  return {
    title: `Run ${run.label}`,
    columns: ["", ""],
    rows,
    textual: true,
    notes: [
      ...(run.stopped === undefined
        ? []
        : [`The run ended before its workload did: ${run.stopped}.`]),
      ...summary.warnings.map((warning) => `Warning: ${warning}.`),
    ],
  };
}

function throughput(summary: Summary): Section {
  const { steady, goodput } = summary;
  const row = (name: string, whole: number, inWindow?: number): string[] => [
    name,
    formatNumber(whole),
    formatNumber(inWindow),
  ];
  return {
    title: "Throughput, a second",
    columns: ["", "whole run", "steady state"],
    rows: [
      row("requests", summary.requestThroughput, steady?.requestThroughput),
      row("prompt tokens", summary.inputThroughput, steady?.inputThroughput),
      row("output tokens", summary.outputThroughput, steady?.outputThroughput),
      ...(goodput === undefined ? [] : [row("requests within limits", goodput.rate)]),
      row("output tokens, best second", summary.peakOutputTokens),
      row("requests at a time", summary.peakConcurrency, steady?.meanConcurrency),
    ],
    notes: [
      steady === undefined
        ? "There is no steady state: no request took any time."
        : `Steady state: ${formatNumber(steady.startAt / 1000)} to ${formatNumber(steady.endAt / 1000)} s of ${formatNumber(summary.durationMs / 1000)} s, at least ${steady.threshold} of ${summary.peakConcurrency} requests at a time; "requests at a time" is the peak of the run and the mean of the window.`,
    ],
  };
}

const NAMES: Readonly<Record<Latency, string>> = {
  ttft: "TTFT",
  tpot: "TPOT",
  itl: "ITL",
  icl: "ICL",
  e2el: "E2EL",
};

function latencies(summary: Summary): Section {
  const percents = summary.percentiles.map(String);
  const rows = LATENCIES.map((latency) =>
    distributionRow(NAMES[latency], summary.latencies[latency], percents),
  );
  const counts = Object.entries(summary.countedBy).map(([who, count]) => `${who} (${count})`);
  return {
    title: "Latency, milliseconds",
    columns: distributionColumns(percents),
    rows,
    notes: [
      summary.itlOf === "tokens"
        ? "ITL is per token: the server told how many each chunk brought."
        : `ITL is per ${summary.itlOf === "chunks" ? "chunk: the server did not tell the tokens in each" : "token for some requests and per chunk for the others: the server told the tokens of some"}.`,
      ...(counts.length === 0 ? [] : [`Output tokens counted by ${counts.join(", ")}.`]),
    ],
  };
}

function distributionColumns(percents: readonly string[]): string[] {
  return ["", "mean", "std", "min", "median", ...percents.map((p) => `p${p}`), "max", "count"];
}

function distributionRow(
  name: string,
  distribution: Distribution | undefined,
  percents: readonly string[],
): string[] {
  const values =
    distribution === undefined
      ? []
      : [
          distribution.mean,
          distribution.std,
          distribution.min,
          distribution.median,
          ...percents.map((percent) => distribution.percentiles[percent]),
          distribution.max,
          distribution.count,
        ];
  const width = percents.length + 6;
  return [name, ...Array.from({ length: width }, (_, i) => formatNumber(values[i]))];
}

function sources({ sources, inputTokens }: Summary): Section[] {
  if (sources.toldBy === "unknown") return [];
  const total = Object.values(sources.tokens).reduce((sum, tokens) => sum + tokens, 0);
  return [
    {
      title: "Prompt tokens by source",
      columns: ["", "tokens", "share"],
      rows: Object.entries(sources.tokens).map(([source, tokens]) => [
        source,
        formatNumber(tokens),
        `${formatNumber(total === 0 ? 0 : (tokens / total) * 100)} %`,
      ]),
      notes: [
        sources.toldBy === "usage"
          ? "Told by the usage of each request."
          : `Told by the server's counters, which count all its requests; the prompts of this run had ${inputTokens} tokens.`,
      ],
    },
  ];
}

function failures(summary: Summary): Section[] {
  if (summary.failures.length === 0) return [];
  return [
    {
      title: "Failed requests",
      columns: ["class", "count", "the first one said"],
      rows: summary.failures.map(({ name, count, example }) => [name, String(count), example]),
      textual: true,
      notes: [
        `Output tokens that came for them: ${summary.lostOutputTokens}; they are in no latency and no throughput of the whole run.`,
      ],
    },
  ];
}

function client({ client }: Summary): Section {
  return {
    title: "The client itself",
    columns: ["", ""],
    rows: [
      ["cores used", formatNumber(client.cores)],
      ["timers late, p99 ms", formatNumber(client.lagP99Ms)],
      ["timers late, most ms", formatNumber(client.lagMaxMs)],
    ],
    notes: client.warnings.map((warning) => `Warning: ${warning}.`),
  };
}

function compatSection(tool: CompatTool, { run, summary }: RunReport): Section {
  const percents = summary.percentiles.map(String);
  return {
    title: `In the words of ${TOOLS[tool]}`,
    columns: distributionColumns(percents),
    rows: compatRows(tool, run, summary).map(({ word, value }) =>
      typeof value === "object" || value === undefined
        ? distributionRow(word, value, percents)
        : [word, formatNumber(value)].concat(
            percents.map(() => ""),
            ["", "", "", "", ""],
          ),
    ),
  };
}

/** Closes every report. */
export function definitions(): Section {
  return {
    title: "What the words mean, here and elsewhere",
    columns: ["", TOOLS.vllm, TOOLS.sglang, TOOLS.guidellm, TOOLS.aiperf, "what it is"],
    rows: VOCABULARY.map(({ metric, vllm, sglang, guidellm, aiperf, means }) => [
      metric,
      vllm,
      sglang,
      guidellm,
      aiperf,
      means,
    ]),
    textual: true,
    notes: [STATISTICS],
  };
}
