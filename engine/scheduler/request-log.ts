/** What the scheduler tells of requests, so that somebody may say later why their prompts were cached or not: `engine/explain/` does. */

import type { LoadingEntry } from "../cache/kv-cache.ts";
import type { Sequence } from "./sequence.ts";

/** What was found of a request's beginning, in leading blocks. */
export interface Found {
  /** Blocks that were looked for, at most. */
  readonly maxBlocks: number;
  /** Those that the device had, and the same with those that connectors are to bring. */
  readonly numDeviceBlocks: number;
  readonly numBlocks: number;
  /** Blocks that there would be if all that connectors offered were loaded. */
  readonly numOfferedBlocks: number;
  /** Whether all is used that was found behind those. */
  readonly usesAll: boolean;
}

export interface RequestLog {
  /** A step is about to be planned: what happens from here on happens at another time. */
  planning(): void;
  /** A request joins the queue. */
  added(sequence: Sequence): void;
  /** It is about to take its first blocks, again after it gave up what it had. */
  admitted(sequence: Sequence, found: Found): void;
  /** It waits for these entries. */
  loading(sequence: Sequence, entries: readonly LoadingEntry[]): void;
  /** It has ended; its tokens and hashes are still its own. */
  ended(sequence: Sequence): void;
}
