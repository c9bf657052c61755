/** Keeps each sequence's block hashes as long as its tokens are known. */

import { HASH_WORDS, type HashBlocks, type HashEach } from "../cache/block-hash.ts";
import type { Sequence } from "./sequence.ts";

/** The hash functions, and what stands for the parent of a first block (8 words). */
export interface HashTools {
  readonly hashBlocks: HashBlocks;
  readonly hashEach: HashEach;
  readonly noneHash: Int32Array;
}

export class PromptHasher {
  readonly #tools: HashTools;
  readonly #blockSize: number;
  readonly #enabled: boolean;
  /** Sequences whose next block is full and waits for `flush`, with that block's parent and tokens. */
  readonly #pending: Sequence[] = [];
  #parents: Int32Array;
  #tokens: Int32Array;

  constructor(tools: HashTools, blockSize: number, options: { readonly enabled: boolean }) {
    this.#tools = tools;
    this.#blockSize = blockSize;
    this.#enabled = options.enabled;
    this.#parents = new Int32Array(HASH_WORDS);
    this.#tokens = new Int32Array(blockSize);
  }

  /** Hashes all full blocks of known tokens that have no hash yet. */
  extend({ blocks, tokenIds, numTokens, request }: Sequence): void {
    const known = blocks.numHashes;
    const whole = Math.floor(numTokens / this.#blockSize);
    if (!this.#enabled || whole <= known) return;
    const { noneHash, hashBlocks } = this.#tools;
    const parent =
      known === 0 ? noneHash : blocks.hashes.subarray((known - 1) * HASH_WORDS, known * HASH_WORDS);
    const tokens = tokenIds.subarray(known * this.#blockSize, whole * this.#blockSize);
    const salt = known === 0 ? request.cacheSalt : undefined;
    blocks.appendHashes(hashBlocks(parent, tokens, this.#blockSize, salt));
  }

  /**
   * The same for a sequence that has got tokens in a commit. One more block, as nearly always, is left to `flush`, which
   * hashes those of all sequences in one call.
   */
  grow(sequence: Sequence): void {
    const { blocks, numTokens, tokenIds } = sequence;
    const known = blocks.numHashes;
    const size = this.#blockSize;
    if (numTokens < (known + 1) * size || !this.#enabled) return;
    if (known === 0 || numTokens >= (known + 2) * size) {
      this.extend(sequence);
      return;
    }
    const at = this.#pending.push(sequence) - 1;
    if ((at + 1) * size > this.#tokens.length) {
      this.#parents = twice(this.#parents);
      this.#tokens = twice(this.#tokens);
    }
    for (let i = 0; i < HASH_WORDS; i++)
      this.#parents[at * HASH_WORDS + i] = blocks.hashes[(known - 1) * HASH_WORDS + i] as number;
    for (let i = 0; i < size; i++)
      this.#tokens[at * size + i] = tokenIds[known * size + i] as number;
  }

  /** Hashes what `grow` has left. `done` is called for each sequence once it has its hash. */
  flush(done: (sequence: Sequence) => void): void {
    const count = this.#pending.length;
    if (count === 0) return;
    const hashes = this.#tools.hashEach(
      this.#parents.subarray(0, count * HASH_WORDS),
      this.#tokens.subarray(0, count * this.#blockSize),
      this.#blockSize,
    );
    for (let i = 0; i < count; i++) {
      const sequence = this.#pending[i] as Sequence;
      sequence.blocks.appendHashes(hashes.subarray(i * HASH_WORDS, (i + 1) * HASH_WORDS));
      done(sequence);
    }
    this.#pending.length = 0;
  }
}

function twice(array: Int32Array): Int32Array {
  const grown = new Int32Array(array.length * 2);
  grown.set(array);
  return grown;
}
