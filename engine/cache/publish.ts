/** Which of a sequence's blocks others can find. */

import { HASH_WORDS } from "./block-hash.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import type { SequenceBlocks } from "./sequence-blocks.ts";

/** Gives the hashes of the blocks up to `end` to the map that it does not have. The blocks are present. */
export function publishBlocks(
  blocks: SequenceBlocks,
  end: number,
  stepId: number,
  pool: BlockPool,
): void {
  const { tables, hashes, numPublished } = blocks;
  for (let group = 0; group < tables.length; group++) {
    const { entries } = tables[group]!;
    if (end - numPublished > 1)
      pool.prefetchKeys(hashes, numPublished * HASH_WORDS, end - numPublished, group);
    for (let block = numPublished; block < end; block++) {
      const id = entries[block] as number;
      if (id !== NULL_BLOCK && !pool.isHashed(id))
        pool.insert(id, hashes, block * HASH_WORDS, group, stepId);
    }
  }
  blocks.numPublished = end;
}

/** Takes back what was published by step `stepId` or a later one. Answers the ids. */
export function withdrawBlocks(blocks: SequenceBlocks, stepId: number, pool: BlockPool): number[] {
  const ids: number[] = [];
  for (const table of blocks.tables) {
    for (const [block, id] of table.entries.entries()) {
      if (id === NULL_BLOCK || pool.publishedStep(id) < stepId) continue;
      pool.unhash(id);
      ids.push(id);
      table.mark(block, "missing");
      blocks.numPublished = Math.min(blocks.numPublished, block);
      blocks.numPresent = Math.min(blocks.numPresent, block);
    }
  }
  return ids;
}
