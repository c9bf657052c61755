/** Rows of the option table for the reports of the serving benchmarks, and for what they may be held to. */

export const BENCH_REPORT_OPTIONS = {
  report: {
    group: "output",
    type: "text",
    default: "",
    hint: "files",
    commands: ["bench compare"],
    help: "Files to write, joined by commas; the ending is the format: .json (vLLM's keys), .jsonl (a line a request), .csv, .md, .html (plots)",
    example: "run.json,run.html",
  },
  "fail-if": {
    group: "bench",
    type: "text",
    default: "",
    hint: "conditions",
    commands: ["bench compare"],
    help: "Exit with 1 where one of these holds: METRIC>LIMITx against side a, METRIC>LIMIT as it is (200ms, 0.2s); < too; commas join several",
    example: "tpot_p99>1.05x,ttft_p99>200ms",
  },
} as const;
