/**
 * The KV cache as sequences use it: block tables in all groups, found prefixes, publication, and what leaves a window. It
 * decides over blocks only: when a step has committed and who may run is the scheduler's.
 *
 * A sequence's tables grow in all groups alike; a block index means the same positions in each. Entry states tell what is
 * there: the prefix, then runs to be computed between islands.
 */

import { KvEngineError } from "../errors.ts";
import {
  checkGroups,
  firstNeededBlock,
  type GroupSpec,
  peakBlocks,
  peakOfGroup,
} from "./block-group.ts";
import { BlockPool, NULL_BLOCK } from "./block-pool.ts";
import { forkBlocks } from "./fork.ts";
import { checkHolders } from "./integrity.ts";
import type { BlockTable } from "./block-table.ts";
import { giveUpIslands } from "./islands.ts";
import { type Coming, type Match, OFFERED, PrefixMatcher } from "./match.ts";
import { publishBlocks, withdrawBlocks } from "./publish.ts";
import { SequenceBlocks } from "./sequence-blocks.ts";

export type { Coming, GroupSpec, Match, SequenceBlocks };

/** An entry of a sequence's tables that waits for its content. */
export interface LoadingEntry {
  readonly block: number;
  readonly group: number;
  readonly id: number;
  /** The block was allocated for it: nobody else is having it filled. */
  readonly isNew: boolean;
}

const NOTHING_LOADING: readonly LoadingEntry[] = [];

export interface KvCacheOptions {
  /** The null block included. */
  readonly numBlocks: number;
  /** Tokens of a block. */
  readonly blockSize: number;
  readonly groups: readonly GroupSpec[];
  /** Whether blocks are found again by their content. */
  readonly prefixCaching: boolean;
}

export class KvCache {
  readonly pool: BlockPool;
  readonly groups: readonly GroupSpec[];
  readonly blockSize: number;
  readonly prefixCaching: boolean;
  /** Number of the request that took blocks last; -1 = none did. */
  taker: number = -1;
  readonly #matcher: PrefixMatcher;
  /** Whether any group gives blocks back while a sequence runs. */
  readonly #slides: boolean;
  #generation = 0;
  #scratch = new Int32Array(64);

  constructor({ numBlocks, blockSize, groups, prefixCaching }: KvCacheOptions) {
    if (!Number.isInteger(blockSize) || blockSize < 1) {
      throw new KvEngineError(
        "bad_config",
        `a block of ${blockSize} tokens; allowed is 1 and more`,
        {
          subject: "blockSize",
        },
      );
    }
    checkGroups(groups);
    this.pool = new BlockPool(numBlocks);
    this.groups = groups;
    this.blockSize = blockSize;
    this.prefixCaching = prefixCaching;
    this.#matcher = new PrefixMatcher(this.pool, groups, blockSize);
    this.#slides = groups.some(({ kind }) => kind !== "full");
  }

  /** How often the cache was reset. */
  get generation(): number {
    return this.#generation;
  }

  /** `owner`: number of the request, for those who ask who took a block. */
  createBlocks(owner: number = -1): SequenceBlocks {
    return new SequenceBlocks(this.groups.length, this.#generation, owner);
  }

  /**
   * The longest prefix in whole blocks, at most `maxBlocks`, that is valid for all groups, and later blocks below `maxBlocks`
   * that all groups have. From block `comingFrom` on, what is `coming` counts like what is there. Changes nothing. The answer is
   * valid until the next call, and for as long as the pool is not changed.
   */
  match(blocks: SequenceBlocks, maxBlocks: number, coming?: Coming, comingFrom = 0): Match {
    return this.#matcher.match(blocks, this.prefixCaching ? maxBlocks : 0, coming, comingFrom);
  }

  /**
   * Blocks that leave the free count when the match is taken and the tables grow to `numTokens`, at most at a time: found
   * ones that are free, and new ones. Islands that could never be held beside the rest are dropped from the match, the last
   * first: with all blocks free the answer is at most `peak`, so a request that can be served at all is never kept out.
   */
  blocksNeeded(match: Match, numTokens: number, maxInFlightTokens: number): number {
    let needed = this.#needed(match, numTokens, maxInFlightTokens);
    while (needed > this.pool.numFree && match.numIslands > 0) {
      match.dropLastIsland(this.pool);
      needed = this.#needed(match, numTokens, maxInFlightTokens);
    }
    return needed;
  }

  /**
   * References the found blocks and puts them into the empty tables, null where a position of the prefix has left the window.
   * Offered ones get new blocks. From here on the sequence is of this generation. Answers the entries that have no content yet:
   * the new ones, and those of which `isLoading` says so.
   */
  take(
    blocks: SequenceBlocks,
    match: Match,
    isLoading: (id: number) => boolean = never,
  ): readonly LoadingEntry[] {
    if (match.owner !== blocks || blocks.numGrown > 0) {
      const why = blocks.numGrown > 0 ? "to tables that are not empty" : "of another sequence";
      throw new KvEngineError("internal", `a match ${why} cannot be taken`);
    }
    const { numBlocks, islandEnd, numOffered } = match;
    match.owner = undefined;
    this.taker = blocks.owner;
    for (const [group, table] of blocks.tables.entries()) {
      const first = firstNeededBlock(
        this.groups[group] as GroupSpec,
        this.blockSize,
        numBlocks * this.blockSize,
      );
      table.resize(Math.max(numBlocks, islandEnd));
      table.first = first;
      table.markPresent(0, numBlocks);
      this.#takeFound(table, match.found[group] as Int32Array, numBlocks);
    }
    blocks.numGrown = numBlocks;
    blocks.islandEnd = islandEnd;
    blocks.generation = this.#generation;
    // After the found ones have their references: new blocks come from the free queue.
    const loading = this.#takeLoading(blocks, match, numOffered, isLoading);
    blocks.numLoading = loading.length;
    blocks.numPresent = firstLoading(blocks, numBlocks);
    blocks.numPublished = blocks.numPresent;
    return loading;
  }

  /** The content of an entry has come. */
  arrived(blocks: SequenceBlocks, block: number, group: number): void {
    blocks.tables[group]!.mark(block, "present");
    blocks.numLoading--;
    const { numGrown } = blocks;
    while (blocks.numPresent < numGrown && blocks.isPresent(blocks.numPresent)) blocks.numPresent++;
  }

  /** Whether a block before position `numTokens` is still loading, so that nothing from there on can be computed. */
  isBlocked(blocks: SequenceBlocks, numTokens: number): boolean {
    return blocks.numLoading > 0 && blocks.numPresent < Math.floor(numTokens / this.blockSize);
  }

  /**
   * Fills the tables up to `numTokens`; false, and nothing changed, when too few blocks are free. Before it answers false it
   * gives up the sequence's own islands beyond `numTokens` that nobody else holds.
   */
  grow(blocks: SequenceBlocks, numTokens: number): boolean {
    const end = Math.ceil(numTokens / this.blockSize);
    const start = blocks.numGrown;
    if (end <= start) return true;
    const perGroup = missingEntries(blocks, end);
    const lacking = perGroup * this.groups.length - this.pool.numFree;
    if (lacking > 0 && !giveUpIslands(blocks, end, lacking, this.pool)) return false;
    this.taker = blocks.owner;
    for (const table of blocks.tables) {
      if (table.length < end) table.resize(end);
      if (perGroup === end - start) {
        table.allocate(start, end, this.pool);
        continue;
      }
      const scratch = this.#scratchOf(perGroup);
      this.pool.allocate(perGroup, scratch, 0);
      let next = 0;
      for (let block = start; block < end; block++)
        if (table.entries[block] === NULL_BLOCK) table.set(block, scratch[next++] as number);
    }
    blocks.numGrown = end;
    return true;
  }

  /** Blocks that `grow` would take from the pool. */
  growth(blocks: SequenceBlocks, numTokens: number): number {
    const end = Math.ceil(numTokens / this.blockSize);
    return end <= blocks.numGrown ? 0 : missingEntries(blocks, end) * this.groups.length;
  }

  /** Blocks that a sequence holds at most at a time over all groups: `peakBlocks`. */
  peak(numTokens: number, maxInFlightTokens: number): number {
    return peakBlocks(this.groups, this.blockSize, numTokens, maxInFlightTokens);
  }

  /** The end of present KV from `numTokens` on: itself, or the end of the island that begins there. */
  presentEnd(blocks: SequenceBlocks, numTokens: number): number {
    let block = Math.floor(numTokens / this.blockSize);
    if (block * this.blockSize !== numTokens) return numTokens;
    while (block < blocks.islandEnd && blocks.isPresent(block)) block++;
    return block * this.blockSize;
  }

  /** Where the missing run that holds position `numTokens` ends: the start of the next island (present or loading), or Infinity. */
  missingEnd(blocks: SequenceBlocks, numTokens: number): number {
    let block = Math.ceil(numTokens / this.blockSize);
    for (; block < blocks.islandEnd; block++)
      if (blocks.isPresent(block) || blocks.isLoading(block)) return block * this.blockSize;
    return Infinity;
  }

  /** Marks whole blocks up to `numTokens` present: the step that computes them is submitted. */
  markPresent(blocks: SequenceBlocks, numTokens: number): void {
    const end = Math.min(Math.floor(numTokens / this.blockSize), blocks.numGrown);
    if (end <= blocks.numPresent) return;
    for (const table of blocks.tables) table.markPresent(blocks.numPresent, end);
    blocks.numPresent = end;
  }

  /**
   * Gives the hashes of full blocks below `numTokens` to the map, in all groups, as of step `stepId`. Null entries and entries
   * that have a hash are passed by, and nothing is published behind a block that is not present. Does nothing when caching is
   * off or the sequence is of an older generation.
   */
  publish(blocks: SequenceBlocks, numTokens: number, stepId: number): void {
    const end = Math.min(
      Math.floor(numTokens / this.blockSize),
      blocks.numHashes,
      blocks.numPresent,
    );
    if (end <= blocks.numPublished) return;
    if (!this.prefixCaching || blocks.generation !== this.#generation) return;
    publishBlocks(blocks, end, stepId, this.pool);
  }

  /**
   * Takes the hashes of the sequence's blocks back that were published by step `stepId` or a later one: their content is not
   * what the hash says. They count as missing from here on. Answers their ids.
   */
  withdraw(blocks: SequenceBlocks, stepId: number): readonly number[] {
    return withdrawBlocks(blocks, stepId, this.pool);
  }

  /**
   * Frees the blocks of window and state groups that no position from `numTokens` on needs; their entries become null. All
   * tokens below `numTokens` must be committed.
   */
  slide(blocks: SequenceBlocks, numTokens: number): void {
    if (!this.#slides) return;
    for (let group = 0; group < this.groups.length; group++) {
      const table = blocks.tables[group]!;
      const needed = firstNeededBlock(this.groups[group]!, this.blockSize, numTokens);
      const first = Math.min(needed, blocks.numGrown);
      if (first <= table.first) continue;
      const scratch = this.#scratchOf(first - table.first);
      let count = 0;
      for (let block = table.first; block < first; block++) {
        const id = table.entries[block] as number;
        if (id === NULL_BLOCK) continue;
        scratch[count++] = id;
        table.set(block, NULL_BLOCK);
      }
      table.first = first;
      this.pool.free(scratch, count);
    }
  }

  /**
   * Shares with the empty `to` what computing from position `numTokens - 1` on needs: whole blocks by reference; instead of the
   * block that holds the position a new one in each group, into which the pair (from, new) pushed to `copies` must be copied,
   * unless the position is its first. The source of each pair gets one reference more, which the caller frees when the copy
   * has run. False, and nothing changed: too few blocks, a needed block is gone, or there is a state group.
   */
  fork(from: SequenceBlocks, to: SequenceBlocks, numTokens: number, copies: number[]): boolean {
    if (to.numGrown > 0)
      throw new KvEngineError("internal", "a fork into tables that are not empty");
    this.taker = to.owner;
    return forkBlocks(from, to, numTokens, copies, this);
  }

  /** Gives all blocks back, of each group the tail first, and empties the tables; the hashes stay. */
  release(blocks: SequenceBlocks): void {
    for (const table of blocks.tables) {
      const { entries } = table;
      const scratch = this.#scratchOf(entries.length);
      let count = 0;
      for (let block = table.first; block < entries.length; block++) {
        const id = entries[block] as number;
        if (id !== NULL_BLOCK) scratch[count++] = id;
      }
      this.pool.free(scratch, count);
      table.clear();
    }
    blocks.clear();
  }

  /** Drops all hashes; what was admitted before publishes no more. Never refuses: running sequences keep their blocks. */
  reset(): void {
    this.pool.unhashAll();
    this.#generation++;
  }

  /**
   * Throws `internal` unless each block has exactly the references of the holders and of `extra` (one for each time an id is
   * named), tables and states hold together, and pool and map agree with themselves.
   */
  checkIntegrity(holders: Iterable<SequenceBlocks>, extra: Iterable<number> = []): void {
    this.pool.checkIntegrity();
    checkHolders(this, holders, extra);
  }

  #needed(match: Match, numTokens: number, maxInFlightTokens: number): number {
    const { numBlocks, numIslands, numFreePrefixHits } = match;
    const all = Math.ceil(numTokens / this.blockSize);
    const numNew = Math.max(0, all - numBlocks - numIslands);
    let needed = match.numFreeHits;
    for (let group = 0; group < this.groups.length; group++) {
      const freeHits = numFreePrefixHits[group] as number;
      const spec = this.groups[group] as GroupSpec;
      const peak = peakOfGroup(spec, this.blockSize, numTokens, maxInFlightTokens);
      needed += Math.min(numNew, peak - freeHits);
    }
    return needed;
  }

  #takeFound(table: BlockTable, found: Int32Array, numBlocks: number): void {
    const scratch = this.#scratchOf(table.length);
    let count = 0;
    for (let block = table.first; block < table.length; block++) {
      const id = found[block] as number;
      if (id <= NULL_BLOCK) continue;
      scratch[count++] = id;
      table.set(block, id);
      if (block >= numBlocks) table.markPresent(block, block + 1);
    }
    this.pool.touch(scratch, count);
  }

  #takeLoading(
    { tables }: SequenceBlocks,
    { found }: Match,
    numOffered: number,
    isLoading: (id: number) => boolean,
  ): readonly LoadingEntry[] {
    if (numOffered === 0 && isLoading === never) return NOTHING_LOADING;
    const ids = new Int32Array(numOffered);
    if (!this.pool.allocate(numOffered, ids, 0))
      throw new KvEngineError("internal", "a match was taken that does not fit");
    const loading: LoadingEntry[] = [];
    let next = 0;
    for (const [group, table] of tables.entries()) {
      for (let block = table.first; block < table.length; block++) {
        const isNew = found[group]![block] === OFFERED;
        const id = isNew ? (ids[next++] as number) : (table.entries[block] as number);
        if (!isNew && (id === NULL_BLOCK || !isLoading(id))) continue;
        table.set(block, id);
        table.mark(block, "loading");
        loading.push({ block, group, id, isNew });
      }
    }
    return loading;
  }

  /** Room for a call's ids. */
  #scratchOf(length: number): Int32Array {
    if (length > this.#scratch.length)
      this.#scratch = new Int32Array(Math.max(length, this.#scratch.length * 2));
    return this.#scratch;
  }
}

function never(): boolean {
  return false;
}

/** The first of the leading `numBlocks` blocks that some group is still loading; `numBlocks` when there is none. */
function firstLoading({ tables }: SequenceBlocks, numBlocks: number): number {
  for (let block = 0; block < numBlocks; block++)
    if (tables.some((table) => table.isLoading(block))) return block;
  return numBlocks;
}

/** Entries of one table (they are the same in all) from the grown ones up to `end` that have no block. */
function missingEntries({ tables, numGrown, islandEnd }: SequenceBlocks, end: number): number {
  let missing = end - numGrown;
  const { entries } = tables[0]!;
  for (let block = Math.min(end, islandEnd) - 1; block >= numGrown; block--)
    if (entries[block] !== NULL_BLOCK) missing--;
  return missing;
}
