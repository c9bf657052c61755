/** Rows of the option table for `bench results`. */

export const BENCH_RESULTS_OPTIONS = {
  "results-page": {
    group: "output",
    type: "path",
    default: "bench/RESULTS.md",
    hint: "file",
    commands: ["bench results"],
    help: "The page to write",
    example: "results.md",
  },
  "parts-dir": {
    group: "output",
    type: "path",
    default: "bench/parts",
    hint: "folder",
    commands: ["bench results"],
    help: "Folder of what was measured, part by part: parts that are there are not measured again",
    example: "./parts",
  },
  "time-limit": {
    group: "bench",
    type: "number",
    default: 0,
    min: 0,
    max: 604_800,
    unit: "seconds",
    meaning: "none",
    commands: ["bench results"],
    help: "Begin nothing later than this; the page says what is missing, and the next call goes on",
    example: "600",
  },
} as const;
