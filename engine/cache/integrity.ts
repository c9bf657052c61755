/** Whether the tables of all sequences and the pool tell the same story. */

import { KvEngineError } from "../errors.ts";
import { HASH_WORDS, sameHash } from "./block-hash.ts";
import { type BlockPool, NULL_BLOCK } from "./block-pool.ts";
import type { BlockTable } from "./block-table.ts";
import type { SequenceBlocks } from "./sequence-blocks.ts";

interface CheckedCache {
  readonly pool: BlockPool;
  readonly generation: number;
}

/** Throws `internal` unless the holders' and the extra references are exactly those of the pool, and each table is sound. */
export function checkHolders(
  { pool, generation }: CheckedCache,
  holders: Iterable<SequenceBlocks>,
  extra: Iterable<number>,
): void {
  const expected = new Int32Array(pool.numBlocks);
  const hold = (id: number): void => {
    if (!(id > NULL_BLOCK && id < pool.numBlocks)) broken(`${id} is held and no block`);
    expected[id] = (expected[id] as number) + 1;
  };
  for (const id of extra) hold(id);
  for (const blocks of holders) {
    checkCounts(blocks);
    for (const [group, table] of blocks.tables.entries()) {
      checkTable(table, blocks);
      for (const [block, id] of table.entries.entries()) {
        if (id === NULL_BLOCK) continue;
        hold(id);
        if (blocks.generation === generation) checkHash(blocks, group, block, id, pool);
      }
    }
  }
  for (let id = 1; id < pool.numBlocks; id++) {
    const references = pool.references(id);
    if (references !== expected[id])
      broken(`block ${id} has ${references} references, its holders ${expected[id]}`);
  }
}

function checkCounts(blocks: SequenceBlocks): void {
  const { numPublished, numPresent, numGrown, numHashes } = blocks;
  if (numPublished > numPresent || numPresent > numGrown || numPublished > numHashes) {
    broken(
      `${numPublished} blocks published, ${numPresent} present, ${numGrown} grown, ${numHashes} hashes`,
    );
  }
}

function checkTable(table: BlockTable, { numGrown, numPresent, islandEnd }: SequenceBlocks): void {
  const { entries, first } = table;
  if (entries.length < numGrown || first > numGrown)
    broken(`a table of ${entries.length} entries from ${first} on, ${numGrown} are grown`);
  for (const [block, id] of entries.entries()) {
    const isNull = id === NULL_BLOCK;
    const isPresent = table.isPresent(block);
    const isWrong =
      block < first ? !isNull : block < numGrown ? isNull : isNull ? isPresent : block >= islandEnd;
    if (isWrong) broken(`entry ${block} is ${id}, from ${first} on ${numGrown} are grown`);
    if (block < numPresent && !isPresent) broken(`entry ${block} is ${table.state(block)}`);
  }
}

/** A block that others can find as this content holds it: present, and the hash is that of its place. */
function checkHash(
  { tables, hashes, numHashes }: SequenceBlocks,
  group: number,
  block: number,
  id: number,
  pool: BlockPool,
): void {
  const hash = pool.hashOf(id);
  if (hash === undefined || block >= numHashes) return;
  if (!sameHash(hash, 0, hashes, block * HASH_WORDS) || pool.groupOf(id) !== group)
    broken(`block ${id} stands as entry ${block} of group ${group} and has another's hash`);
  if (!tables[group]!.isPresent(block)) broken(`block ${id} can be found and is not present`);
}

function broken(what: string): never {
  throw new KvEngineError("internal", `kv cache: ${what}`);
}
