/** Islands are a gain that a sequence can do without: they are found blocks that it holds before it gets to them. */

import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import type { SequenceBlocks } from "./sequence-blocks.ts";

/**
 * Frees islands from block `from` on, the last first, until `count` blocks more are free. False, and nothing changed, when
 * there are not as many that the sequence alone holds.
 */
export function giveUpIslands(
  blocks: SequenceBlocks,
  from: number,
  count: number,
  pool: BlockPool,
): boolean {
  const { tables, islandEnd } = blocks;
  let start = islandEnd;
  let gain = 0;
  while (gain < count && start > from) {
    start--;
    // What is being filled is not given up: its content is on its way.
    if (blocks.isLoading(start)) return false;
    for (const { entries } of tables) {
      const id = entries[start] as number;
      if (id !== NULL_BLOCK && pool.references(id) === 1 && !pool.isFlying(id)) gain++;
    }
  }
  if (gain < count) return false;
  // What is left ends with an island, or where the caller goes on.
  const { entries } = tables[0]!;
  let end = start;
  while (end > from && entries[end - 1] === NULL_BLOCK) end--;
  for (const table of tables) {
    const ids = table.entries.subarray(start).filter((id) => id !== NULL_BLOCK);
    pool.free(ids, ids.length);
    table.resize(end);
  }
  blocks.islandEnd = end;
  return true;
}
