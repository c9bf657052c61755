/** Several sequences that go on from one prompt. */

import { firstNeededBlock, type GroupSpec } from "./block-group.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import type { SequenceBlocks } from "./sequence-blocks.ts";

interface ForkedCache {
  readonly pool: BlockPool;
  readonly groups: readonly GroupSpec[];
  readonly blockSize: number;
}

/** See `KvCache.fork`. */
export function forkBlocks(
  from: SequenceBlocks,
  to: SequenceBlocks,
  numTokens: number,
  copies: number[],
  { pool, groups, blockSize }: ForkedCache,
): boolean {
  const position = numTokens - 1;
  const last = Math.floor(position / blockSize);
  const isCopied = position % blockSize !== 0;
  if (pool.numFree < groups.length) return false;
  const firsts = groups.map((spec) => firstNeededBlock(spec, blockSize, position));
  for (const [group, { kind }] of groups.entries()) {
    if (kind === "state") return false;
    const table = from.tables[group]!;
    for (let block = firsts[group]!; block < last; block++)
      if (table.entries[block] === NULL_BLOCK || !table.isPresent(block)) return false;
    if (table.length < last || (isCopied && !table.entries[last])) return false;
  }
  for (const [group, table] of to.tables.entries()) {
    const source = from.tables[group]!.entries;
    const first = firsts[group]!;
    const shared = source.slice(first, last);
    pool.touch(shared, shared.length);
    table.resize(last + 1);
    table.first = first;
    for (const [i, id] of shared.entries()) table.set(first + i, id);
    table.markPresent(0, last);
    table.allocate(last, last + 1, pool);
    if (!isCopied) continue;
    pool.touch(source.subarray(last), 1);
    copies.push(source[last]!, table.entries[last]!);
  }
  to.numGrown = last + 1;
  to.numPresent = last;
  to.numPublished = Math.min(from.numPublished, last);
  to.generation = from.generation;
  return true;
}
