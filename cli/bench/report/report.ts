/** What a report is written from; every format shows the same. */

import type { Comparison } from "../ab/comparison.ts";
import type { CompatTool } from "../metrics/compat.ts";
import type { Summary } from "../metrics/summary.ts";
import type { Run } from "../types.ts";

export interface RunReport {
  readonly run: Run;
  readonly summary: Summary;
}

export interface BenchReport {
  /** Of kvengine. */
  readonly version: string;
  /** In the order in which they ran; empty for a comparison of files. */
  readonly runs: readonly RunReport[];
  /** Each other side against the first. */
  readonly comparisons: readonly Comparison[];
  /** Of the whole session: why it ended early. */
  readonly warnings: readonly string[];
  /** `--metadata`. */
  readonly metadata: Readonly<Record<string, string>>;
}

export interface ReportOptions {
  /** Adds the figures in another tool's words. */
  readonly compat?: CompatTool;
  /** Adds a list a request to JSON, as vLLM's `--save-detailed`. */
  readonly detailed?: boolean;
}
