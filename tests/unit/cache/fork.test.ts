import { describe, expect, test } from "bun:test";
import { KvCache, type KvCacheOptions } from "../../../engine/cache/kv-cache.ts";
import { CachedSequence, FULL, range, STATE, windowOf } from "../../support/cached-sequence.ts";

function makeCache(options: Partial<KvCacheOptions> = {}): KvCache {
  return new KvCache({
    numBlocks: 41,
    blockSize: 4,
    groups: [FULL],
    prefixCaching: true,
    ...options,
  });
}

describe("forking", () => {
  test("shares whole blocks, copies the one that is written on", () => {
    const cache = makeCache({ groups: [FULL, windowOf(6)] });
    const first = new CachedSequence(cache, range(1, 11));
    first.start();
    const second = new CachedSequence(cache, range(1, 11));
    const copies: number[] = [];
    expect(cache.fork(first.blocks, second.blocks, 11, copies)).toBe(true);
    expect(first.ids).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(second.ids).toEqual([
      [1, 2, 7],
      [0, 5, 8],
    ]);
    expect(copies).toEqual([3, 7, 6, 8]);
    expect([1, 2, 3, 4, 5, 6, 7, 8].map((id) => cache.pool.references(id))).toEqual([
      2, 2, 2, 1, 2, 2, 1, 1,
    ]);
    cache.checkIntegrity([first.blocks, second.blocks], [3, 6]);
    first.release();
    cache.checkIntegrity([second.blocks], [3, 6]);
    cache.pool.free(Int32Array.of(3, 6), 2);
    second.release();
    cache.checkIntegrity([]);
    expect(cache.pool.numFree).toBe(40);
  });

  test("at a block's first position copies nothing: the block is computed anew", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, range(1, 9));
    first.start();
    const second = new CachedSequence(cache, range(1, 9));
    const copies: number[] = [];
    expect(cache.fork(first.blocks, second.blocks, 9, copies)).toBe(true);
    expect([second.ids, copies]).toEqual([[[1, 2, 4]], []]);
    const third = new CachedSequence(cache, range(1, 9));
    expect(cache.fork(first.blocks, third.blocks, 1, copies)).toBe(true);
    expect([third.ids, copies]).toEqual([[[5]], []]);
    cache.checkIntegrity([first.blocks, second.blocks, third.blocks]);
  });

  test("of an older generation never publishes", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, range(1, 8));
    first.start();
    cache.reset();
    const second = new CachedSequence(cache, range(1, 8));
    cache.fork(first.blocks, second.blocks, 8, []);
    cache.markPresent(second.blocks, 8);
    cache.publish(second.blocks, 8, 1);
    expect(cache.pool.numHashed).toBe(0);
  });

  test("is refused, and nothing changed, without room, without a needed block, or with a state group (I6)", () => {
    const refused = (
      cache: KvCache,
      from: CachedSequence,
      numTokens: number,
      held: number[],
    ): void => {
      const before = cache.pool.freeIds();
      const to = new CachedSequence(cache, from.tokens);
      const copies: number[] = [];
      expect(cache.fork(from.blocks, to.blocks, numTokens, copies)).toBe(false);
      expect([cache.pool.freeIds(), to.ids.flat(), copies]).toEqual([before, [], []]);
      cache.checkIntegrity([from.blocks], held);
    };
    const full = makeCache({ numBlocks: 4 });
    const whole = new CachedSequence(full, range(1, 9));
    whole.start();
    refused(full, whole, 9, []);

    const sliding = makeCache({ groups: [FULL, windowOf(4)] });
    const slid = new CachedSequence(sliding, range(1, 16));
    slid.start();
    sliding.slide(slid.blocks, 16);
    refused(sliding, slid, 8, []);
    refused(sliding, slid, 21, []);

    const early = makeCache();
    const grown = new CachedSequence(early, range(1, 9));
    early.grow(grown.blocks, 9);
    refused(early, grown, 9, []);

    const state = makeCache({ groups: [STATE] });
    const stateful = new CachedSequence(state, range(1, 9));
    stateful.start();
    refused(state, stateful, 9, []);
  });

  test("into tables that are not empty is an error", () => {
    const cache = makeCache();
    const first = new CachedSequence(cache, range(1, 8));
    first.start();
    expect(() => cache.fork(first.blocks, first.blocks, 8, [])).toThrow("not empty");
  });
});
