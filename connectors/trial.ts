/** What the suite's engine does with a connector, as rules see it. The engine's side makes it: `connectors/` knows none. */

import type { TrialCounts } from "./trial-counts.ts";

/** What becomes of transfers in a trial. */
export type TransferFate = "ends" | "fails" | "loses a page" | "starts" | "hangs";

export interface TrialOptions {
  /** Everything in a trial follows from it. */
  readonly seed: number;
  /** Blocks beyond what the largest request needs. */
  readonly spareBlocks: number;
  readonly hostPages: number;
  /** Drawn from for each transfer. One that hangs ends when all requests have. Where all end well, time passes too slowly to be late. */
  readonly fates: readonly TransferFate[];
  /** Whether requests are aborted, and the cache is reset. */
  readonly disturbs: boolean;
}

export interface TrialReport {
  /** Requests that did not get the tokens that they get alone. */
  readonly wrong: readonly string[];
  /** Requests that did not end. */
  readonly unfinished: readonly string[];
  /** Blocks that the connector holds when all requests have ended, and every hold has had its time. */
  readonly held: number;
  /** Warnings and errors of the log. */
  readonly lines: readonly string[];
  readonly isDisabled: boolean;
  readonly counts: TrialCounts;
}
