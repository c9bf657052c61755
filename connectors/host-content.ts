/**
 * Content of host pages as the engine moves it outside of requests: a session that is frozen, thawed, written to a file or read from one.
 * No method waits; what was begun is gone on with by calling again.
 */

import type { BlockKey } from "./block-pool-view.ts";

/** A page of the host pool. See `PageId` of `connector.ts`. */
type Page = number;

export interface HostContent {
  /** The page that holds it; undefined = none, or not yet. */
  pageOf(key: BlockKey): Page | undefined;
  /** Begins what brings content that has no page to one: from the device, or from a tier. Answers what of it may still come. */
  bring(keys: readonly BlockKey[]): readonly BlockKey[];
  /** Content of host pages that tiers are to have which outlast the process. */
  keep(keys: readonly BlockKey[]): void;
  /** Pages for the first of `keys`, none of which may have one: the caller fills them, then calls `filled` or `drop` for each. */
  take(keys: readonly BlockKey[]): readonly Page[];
  filled(keys: readonly BlockKey[]): void;
  drop(key: BlockKey): void;
}
