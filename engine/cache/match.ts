/**
 * Which of a sequence's blocks are in the cache: the longest prefix that every group can go on behind, and later blocks that
 * all groups have ("islands"). Each block is looked up at most twice in a group. Blocks that connectors bring count like those
 * that are there, from a block on that the caller names.
 */

import { HASH_WORDS } from "./block-hash.ts";
import { firstNeededBlock, type GroupSpec, runBeforeBoundary } from "./block-group.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import type { SequenceBlocks } from "./sequence-blocks.ts";

/** Stands in `Match.found` for a block that a connector can bring. */
export const OFFERED = -1;

/** Blocks that are not on the device and may come there. */
export interface Coming {
  /** Looks for block `block` of the sequence: the id of the device block that is being filled with it, `OFFERED`, or 0. */
  find(hashes: Int32Array, block: number, group: number): number;
}

/** What was found. The matcher uses one object again and again; it is valid until the next call. */
export class Match {
  /** Whose tokens these are; undefined before the first call and once it was taken. */
  owner: SequenceBlocks | undefined;
  /** Blocks of the prefix. */
  numBlocks = 0;
  /** Blocks beyond the prefix that all groups have. */
  numIslands = 0;
  /** End of the last island in blocks; 0 = none. */
  islandEnd = 0;
  /** The highest step that published any of the found blocks; -1 = none. */
  newestStep = -1;
  /**
   * Found blocks that count as free, over all groups: taking one leaves one fewer. One in flight counts as none; an offered one as
   * one, since it needs a new block.
   */
  numFreeHits = 0;
  /** Offered ones alone. */
  numOffered = 0;
  /** Those that are being filled for others. */
  numLoading = 0;
  /** Those of the prefix, of each group. */
  readonly numFreePrefixHits: Int32Array;
  /**
   * Of each group, by block, to the end of prefix and islands: what was found (present, being filled, or `OFFERED`); 0 in a gap,
   * or where no position needs it.
   */
  readonly found: Int32Array[];

  constructor(numGroups: number) {
    this.numFreePrefixHits = new Int32Array(numGroups);
    this.found = Array.from({ length: numGroups }, () => new Int32Array(0));
  }

  /** Gives up the last block of the islands; it has to be computed then. */
  dropLastIsland(pool: BlockPool): void {
    const last = this.islandEnd - 1;
    for (const found of this.found) {
      const id = found[last] as number;
      if (id === OFFERED) this.numOffered--;
      else if (!pool.isHashed(id)) this.numLoading--;
      if (id === OFFERED || pool.isFree(id)) this.numFreeHits--;
      found[last] = NULL_BLOCK;
    }
    this.numIslands--;
    const some = this.found[0] as Int32Array;
    this.islandEnd = this.numIslands === 0 ? 0 : last;
    while (this.islandEnd > 0 && some[this.islandEnd - 1] === NULL_BLOCK) this.islandEnd--;
  }
}

export class PrefixMatcher {
  readonly #pool: BlockPool;
  readonly #groups: readonly GroupSpec[];
  readonly #blockSize: number;
  readonly #match: Match;
  /** Of each group that is not full: `runStart` to `runEnd` is the run of found blocks looked at last. */
  readonly #runStarts: Int32Array;
  #coming: Coming | undefined;
  /** Blocks before this one count only when they are there. */
  #comingFrom = 0;

  constructor(pool: BlockPool, groups: readonly GroupSpec[], blockSize: number) {
    this.#pool = pool;
    this.#groups = groups;
    this.#blockSize = blockSize;
    this.#match = new Match(groups.length);
    this.#runStarts = new Int32Array(groups.length);
  }

  /** Looks at no more than `maxBlocks` blocks of the sequence; from `comingFrom` on also at what is coming. */
  match(blocks: SequenceBlocks, maxBlocks: number, coming?: Coming, comingFrom = 0): Match {
    const match = this.#match;
    this.#coming = coming;
    this.#comingFrom = comingFrom;
    const limit = Math.max(0, Math.min(maxBlocks, blocks.numHashes));
    for (const [group, found] of match.found.entries()) {
      if (found.length < limit) match.found[group] = new Int32Array(Math.max(limit, 64));
    }
    match.owner = blocks;
    match.numIslands = 0;
    match.islandEnd = 0;
    match.newestStep = -1;
    match.numFreeHits = 0;
    match.numOffered = 0;
    match.numLoading = 0;
    match.numBlocks = this.#prefix(blocks.hashes, limit);
    this.#keepNeeded(match.numBlocks);
    if (this.#pool.numHashed > 0 || coming !== undefined)
      this.#islands(blocks.hashes, match.numBlocks, limit);
    return match;
  }

  #prefix(hashes: Int32Array, limit: number): number {
    let end = limit;
    for (const [group, { kind }] of this.#groups.entries())
      if (kind === "full") end = this.#leading(group, hashes, end);
    this.#runStarts.fill(-1);
    // A group may only shorten the prefix, so this comes to rest; a group remembers the run it found, so it looks on from there.
    for (let stable = false; !stable;) {
      stable = true;
      for (let group = 0; group < this.#groups.length && end > 0; group++) {
        if ((this.#groups[group] as GroupSpec).kind === "full") continue;
        const shorter = this.#trailing(group, hashes, end);
        if (shorter < end) stable = false;
        end = shorter;
      }
    }
    return end;
  }

  /** How many of the first `end` blocks are there without a gap. */
  #leading(group: number, hashes: Int32Array, end: number): number {
    const found = this.#match.found[group] as Int32Array;
    for (let block = 0; block < end; block++) {
      const id = this.#find(hashes, block, group);
      if (id === NULL_BLOCK) return block;
      found[block] = id;
    }
    return end;
  }

  /** The highest boundary, at most `end`, that has as many blocks before it as the group needs. */
  #trailing(group: number, hashes: Int32Array, end: number): number {
    const found = this.#match.found[group] as Int32Array;
    const needed = runBeforeBoundary(this.#groups[group] as GroupSpec, this.#blockSize);
    const runStart = this.#runStarts[group] as number;
    // Blocks runStart..end are known to be there.
    let start = runStart >= 0 && runStart < end ? runStart : end;
    while (start > 0 && end - start < needed) {
      const id = this.#find(hashes, start - 1, group);
      start--;
      if (id === NULL_BLOCK) end = start;
      else found[start] = id;
    }
    this.#runStarts[group] = start;
    return end;
  }

  /** Of the prefix, what no group needs becomes null; counts the rest. */
  #keepNeeded(end: number): void {
    const match = this.#match;
    for (const [group, spec] of this.#groups.entries()) {
      const found = match.found[group] as Int32Array;
      const first = firstNeededBlock(spec, this.#blockSize, end * this.#blockSize);
      found.fill(NULL_BLOCK, 0, first);
      const before = match.numFreeHits;
      for (let block = first; block < end; block++) this.#count(found[block] as number);
      match.numFreePrefixHits[group] = match.numFreeHits - before;
    }
  }

  /** An island is worth nothing unless every group has it: what follows it is computed from all of them. */
  #islands(hashes: Int32Array, from: number, limit: number): void {
    const { found } = this.#match;
    const numGroups = found.length;
    for (let block = from; block < limit; block++) {
      let group = 0;
      for (; group < numGroups; group++) {
        const id = this.#find(hashes, block, group);
        if (id === NULL_BLOCK) break;
        (found[group] as Int32Array)[block] = id;
      }
      if (group === numGroups) this.#addIsland(block);
      else for (const ids of found) ids[block] = NULL_BLOCK;
    }
  }

  #addIsland(block: number): void {
    const match = this.#match;
    match.numIslands++;
    match.islandEnd = block + 1;
    for (const found of match.found) this.#count(found[block] as number);
  }

  #find(hashes: Int32Array, block: number, group: number): number {
    const id = this.#pool.find(hashes, block * HASH_WORDS, group);
    if (id !== NULL_BLOCK || this.#coming === undefined || block < this.#comingFrom) return id;
    return this.#coming.find(hashes, block, group);
  }

  #count(id: number): void {
    const match = this.#match;
    if (id === OFFERED) {
      match.numOffered++;
      match.numFreeHits++;
      return;
    }
    if (!this.#pool.isHashed(id)) match.numLoading++;
    if (this.#pool.isFree(id)) match.numFreeHits++;
    match.newestStep = Math.max(match.newestStep, this.#pool.publishedStep(id));
  }
}
