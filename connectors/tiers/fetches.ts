/**
 * Content on its way from tiers to blocks of the device: first to a host page, then, by the host level, to the block. Whoever wants what is
 * on its way already joins; what does not come is given up at once, so that nobody waits for it.
 */

import type { BlockId, BlockKey, PageId, PlannedBlock, SchedulerContext } from "../connector.ts";
import type { Above } from "../lower-tiers.ts";
import type { TierResult } from "../tier-port.ts";
import type { Level } from "./level.ts";

interface Fetch {
  readonly key: BlockKey;
  readonly level: Level;
  /** Blocks of the device that it is for. */
  readonly blocks: BlockId[];
  /** Where it is brought; undefined = it waits for a page, or for the tier. */
  page: PageId | undefined;
  attempts: number;
  /** When it is given up. */
  until: number;
}

/** Of the time that a plan has: what has not come by then is given up, so that it is not the engine that has to. */
const PATIENCE = 0.9;

export class Fetches {
  readonly #context: SchedulerContext;
  readonly #above: Above;
  readonly #all = new Map<BlockKey, Fetch>();
  /** Those without a page, in order. */
  #waiting: Fetch[] = [];
  /** Content that is given up by the host once it has arrived on the device. */
  readonly #passing = new Set<BlockKey>();

  constructor(context: SchedulerContext, above: Above) {
    this.#context = context;
    this.#above = above;
  }

  /** Where content that is on its way comes from. */
  levelOf(key: BlockKey): Level | undefined {
    return this.#all.get(key)?.level;
  }

  begin(block: PlannedBlock, level: Level, deadline: number): void {
    const { key, id } = block;
    const now = this.#context.now();
    const until = now + PATIENCE * (deadline - now);
    this.#context.wake(until);
    const known = this.#all.get(key);
    if (known !== undefined) {
      known.blocks.push(id);
      known.until = until;
      return;
    }
    const fetch: Fetch = { key, level, blocks: [id], page: undefined, attempts: 0, until };
    this.#all.set(key, fetch);
    this.#waiting.push(fetch);
  }

  /** Gives host pages to those that wait for one, as many as host and tiers allow; gives up those of which none can come. */
  work(): void {
    if (this.#all.size === 0) return;
    const now = this.#context.now();
    for (const fetch of this.#all.values()) if (fetch.until <= now) this.#release(fetch);
    if (this.#waiting.length === 0) return;
    const { host } = this.#above;
    const waiting = this.#waiting.filter((fetch) => this.#isWanted(fetch));
    const begun = new Set<Fetch>();
    for (const [level, fetches] of Map.groupBy(waiting, ({ level }) => level)) {
      const some = fetches.slice(0, level.numLoadsFree);
      const pages = host.take(some.map(({ key }) => key));
      if (pages.length === 0) continue;
      const keys: BlockKey[] = [];
      for (const [i, page] of pages.entries()) {
        const fetch = some[i] as Fetch;
        fetch.page = page;
        fetch.attempts++;
        keys.push(fetch.key);
        begun.add(fetch);
      }
      level.load(keys, pages);
    }
    this.#waiting = waiting.filter((fetch) => !begun.has(fetch));
    // Nothing of ours will free a page or end a load.
    const isStuck = begun.size === 0 && host.cache.numPinned === 0;
    for (const fetch of this.#waiting)
      if (isStuck || !fetch.level.isOpenForLoads) this.#giveUp(fetch);
    this.#waiting = this.#waiting.filter(({ key }) => this.#all.has(key));
  }

  /** Loads from a tier have ended. Answers what is in host pages since now. */
  ended(level: Level, results: readonly TierResult[]): readonly BlockKey[] {
    const arrived: BlockKey[] = [];
    const keys: BlockKey[] = [];
    const blocks: BlockId[] = [];
    for (const result of results) {
      const fetch = this.#all.get(result.key);
      // It is of before a reset.
      const isOurs = fetch !== undefined && fetch.page === result.page;
      const mayRetry = level.ended(result, fetch?.attempts ?? Infinity);
      if (!isOurs) continue;
      if (result.outcome !== "ok") this.#failed(fetch, mayRetry);
      else {
        this.#all.delete(fetch.key);
        arrived.push(fetch.key);
        const block = this.#arrived(fetch);
        if (block === undefined) continue;
        keys.push(fetch.key);
        blocks.push(block);
      }
    }
    this.#above.host.filled(arrived);
    if (keys.length > 0) this.#above.load(keys, blocks);
    return arrived;
  }

  /** A load from the host's page to the device has landed. */
  landed(key: BlockKey): void {
    if (this.#passing.delete(key)) this.#above.host.cache.cool(key);
  }

  /** Everything is of before a reset. */
  clear(): void {
    this.#all.clear();
    this.#waiting = [];
    this.#passing.clear();
  }

  #isWanted(fetch: Fetch): boolean {
    const { transfers } = this.#context;
    if (fetch.blocks.some((id) => transfers.isAwaited(id, fetch.key))) return true;
    this.#all.delete(fetch.key);
    return false;
  }

  #arrived({ key, level, blocks }: Fetch): BlockId | undefined {
    const { transfers } = this.#context;
    if (!level.port.driving.promote) this.#passing.add(key);
    const block = blocks.find((id) => transfers.isAwaited(id, key));
    if (block === undefined) this.landed(key);
    return block;
  }

  #failed(fetch: Fetch, mayRetry: boolean): void {
    this.#above.host.drop(fetch.key);
    fetch.page = undefined;
    if (mayRetry) this.#waiting.push(fetch);
    else this.#giveUp(fetch);
  }

  #giveUp(fetch: Fetch): void {
    this.#all.delete(fetch.key);
    this.#release(fetch);
  }

  /** Nobody waits for it any more; if it is on its way it still comes to the host's page. */
  #release({ key, blocks }: Fetch): void {
    const { transfers } = this.#context;
    const awaited = blocks.splice(0).filter((id) => transfers.isAwaited(id, key));
    if (awaited.length > 0) transfers.giveUp(awaited);
  }
}
