/** Options → what a report is to show, where it goes, and what its figures are held to. */

import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { type Condition, parseFailIf } from "../ab/fail-if.ts";
import { parsePercentiles } from "../metrics/distribution.ts";
import { type Latency, LATENCIES, type SummaryOptions } from "../metrics/summary.ts";
import { parseSloTargets } from "../slo.ts";
import type { ReportOptions } from "./report.ts";
import { parseReportFiles, type ReportFile } from "./write.ts";

export interface ReportRequest {
  readonly summary: SummaryOptions;
  readonly conditions: readonly Condition[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly options: ReportOptions;
  readonly files: readonly ReportFile[];
  /** Of `--save-result`; undefined = none is written. */
  readonly resultFolder?: string;
  /** Empty = made from the runs. */
  readonly resultName: string;
}

type Values = Pick<
  OptionValues,
  | "ab"
  | "goodput"
  | "percentileMetrics"
  | "metricPercentiles"
  | "steadyStateRatio"
  | "failIf"
  | "metadata"
  | "compat"
  | "report"
  | "saveResult"
  | "saveDetailed"
  | "resultDir"
  | "resultFilename"
>;

/** Throws `bad_config` for what is malformed, and for what would have no effect. */
export function reportRequest(values: Values): ReportRequest {
  const summary: SummaryOptions = {
    percentiles: parsePercentiles(values.metricPercentiles),
    percentileMetrics: parseLatencies(values.percentileMetrics),
    goodput: parseSloTargets(values.goodput, "--goodput"),
    steadyStateRatio: values.steadyStateRatio,
  };
  const conditions = parseFailIf(values.failIf);
  for (const condition of conditions) checkCondition(condition, summary, values.ab.length > 1);
  const files = parseReportFiles(values.report);
  checkResultFlags(values, files);
  return {
    summary,
    conditions,
    metadata: parseMetadata(values.metadata),
    options: {
      detailed: values.saveDetailed,
      ...(values.compat === "none" ? {} : { compat: values.compat }),
    },
    files,
    ...(values.saveResult ? { resultFolder: values.resultDir || "." } : {}),
    resultName: values.resultFilename,
  };
}

function parseLatencies(text: string): Latency[] {
  return text.split(",").map((part) => {
    const latency = LATENCIES.find((one) => one === part.trim());
    if (latency !== undefined) return latency;
    throw refusal(
      "--percentile-metrics",
      `\`${part.trim()}\` is no metric`,
      `metrics are ${LATENCIES.join(", ")}, joined by commas`,
    );
  });
}

/** What cannot be measured is said before anything is. */
function checkCondition(
  { text, metric, relative }: Condition,
  { percentiles, percentileMetrics, goodput }: SummaryOptions,
  compared: boolean,
): void {
  const refuse = (why: string, hint: string): never => {
    throw refusal("--fail-if", `\`${text}\` ${why}`, hint);
  };
  if (relative && !compared)
    refuse("is relative, and there is nothing to compare with", "give two sides with --ab");
  if (metric.key === "request_goodput" && Object.keys(goodput).length === 0)
    refuse("needs limits", "give --goodput");
  const [, percent, latency] = /^p([\d.]+)_(\w+)_ms$/.exec(metric.key) ?? [];
  if (percent === undefined) return;
  if (!percentileMetrics.some((one) => one === latency) || !percentiles.includes(Number(percent)))
    refuse(
      "is about a percentile that is not measured",
      "percentiles are those of --metric-percentiles, for the metrics of --percentile-metrics",
    );
}

function checkResultFlags(values: Values, files: readonly ReportFile[]): void {
  const json = values.saveResult || files.some(({ path }) => path.endsWith(".json"));
  const idle = [
    ["--save-detailed", values.saveDetailed && !json],
    ["--result-dir", values.resultDir !== "" && !values.saveResult],
    ["--result-filename", values.resultFilename !== "" && !values.saveResult],
  ] as const;
  for (const [flag, given] of idle)
    if (given) throw refusal(flag, "there is no file of results", "give --save-result");
}

function parseMetadata(texts: readonly string[]): Record<string, string> {
  const metadata: Record<string, string> = {};
  for (const text of texts) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
    if (key === undefined || value === undefined || Object.hasOwn(metadata, key.trim()))
      throw refusal(
        "--metadata",
        `\`${text}\` is not allowed`,
        "allowed is KEY=VALUE, each KEY once; an example is `commit=1a2b3c4`",
      );
    metadata[key.trim()] = value.trim();
  }
  return metadata;
}

function refusal(flag: string, why: string, hint: string): KvEngineError {
  return new KvEngineError("bad_config", `${flag}: ${why}`, { subject: flag, hint });
}
