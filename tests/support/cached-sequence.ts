/** A sequence on a cache, without a scheduler: what `schedule` and `commit` do to its blocks, in vLLM's order. */

import { HASH_WORDS } from "../../engine/cache/block-hash.ts";
import type { BlockPool } from "../../engine/cache/block-pool.ts";
import type { GroupSpec, KvCache, SequenceBlocks } from "../../engine/cache/kv-cache.ts";
import { hashBlocks, noneHash } from "./sha256-cbor.ts";

export const FULL: GroupSpec = { kind: "full", window: 0 };
export const STATE: GroupSpec = { kind: "state", window: 0 };
export const windowOf = (window: number): GroupSpec => ({ kind: "window", window });

/** Ids that a pool without earlier use gives, from `first` to `last`. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

export interface CachedSequenceOptions {
  readonly salt?: string | undefined;
  /** Whether cached blocks are looked for; they are published either way. */
  readonly readsCache?: boolean;
  /** Whether blocks beyond the prefix are taken too, which vLLM does not know. */
  readonly islands?: boolean;
}

export class CachedSequence {
  readonly blocks: SequenceBlocks;
  readonly tokens: number[];
  numHitTokens = 0;
  readonly #cache: KvCache;
  readonly #options: CachedSequenceOptions;

  constructor(cache: KvCache, tokens: readonly number[], options: CachedSequenceOptions = {}) {
    this.#cache = cache;
    this.#options = options;
    this.blocks = cache.createBlocks();
    this.tokens = [...tokens];
    this.hash();
  }

  /** Block ids of each group. */
  get ids(): number[][] {
    return this.blocks.tables.map(({ entries }) => [...entries]);
  }

  /** Hashes the full blocks of the tokens. */
  hash(): void {
    const { blocks, tokens } = this;
    const { blockSize } = this.#cache;
    const known = blocks.numHashes;
    const parent =
      known === 0
        ? noneHash("0")
        : blocks.hashes.slice((known - 1) * HASH_WORDS, known * HASH_WORDS);
    const salt = known === 0 ? this.#options.salt : undefined;
    const rest = Int32Array.from(tokens.slice(known * blockSize));
    blocks.appendHashes(hashBlocks(parent, rest, blockSize, salt));
  }

  /** Admits it with room for `numTokens` and publishes what is full. False: not enough free blocks, nothing changed. */
  start(numTokens: number = this.tokens.length, stepId = 0): boolean {
    const cache = this.#cache;
    const most = Math.floor((this.tokens.length - 1) / cache.blockSize);
    const match = cache.match(this.blocks, this.#options.readsCache === false ? 0 : most);
    if (this.#options.islands !== true)
      while (match.numIslands > 0) match.dropLastIsland(cache.pool);
    this.numHitTokens = match.numBlocks * cache.blockSize;
    if (cache.blocksNeeded(match, numTokens, numTokens) > cache.pool.numFree) return false;
    cache.take(this.blocks, match);
    if (!cache.grow(this.blocks, numTokens)) throw new Error("promised blocks were not there");
    const numPresent = Math.min(numTokens, this.tokens.length);
    cache.markPresent(this.blocks, numPresent);
    cache.publish(this.blocks, numPresent, stepId);
    return true;
  }

  /** Appends a token, then gives back what has left the windows and takes a slot for the token. */
  decode(token: number, stepId = 0): boolean {
    const cache = this.#cache;
    const numComputed = this.tokens.length;
    this.tokens.push(token);
    this.hash();
    cache.slide(this.blocks, numComputed);
    if (!cache.grow(this.blocks, numComputed + 1)) return false;
    cache.markPresent(this.blocks, numComputed + 1);
    cache.publish(this.blocks, numComputed + 1, stepId);
    return true;
  }

  release(): void {
    this.#cache.release(this.blocks);
  }
}

/** Hash of a block that stands for some content in tests that need no tokens. */
export function hashNumber(number: number): Int32Array {
  const words = new Int32Array(HASH_WORDS);
  for (let i = 0; i < HASH_WORDS; i++) words[i] = Math.imul(number + 1, 0x9e3779b1 + 2 * i);
  return words;
}

export function allocate(pool: BlockPool, count: number): number[] | undefined {
  const into = new Int32Array(count);
  return pool.allocate(count, into, 0) ? [...into] : undefined;
}

export function free(pool: BlockPool, ids: readonly number[]): void {
  pool.free(Int32Array.from(ids), ids.length);
}

export function touch(pool: BlockPool, ids: readonly number[]): void {
  pool.touch(Int32Array.from(ids), ids.length);
}
