/**
 * Cases of vLLM's test_prefix_caching.py and test_kv_cache_utils.py with their numbers: 16 tokens a block and 11 blocks, of which
 * the null block is one, unless said. `README.md` beside this file lists which test is where.
 */

import { describe, expect, test } from "bun:test";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { KvCache, type KvCacheOptions } from "../../../engine/cache/kv-cache.ts";
import {
  allocate,
  CachedSequence,
  free,
  FULL,
  hashNumber,
  range,
  touch,
  windowOf,
} from "../../support/cached-sequence.ts";

function makeCache(options: Partial<KvCacheOptions> = {}): KvCache {
  return new KvCache({
    numBlocks: 11,
    blockSize: 16,
    groups: [FULL],
    prefixCaching: true,
    ...options,
  });
}

/** A prompt of whole blocks of three kinds, then `rest` tokens of its own. */
function promptOf(numBlocks: number, rest: number, own: number, first = 0): number[] {
  const shared = Array.from({ length: numBlocks * 16 }, (_, i) => first + (i >> 4));
  return [...shared, ...Array.from({ length: rest }, () => 1000 + own)];
}

const references = (cache: KvCache, ids: readonly number[]): number[] =>
  ids.map((id) => cache.pool.references(id));

describe("prefix caching with vLLM's numbers", () => {
  test("test_prefill: a shared prefix, the order of freed blocks, a miss that takes them all (I5)", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, promptOf(3, 7, 0));
    expect(first.start()).toBe(true);
    expect([first.numHitTokens, first.blocks.numHashes]).toEqual([0, 3]);
    expect(first.ids).toEqual([[1, 2, 3, 4]]);
    expect(references(cache, [1, 2, 3, 4])).toEqual([1, 1, 1, 1]);
    expect(range(1, 4).map((id) => cache.pool.isHashed(id))).toEqual([true, true, true, false]);

    const second = new CachedSequence(cache, promptOf(3, 5, 1));
    expect(second.start()).toBe(true);
    expect([second.numHitTokens, second.ids]).toEqual([48, [[1, 2, 3, 5]]]);
    expect(references(cache, [1, 2, 3])).toEqual([2, 2, 2]);
    expect(cache.pool.numFree).toBe(5);

    first.release();
    second.release();
    expect(references(cache, range(1, 10))).toEqual(range(1, 10).map(() => 0));
    expect(cache.pool.freeIds()).toEqual([5, 4, 6, 7, 8, 9, 10, 3, 2, 1]);

    const third = new CachedSequence(cache, promptOf(3, 6, 2));
    expect(third.start()).toBe(true);
    expect([third.numHitTokens, third.ids]).toEqual([48, [[1, 2, 3, 5]]]);
    expect(cache.pool.numFree).toBe(6);
    third.release();
    expect(cache.pool.freeIds()).toEqual([5, 4, 6, 7, 8, 9, 10, 3, 2, 1]);

    const all = new CachedSequence(cache, promptOf(10, 0, 3, 500));
    expect(all.start()).toBe(true);
    expect([all.numHitTokens, all.ids]).toEqual([0, [[5, 4, 6, 7, 8, 9, 10, 3, 2, 1]]]);
    expect([cache.pool.numFree, cache.pool.freeIds()]).toEqual([0, []]);
  });

  test("test_prefill_plp: a request that may not read the cache still fills it", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, promptOf(3, 7, 0), { readsCache: false });
    first.start();
    const second = new CachedSequence(cache, promptOf(3, 5, 1));
    second.start();
    expect(second.numHitTokens).toBe(48);
    const third = new CachedSequence(cache, promptOf(3, 7, 0), { readsCache: false });
    third.start();
    expect([third.numHitTokens, third.ids]).toEqual([0, [[6, 7, 8, 9]]]);
    cache.checkIntegrity([first.blocks, second.blocks, third.blocks]);
  });

  test("test_prefill_hybrid_model: full attention and two windows of 32, and what evicted blocks cost", () => {
    const cache = makeCache({ numBlocks: 21, groups: [FULL, windowOf(32), windowOf(32)] });
    const first = new CachedSequence(cache, promptOf(3, 7, 0));
    first.start();
    expect(first.ids).toEqual([range(1, 4), range(5, 8), range(9, 12)]);
    const second = new CachedSequence(cache, promptOf(3, 5, 1));
    second.start();
    expect(second.numHitTokens).toBe(48);
    expect(second.ids).toEqual([
      [1, 2, 3, 13],
      [0, 6, 7, 14],
      [0, 10, 11, 15],
    ]);
    expect(references(cache, [1, 5, 6, 9, 10])).toEqual([2, 1, 2, 1, 2]);

    const { blocks } = new CachedSequence(cache, promptOf(3, 9, 2));
    const hitsWithout = (...evicted: number[]): number => {
      for (const id of evicted) cache.pool.unhash(id);
      const { numBlocks } = cache.match(blocks, 3);
      for (const id of evicted) {
        const group = Math.floor((id - 1) / 4);
        cache.pool.insert(id, blocks.hashes, ((id - 1) % 4) * 8, group, 0);
      }
      return numBlocks;
    };
    expect(hitsWithout(5, 9)).toBe(3);
    expect(hitsWithout(1)).toBe(0);
    expect(hitsWithout(3, 7, 11)).toBe(2);
    expect(hitsWithout(3)).toBe(2);
    expect(hitsWithout(7)).toBe(2);
    expect(hitsWithout(11)).toBe(2);
    expect(hitsWithout(3, 5)).toBe(0);
    expect(hitsWithout(1, 6, 11)).toBe(0);
  });

  test("test_decode: a partial block is filled, hashed, and one more opened", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, promptOf(3, 7, 0));
    sequence.start();
    for (let token = 0; token < 4; token++) expect(sequence.decode(token)).toBe(true);
    expect([sequence.ids, cache.pool.isHashed(4)]).toEqual([[[1, 2, 3, 4]], false]);
    for (let token = 0; token < 15; token++) sequence.decode(token);
    expect(sequence.ids).toEqual([[1, 2, 3, 4, 5]]);
    expect([cache.pool.isHashed(4), cache.pool.isHashed(5)]).toEqual([true, false]);
  });

  test("test_evict: unhashed first, then the longest unused, tails before heads (I5)", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, promptOf(5, 7, 0));
    first.start();
    const second = new CachedSequence(cache, promptOf(3, 0, 1, 200));
    second.start();
    expect([first.ids, second.ids]).toEqual([[[1, 2, 3, 4, 5, 6]], [[7, 8, 9]]]);
    expect(cache.pool.numFree).toBe(1);
    first.release();
    expect(cache.pool.freeIds()).toEqual([6, 10, 5, 4, 3, 2, 1]);
    second.release();
    expect(cache.pool.freeIds()).toEqual([6, 10, 5, 4, 3, 2, 1, 9, 8, 7]);
    const third = new CachedSequence(cache, promptOf(2, 3, 2));
    third.start();
    expect([third.numHitTokens, third.ids]).toEqual([32, [[1, 2, 6]]]);
    expect(cache.pool.numFree).toBe(7);
  });

  test("test_hash_block_correct_reuse: a block that is used again has no hash (I3)", () => {
    const cache = makeCache({ numBlocks: 2 });
    const first = new CachedSequence(cache, promptOf(1, 0, 0));
    first.start();
    first.release();
    expect(cache.pool.isHashed(1)).toBe(true);
    const second = new CachedSequence(cache, promptOf(0, 15, 1));
    second.start();
    expect([second.ids, cache.pool.isHashed(1)]).toEqual([[[1]], false]);
  });

  test("test_computed_blocks_not_evicted: a hit is kept, another cached block goes (I5)", () => {
    const cache = makeCache({ numBlocks: 3 });
    const first = new CachedSequence(cache, promptOf(1, 0, 0));
    first.start();
    const second = new CachedSequence(cache, promptOf(1, 0, 1, 300));
    second.start();
    expect([first.ids, second.ids]).toEqual([[[1]], [[2]]]);
    first.release();
    second.release();
    const third = new CachedSequence(cache, [...promptOf(1, 0, 0), ...promptOf(1, 0, 0, 400)]);
    third.start();
    expect([third.numHitTokens, third.ids]).toEqual([16, [[1, 2]]]);
  });

  test("test_basic_prefix_caching_disabled: no hits, and a full pool refuses", () => {
    const cache = makeCache({ numBlocks: 5, blockSize: 4, prefixCaching: false });
    const tokens = range(0, 15);
    const first = new CachedSequence(cache, tokens.slice(0, 10));
    first.start();
    expect(first.ids[0]!.length).toBe(3);
    first.release();
    const second = new CachedSequence(cache, tokens);
    expect(second.start()).toBe(true);
    expect([second.numHitTokens, second.ids[0]!.length]).toEqual([0, 4]);
    const third = new CachedSequence(cache, tokens.slice(0, 4));
    expect(third.start()).toBe(false);
    expect(third.ids).toEqual([[]]);
    expect(cache.pool.numHashed).toBe(0);
  });

  test("test_cache_blocks: full blocks are published once, a partial one not", () => {
    const cache = makeCache({ numBlocks: 11, blockSize: 4 });
    const sequence = new CachedSequence(cache, range(0, 13));
    cache.take(sequence.blocks, cache.match(sequence.blocks, 0));
    cache.grow(sequence.blocks, 14);
    cache.markPresent(sequence.blocks, 8);
    cache.publish(sequence.blocks, 8, 1);
    expect([cache.pool.numHashed, sequence.blocks.numPublished]).toEqual([2, 2]);
    cache.markPresent(sequence.blocks, 14);
    cache.publish(sequence.blocks, 14, 2);
    expect([cache.pool.numHashed, sequence.blocks.numPublished]).toEqual([3, 3]);
    expect(range(1, 4).map((id) => cache.pool.publishedStep(id))).toEqual([1, 1, 2, -1]);
  });

  test("test_cache_blocks_multi_group: each group has its own entries, a hit needs all", () => {
    const cache = makeCache({ numBlocks: 11, blockSize: 4, groups: [FULL, FULL] });
    const sequence = new CachedSequence(cache, range(0, 8));
    sequence.start(8);
    expect(cache.pool.numHashed).toBe(4);
    const [first, second] = sequence.ids as [number[], number[]];
    const { hashes } = sequence.blocks;
    expect([0, 1].map((group) => cache.pool.find(hashes, 8, group))).toEqual([
      first[1]!,
      second[1]!,
    ]);
    const other = new CachedSequence(cache, range(0, 8));
    expect(cache.match(other.blocks, 2).numBlocks).toBe(2);
    cache.pool.unhash(second[1]!);
    expect(cache.match(other.blocks, 2).numBlocks).toBe(1);
    expect(cache.pool.find(hashes, 8, 0)).toBe(first[1]!);
    cache.pool.unhash(second[0]!);
    expect(cache.match(other.blocks, 2).numBlocks).toBe(0);
  });

  test("test_cache_key_salting: a salt shares with its own only", () => {
    const cache = makeCache();
    const start = (own: number, salt: string | undefined): number => {
      const sequence = new CachedSequence(cache, promptOf(3, 11, own), { salt });
      sequence.start();
      sequence.release();
      return sequence.numHitTokens;
    };
    expect([start(0, "salt1"), start(1, "salt1"), start(2, "salt2"), start(3, undefined)]).toEqual([
      0, 48, 0, 0,
    ]);
    expect(start(4, "salt2")).toBe(48);
  });

  test("test_prefill_not_enough_free_blocks_with_computed_blocks: a refusal leaves counts alone (I6)", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, promptOf(3, 0, 0));
    first.start();
    const tokens = promptOf(6, 0, 0);
    const second = new CachedSequence(cache, tokens);
    second.start();
    expect(second.ids).toEqual([[1, 2, 3, 4, 5, 6]]);
    second.release();
    expect(references(cache, range(1, 6))).toEqual([1, 1, 1, 0, 0, 0]);
    const third = new CachedSequence(cache, promptOf(3, 0, 0, 600));
    third.start();
    const before = cache.pool.freeIds();
    const fourth = new CachedSequence(cache, [...tokens, ...promptOf(3, 0, 0, 700)]);
    expect(fourth.start()).toBe(false);
    expect(fourth.numHitTokens).toBe(96);
    expect(references(cache, range(1, 6))).toEqual([1, 1, 1, 0, 0, 0]);
    expect([cache.pool.freeIds(), fourth.ids]).toEqual([before, [[]]]);
  });

  test("test_reset_prefix_cache: never refuses; who runs keeps blocks and publishes no more", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, promptOf(3, 7, 0));
    first.start();
    const second = new CachedSequence(cache, promptOf(3, 8, 1));
    second.start();
    cache.reset();
    expect([cache.generation, cache.pool.numHashed]).toEqual([1, 0]);
    expect([first.ids, second.ids]).toEqual([[[1, 2, 3, 4]], [[1, 2, 3, 5]]]);
    for (let token = 0; token < 20; token++) second.decode(token);
    expect(cache.pool.numHashed).toBe(0);
    first.release();
    second.release();
    expect(cache.pool.numFree).toBe(10);
    const third = new CachedSequence(cache, promptOf(3, 7, 0));
    third.start();
    expect([third.numHitTokens, cache.pool.numHashed]).toEqual([0, 3]);
    cache.checkIntegrity([third.blocks]);
  });
});

describe("the block pool with vLLM's cases", () => {
  test("test_maybe_evict_cached_block: evicting one of two blocks with a hash keeps the other", () => {
    const pool = new BlockPool(5);
    allocate(pool, 4);
    for (const [id, number] of [
      [1, 0],
      [2, 1],
      [3, 2],
      [4, 0],
    ] as const)
      pool.insert(id, hashNumber(number), 0, 0, 0);
    const found = (): number[] => [0, 1, 2].map((number) => pool.find(hashNumber(number), 0, 0));
    expect(found()).toEqual([1, 2, 3]);
    pool.unhash(2);
    expect(found()).toEqual([1, 0, 3]);
    pool.unhash(1);
    expect(found()).toEqual([4, 0, 3]);
    pool.unhash(4);
    expect([found(), pool.numHashed]).toEqual([[0, 0, 3], 1]);
  });

  test("test_free_kv_cache_block_queue_operations: pop, removal in the middle, append, an empty queue", () => {
    const pool = new BlockPool(6);
    expect(allocate(pool, 1)).toEqual([1]);
    touch(pool, [3]);
    expect(pool.freeIds()).toEqual([2, 4, 5]);
    pool.insert(3, hashNumber(3), 0, 0, 0);
    free(pool, [3]);
    expect(pool.freeIds()).toEqual([2, 4, 5, 3]);
    expect(allocate(pool, 4)).toEqual([2, 4, 5, 3]);
    expect(allocate(pool, 1)).toBeUndefined();
    expect(pool.freeIds()).toEqual([]);
  });

  test("test_free_kv_cache_block_queue_append_n: hashed blocks join the back, call after call", () => {
    const pool = new BlockPool(7);
    const ids = allocate(pool, 6)!;
    for (const id of ids) pool.insert(id, hashNumber(id), 0, 0, 0);
    free(pool, []);
    expect(pool.freeIds()).toEqual([]);
    free(pool, [1]);
    expect(pool.freeIds()).toEqual([1]);
    free(pool, [5, 4]);
    expect(pool.freeIds()).toEqual([1, 4, 5]);
    free(pool, [6, 3, 2]);
    expect(pool.freeIds()).toEqual([1, 4, 5, 2, 3, 6]);
    pool.checkIntegrity();
  });

  test("test_free_kv_cache_block_queue_prepend_n: later calls go before earlier ones, each in its order", () => {
    const pool = new BlockPool(7);
    allocate(pool, 6);
    free(pool, [6]);
    free(pool, [5, 4]);
    expect(pool.freeIds()).toEqual([4, 5, 6]);
    free(pool, [3, 2, 1]);
    expect(pool.freeIds()).toEqual([1, 2, 3, 4, 5, 6]);
    pool.checkIntegrity();
  });

  test("test_free_kv_cache_block_queue_popleft_n: none, one, some, and the rest", () => {
    const pool = new BlockPool(7);
    expect(allocate(pool, 0)).toEqual([]);
    expect(allocate(pool, 1)).toEqual([1]);
    expect(allocate(pool, 2)).toEqual([2, 3]);
    expect(allocate(pool, 4)).toBeUndefined();
    expect(allocate(pool, 3)).toEqual([4, 5, 6]);
    pool.checkIntegrity();
  });

  test("test_free_kv_cache_block_queue_get_all_free_blocks: the queue as it changes", () => {
    const pool = new BlockPool(6);
    expect(pool.freeIds()).toEqual([1, 2, 3, 4, 5]);
    allocate(pool, 1);
    expect(pool.freeIds()).toEqual([2, 3, 4, 5]);
    touch(pool, [4]);
    expect(pool.freeIds()).toEqual([2, 3, 5]);
    free(pool, [4]);
    expect(pool.freeIds()).toEqual([4, 2, 3, 5]);
  });
});
