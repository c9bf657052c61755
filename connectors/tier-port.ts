/**
 * A tier as the tiered connector has it: it names host pages and keys, and the engine moves the bytes, by native threads or by the calls
 * of a tier that is written in JavaScript. No method throws, whatever the tier does.
 */

import type { BlockKey } from "./block-pool-view.ts";
import type { TierDriving } from "./tier-options.ts";

/** A page of the host pool. See `PageId` of `connector.ts`. */
type Page = number;

/**
 * `ok`: the page arrived. `none`: a load found nothing, or a store was declined. `older`: the tier gave a page from an earlier run or
 * from before a reset. `wrong`: it gave a page that is not what was stored. `failed`: it threw, or answered what it may not. `late`: it
 * did not answer in time. `host`: the host page could not be read; the tier is not to blame.
 */
export type TierOutcome = "ok" | "none" | "older" | "wrong" | "failed" | "late" | "host";

/** What became of a page. */
export interface TierResult {
  readonly kind: "load" | "store";
  readonly key: BlockKey;
  readonly page: Page;
  readonly outcome: TierOutcome;
  /** What the tier said, where it failed. */
  readonly reason?: string;
  /** Milliseconds from the call to the end. */
  readonly ms: number;
}

export interface TierPort {
  readonly name: string;
  readonly driving: TierDriving;
  /** False until it has started, and for good once it has held up the engine's thread. */
  readonly isUsable: boolean;
  /** Whether what it keeps is of use to the next run. */
  readonly isDurable: boolean;
  /** Pages that are better stored together, where so many come soon: each call costs as much as some pages do. 1 = none are. */
  readonly storesAtOnce: number;
  /** Pages that may be begun now, by kind. A page whose call has timed out counts until the tier settles it. */
  numFree(kind: "load" | "store"): number;
  /** As `KvTier.has`; undefined = it failed. A promise settles in time and never rejects. */
  has(
    keys: readonly BlockKey[],
  ): readonly boolean[] | undefined | Promise<readonly boolean[] | undefined>;
  /** Begins to move pages of the connector, as many as are free at most. Each has one result, some time after the call. */
  move(kind: "load" | "store", keys: readonly BlockKey[], pages: readonly Page[]): void;
  remove(keys: readonly BlockKey[]): void;
  /** Content of this weight, above 0, goes behind what has less, also what is stored later; left out = the tier keeps all alike. */
  weigh?(keys: readonly BlockKey[], weight: number): void;
  clear(): void;
  /** What has ended since the last call; `wake` is called when there is some. */
  takeResults(): readonly TierResult[];
  /** Settles when there are results to be taken, or nothing is under way. */
  ended(): Promise<void>;
  /** What the tier says of itself. */
  stats(): Readonly<Record<string, number>>;
  /** Settles when the tier has ended, or at the deadline; never rejects. */
  shutdown(deadline: number): Promise<void>;
}
