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
  /** Until then it is wanted in a host page, whether a block waits for it or not. */
  hostUntil: number;
}

/** Milliseconds for which content that no block waits for is wanted in a host page, after it was asked for. */
const WANTED_MS = 5_000;
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
    const known = this.#all.get(key);
    if (known !== undefined) {
      known.blocks.push(id);
      known.until = until;
      return;
    }
    this.#add({ key, level, blocks: [id], page: undefined, attempts: 0, until, hostUntil: 0 });
  }

  /** Whether it is on its way; then it is wanted in a host page, too. */
  wantInHost(key: BlockKey): boolean {
    const fetch = this.#all.get(key);
    if (fetch !== undefined) fetch.hostUntil = this.#context.now() + WANTED_MS;
    return fetch !== undefined;
  }

  /** Content that is not on its way, and is wanted in a host page. */
  beginForHost(key: BlockKey, level: Level): void {
    const hostUntil = this.#context.now() + WANTED_MS;
    this.#add({
      key,
      level,
      blocks: [],
      page: undefined,
      attempts: 0,
      until: hostUntil,
      hostUntil,
    });
  }

  /** Gives host pages to those that wait for one, as many as host and tiers allow; gives up those of which none can come. */
  work(): void {
    if (this.#all.size === 0) return;
    this.#releaseLate();
    if (this.#waiting.length === 0) return;
    const { cache } = this.#above.host;
    this.#waiting = this.#waiting.filter((fetch) => this.#isWanted(fetch));
    // Others have computed it meanwhile, and it was stored.
    this.#load(this.#waiting.filter(({ key }) => cache.ready(key) !== undefined));
    for (const [level, fetches] of Map.groupBy(this.#waiting, ({ level }) => level))
      this.#begin(
        level,
        fetches.filter(({ key }) => !cache.has(key)),
      );
    this.#waiting = this.#waiting.filter((fetch) => this.#isWaiting(fetch));
    // Nothing of ours will free a page or end a load.
    const isStuck = cache.numPinned === 0;
    for (const fetch of this.#waiting)
      if (isStuck || !fetch.level.isOpenForLoads) this.#giveUp(fetch);
    this.#waiting = this.#waiting.filter((fetch) => this.#isWaiting(fetch));
  }

  /** Loads from a tier have ended, which knows of it. Answers what is in host pages since now. */
  ended(level: Level, results: readonly TierResult[]): readonly BlockKey[] {
    const arrived: Fetch[] = [];
    for (const result of results) {
      const fetch = this.#all.get(result.key);
      // It is of before a reset.
      if (fetch === undefined || fetch.page !== result.page) continue;
      if (result.outcome === "ok") arrived.push(fetch);
      else this.#failed(fetch, level.mayRetry(result, fetch.attempts));
    }
    const keys = arrived.map(({ key }) => key);
    this.#above.host.filled(keys);
    this.#load(arrived);
    return keys;
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

  /** Gives up what nobody may wait for any longer, and asks to be called when the next one is. */
  #releaseLate(): void {
    const now = this.#context.now();
    let next = Infinity;
    for (const fetch of this.#all.values()) {
      if (fetch.blocks.length === 0) continue;
      if (fetch.until <= now) this.#release(fetch);
      else next = Math.min(next, fetch.until);
    }
    if (next < Infinity) this.#context.wake(next);
  }

  #add(fetch: Fetch): void {
    this.#all.set(fetch.key, fetch);
    this.#waiting.push(fetch);
  }

  #isWanted(fetch: Fetch): boolean {
    const { transfers } = this.#context;
    if (fetch.hostUntil > this.#context.now()) return true;
    if (fetch.blocks.some((id) => transfers.isAwaited(id, fetch.key))) return true;
    this.#all.delete(fetch.key);
    return false;
  }

  #isWaiting({ key, page }: Fetch): boolean {
    return page === undefined && this.#all.has(key);
  }

  /** Gives them host pages, as many as tier and host allow. */
  #begin(level: Level, fetches: readonly Fetch[]): void {
    const some = fetches.slice(0, level.numLoadsFree);
    const pages = this.#above.host.take(some.map(({ key }) => key));
    if (pages.length === 0) return;
    for (const [i, page] of pages.entries()) {
      const fetch = some[i] as Fetch;
      fetch.page = page;
      fetch.attempts++;
    }
    level.load(
      some.slice(0, pages.length).map(({ key }) => key),
      pages,
    );
  }

  /** They are in host pages: on to the device. */
  #load(fetches: readonly Fetch[]): void {
    const { transfers } = this.#context;
    const keys: BlockKey[] = [];
    const ids: BlockId[] = [];
    for (const { key, level, blocks, hostUntil } of fetches) {
      this.#all.delete(key);
      if (!level.port.driving.promote && hostUntil === 0) this.#passing.add(key);
      const id = blocks.find((block) => transfers.isAwaited(block, key));
      if (id === undefined) {
        this.landed(key);
        continue;
      }
      keys.push(key);
      ids.push(id);
    }
    if (keys.length > 0) this.#above.load(keys, ids);
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
