/** What a report is written from; every format shows the same. */

import type { Comparison } from "../ab/comparison.ts";
import type { CompatTool } from "../metrics/compat.ts";
import type { Summary } from "../metrics/summary.ts";
import type { SloTargets } from "../slo.ts";
import type { Run } from "../types.ts";

export interface RunReport {
  readonly run: Run;
  readonly summary: Summary;
}

/** What `--slo-search` found. Rates are conversations a second. */
export interface RateSearch {
  /** Milliseconds. */
  readonly targets: SloTargets;
  /** Of the requests, which keeps them. */
  readonly percentile: number;
  /** In the order in which they were tried. */
  readonly probes: readonly RateProbe[];
  /** The largest rate that holds; absent = none does. */
  readonly best?: number;
  /** The smallest rate that fails; absent = none that was tried does. */
  readonly limit?: number;
}

interface RateProbe {
  readonly rate: number;
  readonly requests: number;
  readonly passed: boolean;
  /** Why not. */
  readonly why?: string;
}

/** What the caches of `bench kv` did. */
export interface KvFindings {
  /** KV blocks that more than one prompt begins with, where they were counted. */
  readonly workingSet?: number;
  readonly sides: readonly KvSide[];
  /** Why there is no verdict; empty = the comparisons stand. */
  readonly refusals: readonly string[];
}

/** Means over the runs of a side. */
export interface KvSide {
  readonly name: string;
  /** Its own flags, as written. */
  readonly flags: string;
  /** KV blocks of the device, where they are known. */
  readonly numBlocks?: number;
  /** Prompt tokens by source: `computed`, `device`, tiers below. */
  readonly tokens: Readonly<Record<string, number>>;
  /** Blocks with cached content that were given to others. */
  readonly evictedBlocks: number;
  readonly preemptions: number;
  /** User and system time of the whole process, of each token of prompts and outputs. */
  readonly cpuMsPerToken: number;
}

export interface BenchReport {
  /** Of kvengine. */
  readonly version: string;
  /** In the order in which they ran; empty for a comparison of files. */
  readonly runs: readonly RunReport[];
  /** Each other side against the first. */
  readonly comparisons: readonly Comparison[];
  /** Where a rate was searched for; `runs` then has the run at the best one. */
  readonly search?: RateSearch;
  /** Of `bench kv`; with refusals there are no comparisons. */
  readonly kv?: KvFindings;
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
