/** Keeps each sequence's block hashes as long as its tokens are known. */

import type { HashBlocks } from "../cache/block-hash.ts";
import type { Sequence } from "./sequence.ts";

const HASH_WORDS = 8;

export class PromptHasher {
  readonly #hashBlocks: HashBlocks;
  readonly #noneHash: Int32Array;
  readonly #blockSize: number;
  readonly #enabled: boolean;

  /** `noneHash` stands for the parent of a first block. */
  constructor(
    hashBlocks: HashBlocks,
    noneHash: Int32Array,
    blockSize: number,
    options: { readonly enabled: boolean },
  ) {
    this.#hashBlocks = hashBlocks;
    this.#noneHash = noneHash;
    this.#blockSize = blockSize;
    this.#enabled = options.enabled;
  }

  /** Hashes full blocks of known tokens that have no hash yet; false when there is none. */
  extend({ blocks, tokenIds, numTokens, request }: Sequence): boolean {
    const known = blocks.numHashes;
    const whole = Math.floor(numTokens / this.#blockSize);
    if (!this.#enabled || whole <= known) return false;
    const parent =
      known === 0
        ? this.#noneHash
        : blocks.hashes.subarray((known - 1) * HASH_WORDS, known * HASH_WORDS);
    const tokens = tokenIds.subarray(known * this.#blockSize, whole * this.#blockSize);
    const salt = known === 0 ? request.cacheSalt : undefined;
    blocks.appendHashes(this.#hashBlocks(parent, tokens, this.#blockSize, salt));
    return true;
  }
}
