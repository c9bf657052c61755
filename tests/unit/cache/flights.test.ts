/** Blocks that are being copied: they keep their place and content, and are not handed out. */

import { describe, expect, test } from "bun:test";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { KvCache } from "../../../engine/cache/kv-cache.ts";
import {
  allocate,
  CachedSequence,
  free,
  FULL,
  hashNumber,
  range,
  touch,
} from "../../support/cached-sequence.ts";
import { cachedPool } from "../../support/connector-blocks.ts";

function begin(pool: BlockPool, ...ids: number[]): void {
  pool.beginFlight(Int32Array.from(ids), ids.length);
}

function end(pool: BlockPool, ...ids: number[]): void {
  pool.endFlight(Int32Array.from(ids), ids.length);
}

/** Free and flying blocks; the rest is used. */
function counts(pool: BlockPool): { free: number; flying: number; used: number } {
  pool.checkIntegrity();
  return { free: pool.numFree, flying: pool.numFlying, used: pool.numUsed };
}

describe("a block in flight", () => {
  test("keeps its place among the free ones, and is stepped over (I5, I31)", () => {
    const pool = cachedPool(6);
    begin(pool, 1, 3);
    expect(pool.freeIds()).toEqual([1, 2, 3, 4, 5, 6]);
    expect(counts(pool)).toEqual({ free: 4, flying: 2, used: 0 });
    expect(allocate(pool, 2)).toEqual([2, 4]);
    expect(pool.freeIds()).toEqual([1, 3, 5, 6]);
    expect([pool.isHashed(1), pool.isHashed(2)]).toEqual([true, false]);
    end(pool, 1, 3);
    expect(allocate(pool, 3)).toEqual([1, 3, 5]);
    expect(counts(pool)).toEqual({ free: 1, flying: 0, used: 5 });
  });

  test("counts as free when the last of its flights has ended", () => {
    const pool = cachedPool(2);
    begin(pool, 1, 1);
    begin(pool, 1);
    end(pool, 1);
    expect([pool.isFlying(1), pool.isFree(1), pool.numFree]).toEqual([true, false, 1]);
    end(pool, 1, 1);
    expect([pool.isFlying(1), pool.isFree(1), pool.numFree]).toEqual([false, true, 2]);
  });

  test("that is freed meanwhile takes its usual place and is handed out after the flight", () => {
    const pool = new BlockPool(5);
    const table = allocate(pool, 3)!;
    pool.insert(1, hashNumber(1), 0, 0, 0);
    begin(pool, 1, 2);
    expect(counts(pool)).toEqual({ free: 1, flying: 0, used: 3 });
    free(pool, table);
    expect(pool.freeIds()).toEqual([3, 2, 4, 1]);
    expect(counts(pool)).toEqual({ free: 2, flying: 2, used: 0 });
    expect(allocate(pool, 2)).toEqual([3, 4]);
    end(pool, 1, 2);
    expect(allocate(pool, 2)).toEqual([2, 1]);
  });

  test("that is touched is used like any other, and flies on when it is freed again", () => {
    const pool = cachedPool(3);
    begin(pool, 2);
    touch(pool, [2]);
    expect(counts(pool)).toEqual({ free: 2, flying: 0, used: 1 });
    expect([pool.references(2), pool.isFlying(2)]).toEqual([1, true]);
    free(pool, [2]);
    expect(pool.freeIds()).toEqual([1, 3, 2]);
    expect(counts(pool)).toEqual({ free: 2, flying: 1, used: 0 });
  });

  test("is not handed out when nothing else is left: the call is refused and changes nothing (I6)", () => {
    const pool = cachedPool(3);
    begin(pool, 1, 2);
    expect(allocate(pool, 2)).toBeUndefined();
    expect(pool.freeIds()).toEqual([1, 2, 3]);
    expect(range(1, 3).map((id) => pool.generation(id))).toEqual([1, 1, 1]);
    expect(allocate(pool, 1)).toEqual([3]);
    expect(allocate(pool, 1)).toBeUndefined();
    expect(allocate(pool, 0)).toEqual([]);
  });

  test("loses its content to a withdrawal or a reset, and nothing else", () => {
    const pool = cachedPool(4);
    begin(pool, 1, 2);
    pool.unhash(1);
    pool.unhashAll();
    expect([pool.isHashed(1), pool.isHashed(2), pool.numHashed]).toEqual([false, false, 0]);
    expect(pool.freeIds()).toEqual([1, 2, 3, 4]);
    expect(counts(pool)).toEqual({ free: 2, flying: 2, used: 0 });
    end(pool, 1, 2);
    expect(allocate(pool, 4)).toEqual([1, 2, 3, 4]);
  });

  test.each([[0], [4], [-1], [1.5]])(
    "cannot be %p: an error that changes nothing (I2)",
    (wrong) => {
      const pool = cachedPool(3);
      expect(() => pool.beginFlight(Float64Array.of(1, wrong) as never, 2)).toThrow(
        "not one of 1..3",
      );
      expect(counts(pool)).toEqual({ free: 3, flying: 0, used: 0 });
    },
  );

  test("cannot end more flights than were begun: an error that changes nothing (I8)", () => {
    const pool = cachedPool(3);
    begin(pool, 1, 2);
    for (const ids of [[1, 3], [1, 1], [2, 0], [9]]) {
      expect(() => end(pool, ...ids)).toThrow("is not in flight");
      expect([1, 2, 3].map((id) => pool.isFlying(id))).toEqual([true, true, false]);
      expect(counts(pool)).toEqual({ free: 1, flying: 2, used: 0 });
    }
  });
});

describe("the cost of allocating", () => {
  /** Loop turns of an allocation of `count` blocks with `flying` blocks in flight at the head of a large pool. */
  function operationsOf(count: number, flying: number): number {
    const pool = cachedPool(10_000, 0);
    begin(pool, ...range(1, flying));
    const before = pool.operations;
    allocate(pool, count);
    return pool.operations - before;
  }

  test("is one look a block when nothing is in flight", () => {
    expect([operationsOf(1, 0), operationsOf(64, 0)]).toEqual([1, 64]);
  });

  test("is one more for each block in flight near the head, and none for those behind", () => {
    expect([operationsOf(1, 100), operationsOf(64, 100)]).toEqual([101, 164]);
    const pool = cachedPool(10_000, 0);
    begin(pool, ...range(101, 5_000));
    const before = pool.operations;
    allocate(pool, 64);
    expect(pool.operations - before).toBe(64);
  });
});

describe("the cache with blocks in flight", () => {
  const A = [1, 2, 3, 4, 5];

  test("does not count a found block in flight as one that taking it uses up", () => {
    const cache = new KvCache({ numBlocks: 6, blockSize: 2, groups: [FULL], prefixCaching: true });
    const first = new CachedSequence(cache, A);
    first.start();
    const [head] = first.ids[0]!;
    first.release();
    begin(cache.pool, head!);
    const second = new CachedSequence(cache, A);
    const match = cache.match(second.blocks, 2);
    expect([match.numBlocks, match.numFreeHits]).toEqual([2, 1]);
    expect(cache.blocksNeeded(match, 5, 5)).toBe(2);
    cache.take(second.blocks, match);
    expect(cache.pool.numFree).toBe(3);
    end(cache.pool, head!);
    expect(cache.pool.numFree).toBe(3);
    cache.checkIntegrity([second.blocks]);
  });

  test("gives up an island in flight for nothing, so it keeps it and is refused", () => {
    const cache = new KvCache({ numBlocks: 5, blockSize: 2, groups: [FULL], prefixCaching: true });
    const first = new CachedSequence(cache, A);
    first.start();
    const [head, island] = first.ids[0]!;
    first.release();
    cache.pool.unhash(head!);
    const second = new CachedSequence(cache, A);
    cache.take(second.blocks, cache.match(second.blocks, 2));
    const others = allocate(cache.pool, cache.pool.numFree)!;
    begin(cache.pool, island!);
    expect(cache.grow(second.blocks, 2)).toBe(false);
    expect(second.ids).toEqual([[0, island!]]);
    end(cache.pool, island!);
    expect(cache.grow(second.blocks, 2)).toBe(true);
    expect(second.ids).toEqual([[island!]]);
    cache.checkIntegrity([second.blocks], others);
  });
});
