/** One sequence's blocks in all groups, and what is known of its tokens' hashes. `KvCache` changes it. */

import { HASH_WORDS } from "./block-hash.ts";
import { BlockTable } from "./block-table.ts";

export class SequenceBlocks {
  /** One a group. */
  readonly tables: readonly BlockTable[];
  /** 8 words for each full block of the known tokens; the first `numHashes` blocks are valid. */
  hashes: Int32Array = new Int32Array(0);
  numHashes = 0;
  /** Leading blocks that were given to the map. */
  numPublished = 0;
  /** Leading blocks that are present in all groups. */
  numPresent = 0;
  /** Entries, over all groups, that a connector is filling. */
  numLoading = 0;
  /** Leading blocks that have their entries in all groups (null where no position needs them). */
  numGrown = 0;
  /** End of the last island, in blocks: what was found beyond the prefix. No entry from here on, unless grown, has a block. */
  islandEnd = 0;
  /** The cache's generation at admission; blocks of an older one are never published. */
  generation: number;
  /** Number of the request that takes blocks with these tables. */
  readonly owner: number;

  constructor(numGroups: number, generation: number, owner: number) {
    this.owner = owner;
    this.tables = Array.from({ length: numGroups }, () => new BlockTable(8));
    this.generation = generation;
  }

  /** Hashes of the next full blocks. */
  appendHashes(words: Int32Array): void {
    const length = this.numHashes * HASH_WORDS;
    if (length + words.length > this.hashes.length) {
      const grown = new Int32Array(Math.max(length + words.length, this.hashes.length * 2));
      grown.set(this.hashes.subarray(0, length));
      this.hashes = grown;
    }
    this.hashes.set(words, length);
    this.numHashes += words.length / HASH_WORDS;
  }

  /** Whether all groups have block `index`'s KV, or need none of it. */
  isPresent(index: number): boolean {
    for (const table of this.tables) if (!table.isPresent(index)) return false;
    return true;
  }

  /** Whether some group waits for block `index`. */
  isLoading(index: number): boolean {
    for (const table of this.tables) if (table.isLoading(index)) return true;
    return false;
  }

  /** Forgets all blocks; the hashes stay. */
  clear(): void {
    for (const table of this.tables) table.clear();
    this.numPublished = 0;
    this.numPresent = 0;
    this.numLoading = 0;
    this.numGrown = 0;
    this.islandEnd = 0;
  }
}
