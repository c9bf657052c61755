/** What connectors marked of one request's missing blocks: the first one to mark a block brings it. */

import { HASH_WORDS } from "../cache/block-hash.ts";
import { blockKey } from "../cache/block-key.ts";
import { type BlockPool, NULL_BLOCK } from "../cache/block-pool.ts";
import { type Coming, OFFERED } from "../cache/match.ts";
import type { LoadingBlocks } from "./loading-blocks.ts";
import type { BlockMarks } from "./look-up.ts";

const NOBODY = 0;

export class BlockOffers implements Coming, BlockMarks {
  readonly numGroups: number;
  readonly blockSize: number;
  numBlocks = 0;
  numDeviceBlocks = 0;
  readonly #pool: BlockPool;
  readonly #loading: LoadingBlocks;
  /** By `block * numGroups + group`: the connector's place plus 1. */
  #marks: Uint8Array = new Uint8Array(64);
  readonly #tiers: string[] = [];
  #hashes: Int32Array = new Int32Array(0);
  #isLeftOut: (connector: number) => boolean = () => false;
  #numMarked = 0;

  constructor(pool: BlockPool, loading: LoadingBlocks, numGroups: number, blockSize: number) {
    this.#pool = pool;
    this.#loading = loading;
    this.numGroups = numGroups;
    this.blockSize = blockSize;
  }

  /** Begins the look-up of another request. What connectors that are left out mark counts for nothing. */
  open(
    hashes: Int32Array,
    numBlocks: number,
    numDeviceBlocks: number,
    isLeftOut: (connector: number) => boolean,
  ): void {
    const size = numBlocks * this.numGroups;
    if (size > this.#marks.length) this.#marks = new Uint8Array(size * 2);
    else this.#marks.fill(NOBODY, 0, size);
    this.#hashes = hashes;
    this.numBlocks = numBlocks;
    this.numDeviceBlocks = numDeviceBlocks;
    this.#isLeftOut = isLeftOut;
    this.#numMarked = 0;
  }

  /** Blocks that are marked, over all groups. */
  get numMarked(): number {
    return this.#numMarked;
  }

  find(hashes: Int32Array, block: number, group: number): number {
    const id = this.#loading.find(hashes, block, group);
    if (id !== NULL_BLOCK) return id;
    const isMarked = block < this.numBlocks && this.#marks[this.#at(block, group)] !== NOBODY;
    return isMarked ? OFFERED : NULL_BLOCK;
  }

  /** Who brings a marked block, and from where. */
  offerOf(block: number, group: number): { readonly connector: number; readonly tier: string } {
    const at = this.#at(block, group);
    return { connector: (this.#marks[at] as number) - 1, tier: this.#tiers[at] as string };
  }

  isWanted(block: number, group: number): boolean {
    if (this.#marks[this.#at(block, group)] !== NOBODY) return false;
    const hashes = this.#hashes;
    if (this.#pool.find(hashes, block * HASH_WORDS, group) !== NULL_BLOCK) return false;
    if (this.#loading.find(hashes, block, group) !== NULL_BLOCK) return false;
    const { givenUp } = this.#loading;
    return givenUp.size === 0 || !givenUp.has(blockKey(hashes, block * HASH_WORDS, group));
  }

  mark(connector: number, block: number, group: number, tier: string): void {
    if (this.#isLeftOut(connector)) return;
    const at = this.#at(block, group);
    this.#marks[at] = connector + 1;
    this.#tiers[at] = tier;
    this.#numMarked++;
  }

  unmark(connector: number): void {
    this.#unmark((at) => this.#marks[at] === connector + 1);
  }

  /** What is marked is not brought from this tier after all. */
  unmarkTier(tier: string): void {
    this.#unmark((at) => this.#tiers[at] === tier);
  }

  /** Blocks that are marked, over all groups, by tier. */
  countByTier(): Map<string, number> {
    const counts = new Map<string, number>();
    const end = this.numBlocks * this.numGroups;
    for (let at = 0; at < end; at++) {
      if (this.#marks[at] === NOBODY) continue;
      const tier = this.#tiers[at] as string;
      counts.set(tier, (counts.get(tier) ?? 0) + 1);
    }
    return counts;
  }

  #unmark(is: (at: number) => boolean): void {
    const end = this.numBlocks * this.numGroups;
    for (let at = 0; at < end; at++) {
      if (this.#marks[at] === NOBODY || !is(at)) continue;
      this.#marks[at] = NOBODY;
      this.#numMarked--;
    }
  }

  #at(block: number, group: number): number {
    return block * this.numGroups + group;
  }
}
