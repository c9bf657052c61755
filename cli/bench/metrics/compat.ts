/** The figures of a run in another tool's words and by its definitions, for a look side by side (`--compat`). */

import type { RequestRecord, Run } from "../types.ts";
import { describe, type Distribution } from "./distribution.ts";
import { requestTimes } from "./request-times.ts";
import type { Summary } from "./summary.ts";

export type CompatTool = "vllm" | "guidellm" | "aiperf";

export interface CompatRow {
  /** With its unit, as the tool prints it. */
  readonly word: string;
  /** Undefined: no request has it. */
  readonly value: number | Distribution | undefined;
}

export function compatRows(tool: CompatTool, run: Run, summary: Summary): readonly CompatRow[] {
  switch (tool) {
    case "vllm":
      return vllmRows(summary);
    case "guidellm":
      return guidellmRows(run, summary);
    default:
      return aiperfRows(run, summary);
  }
}

function vllmRows(summary: Summary): CompatRow[] {
  const { ttft, tpot, icl, e2el } = summary.latencies;
  const { goodput } = summary;
  return [
    { word: "Successful requests", value: summary.completed },
    { word: "Failed requests", value: summary.failed },
    { word: "Benchmark duration (s)", value: summary.durationMs / 1000 },
    { word: "Total input tokens", value: summary.inputTokens },
    { word: "Total generated tokens", value: summary.outputTokens },
    { word: "Request throughput (req/s)", value: summary.requestThroughput },
    ...(goodput === undefined ? [] : [{ word: "Request goodput (req/s)", value: goodput.rate }]),
    { word: "Output token throughput (tok/s)", value: summary.outputThroughput },
    { word: "Peak output token throughput (tok/s)", value: summary.peakOutputTokens },
    { word: "Peak concurrent requests", value: summary.openInASecond },
    { word: "Total token throughput (tok/s)", value: summary.totalThroughput },
    { word: "TTFT (ms)", value: ttft },
    { word: "TPOT (ms)", value: tpot },
    { word: "ITL (ms)", value: icl },
    { word: "E2EL (ms)", value: e2el },
  ];
}

function guidellmRows(run: Run, summary: Summary): CompatRow[] {
  const { ttft, tpot } = summary.latencies;
  const completed = run.records.filter(({ outcome }) => outcome === "ok");
  const percents = summary.percentiles;
  const perToken = completed.flatMap((record) => {
    const last = record.chunks.at(-1);
    return last === undefined || record.outputTokens === 0
      ? []
      : (last.at - record.sentAt) / record.outputTokens;
  });
  const latencies = completed.map(({ sentAt, endedAt }) => (endedAt - sentAt) / 1000);
  return [
    { word: "Successful requests", value: summary.completed },
    { word: "Incomplete requests", value: countOf(run.records, "cut") },
    { word: "Errored requests", value: countOf(run.records, "error") },
    { word: "Requests Per Second", value: summary.requestThroughput },
    { word: "Output Tokens Per Second", value: summary.outputThroughput },
    { word: "Total Tokens Per Second", value: summary.totalThroughput },
    { word: "Request Latency (s)", value: describe(latencies, percents) },
    { word: "TTFT (ms)", value: ttft },
    { word: "ITL (ms)", value: tpot },
    { word: "TPOT (ms)", value: describe(perToken, percents) },
  ];
}

function aiperfRows(run: Run, summary: Summary): CompatRow[] {
  const { ttft, tpot, icl, e2el } = summary.latencies;
  const completed = run.records.filter(({ outcome }) => outcome === "ok");
  const perUser = completed.flatMap((record) => {
    const { tpot } = requestTimes(record);
    return tpot === undefined || tpot === 0 ? [] : 1000 / tpot;
  });
  return [
    { word: "Request Count", value: summary.completed },
    { word: "Error Request Count", value: summary.failed },
    { word: "Benchmark Duration (sec)", value: summary.durationMs / 1000 },
    { word: "Request Throughput (requests/sec)", value: summary.requestThroughput },
    { word: "Output Token Throughput (tokens/sec)", value: summary.outputThroughput },
    { word: "Total Token Throughput (tokens/sec)", value: summary.totalThroughput },
    ...(summary.goodput === undefined
      ? []
      : [{ word: "Goodput (requests/sec)", value: summary.goodput.rate }]),
    { word: "Time to First Token (ms)", value: ttft },
    { word: "Inter Token Latency (ms)", value: tpot },
    { word: "Inter Chunk Latency (ms)", value: icl },
    { word: "Request Latency (ms)", value: e2el },
    {
      word: "Output Token Throughput Per User (tokens/sec/user)",
      value: describe(perUser, summary.percentiles),
    },
  ];
}

function countOf(records: readonly RequestRecord[], outcome: RequestRecord["outcome"]): number {
  return records.filter((record) => record.outcome === outcome).length;
}
