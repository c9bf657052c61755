/** What names a block's content: a hash of its tokens and of everything before them, 8 words (sha256). */

/** Words of a hash. */
export const HASH_WORDS = 8;

/**
 * Hashes of the full blocks of `tokens`, 8 words each. `parent` (8 words) is the hash of the block before the first one; the
 * salt belongs to the first block only, and through the chain to all others.
 */
export type HashBlocks = (
  parent: Int32Array,
  tokens: Int32Array,
  blockSize: number,
  salt?: string,
) => Int32Array;

/** Hashes of blocks of different sequences: block `i` of `tokens` behind the block whose hash is at word `8 * i` of `parents`. */
export type HashEach = (parents: Int32Array, tokens: Int32Array, blockSize: number) => Int32Array;

/** Whether the hash at word `aAt` of `a` is the one at word `bAt` of `b`. */
export function sameHash(a: Int32Array, aAt: number, b: Int32Array, bAt: number): boolean {
  for (let word = 0; word < HASH_WORDS; word++) if (a[aAt + word] !== b[bAt + word]) return false;
  return true;
}
