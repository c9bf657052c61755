/** Copies from host pages to blocks of the device. */

import type { GpuBlockPoolView } from "./block-pool-view.ts";
import type {
  BlockId,
  BlockKey,
  FlightId,
  PageId,
  SchedulerContext,
  TransferResult,
} from "./connector.ts";
import type { HostLevel } from "./host-level.ts";
import type { LowerTiers } from "./lower-tiers.ts";

/** Blocks of one load: requests go on with the first while the next is copied. */
const MOST_OF_LOAD = 16;

/** A transfer under way: what each of its blocks holds, or is to hold. */
export interface Moving {
  readonly keys: readonly BlockKey[];
  readonly blocks: readonly BlockId[];
}

export interface HostLoadsParts {
  readonly view: GpuBlockPoolView;
  readonly host: HostLevel;
  readonly below: LowerTiers | undefined;
  readonly transfers: Pick<SchedulerContext["transfers"], "load">;
}

export class HostLoads {
  readonly #parts: HostLoadsParts;
  readonly #moving = new Map<FlightId, Moving>();

  constructor(parts: HostLoadsParts) {
    this.#parts = parts;
  }

  /** All keys are ready in host pages; each has the block that it is to be copied to. */
  begin(keys: readonly BlockKey[], blocks: readonly BlockId[]): void {
    const { host, transfers } = this.#parts;
    for (let from = 0; from < keys.length; from += MOST_OF_LOAD) {
      const some = keys.slice(from, from + MOST_OF_LOAD);
      const theirs = blocks.slice(from, from + MOST_OF_LOAD);
      const pages = some.map((key) => host.cache.ready(key) as PageId);
      this.#moving.set(transfers.load(pages, theirs), { keys: some, blocks: theirs });
      for (const key of some) {
        host.cache.pin(key);
        host.cache.touch(key);
      }
    }
  }

  /** A flight has ended; one of before a reset is passed over. */
  ended({ id, failedBlockIds, cancelled }: TransferResult): void {
    const { view, host, below } = this.#parts;
    const { keys, blocks } = this.#moving.get(id) ?? { keys: [], blocks: [] };
    this.#moving.delete(id);
    const failed = new Set(failedBlockIds);
    const arrived: BlockId[] = [];
    for (const [i, key] of keys.entries()) {
      const block = blocks[i] as BlockId;
      // A page that could not be read is not offered again.
      if (!cancelled && failed.has(block)) host.drop(key);
      else host.cache.unpin(key);
      if (!failed.has(block) && host.cache.has(key)) arrived.push(block);
      below?.landed(key);
    }
    // What has just been brought is there twice: it is not stored again.
    view.markSafe(arrived);
  }

  clear(): void {
    this.#moving.clear();
  }
}
