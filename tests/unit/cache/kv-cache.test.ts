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

describe("growing", () => {
  test("fills all groups to the same index, one group after the other", () => {
    const cache = makeCache({ groups: [FULL, windowOf(4), STATE] });
    const sequence = new CachedSequence(cache, range(1, 9));
    expect(cache.growth(sequence.blocks, 9)).toBe(9);
    expect(cache.grow(sequence.blocks, 9)).toBe(true);
    expect(sequence.ids).toEqual([range(1, 3), range(4, 6), range(7, 9)]);
    expect(cache.growth(sequence.blocks, 12)).toBe(0);
    expect(cache.grow(sequence.blocks, 12)).toBe(true);
    expect(cache.grow(sequence.blocks, 1)).toBe(true);
    expect(cache.pool.numUsed).toBe(9);
  });

  test("that a part of the groups could have is refused as a whole (I6)", () => {
    const cache = makeCache({ numBlocks: 6, groups: [FULL, FULL] });
    const sequence = new CachedSequence(cache, range(1, 12));
    expect(cache.grow(sequence.blocks, 12)).toBe(false);
    expect([sequence.ids, cache.pool.freeIds()]).toEqual([[[], []], range(1, 5)]);
    expect(cache.grow(sequence.blocks, 8)).toBe(true);
    expect(cache.grow(sequence.blocks, 9)).toBe(false);
    cache.checkIntegrity([sequence.blocks]);
  });

  test("test_get_num_blocks_to_allocate, test_evictable_cached_blocks_not_double_allocated: what is foretold is taken", () => {
    const cache = makeCache({ groups: [windowOf(8)] });
    const first = new CachedSequence(cache, range(1, 20));
    first.start();
    first.release();
    const { blocks } = new CachedSequence(cache, range(1, 33));
    const match = cache.match(blocks, 8);
    expect([match.numBlocks, match.numFreeHits]).toEqual([5, 2]);
    const needed = cache.blocksNeeded(match, 33, 33);
    expect(needed).toBe(2 + 4);
    const before = cache.pool.numFree;
    cache.take(blocks, match);
    cache.grow(blocks, 33);
    expect(before - cache.pool.numFree).toBe(needed);
    expect(new Set(blocks.tables[0]!.entries).size).toBe(1 + 2 + 4);
  });

  test("test_can_fit_full_sequence_swa_cap_admits_long_prompt: a window counts by its peak, full attention whole", () => {
    // 32 blocks of prompt: 32 in the full group, 3 + 1 in each of two window groups, where each would be 32 without a window.
    const groups = [FULL, windowOf(8), windowOf(8)];
    const cache = makeCache({ numBlocks: 41, groups });
    const { blocks } = new CachedSequence(cache, range(1, 128));
    expect(cache.blocksNeeded(cache.match(blocks, 31), 128, 4)).toBe(32 + 4 + 4);
    const full = makeCache({ numBlocks: 41, groups: [FULL, FULL, FULL] });
    const whole = new CachedSequence(full, range(1, 128));
    expect(full.blocksNeeded(full.match(whole.blocks, 31), 128, 4)).toBe(96);
  });
});

describe("releasing", () => {
  test("leaves a sequence as new, its hashes aside", () => {
    const cache = makeCache({ groups: [FULL, windowOf(4)] });
    const sequence = new CachedSequence(cache, range(1, 16));
    sequence.start();
    cache.slide(sequence.blocks, 16);
    const { hashes } = sequence.blocks;
    sequence.release();
    cache.pool.unhash(2);
    sequence.release();
    expect(sequence.blocks).toEqual(
      Object.assign(cache.createBlocks(), { tables: expect.anything(), hashes, numHashes: 4 }),
    );
    expect(sequence.blocks.tables.map(({ length, first }) => [length, first])).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expect(cache.pool.numFree).toBe(40);
    expect(cache.grow(sequence.blocks, 16)).toBe(true);
    cache.checkIntegrity([sequence.blocks]);
  });
});

describe("publishing", () => {
  test("makes whole blocks that are present findable, in all groups, and no others (I3)", () => {
    const cache = makeCache({ groups: [FULL, windowOf(4)] });
    const sequence = new CachedSequence(cache, range(1, 12));
    const { blocks } = sequence;
    cache.take(blocks, cache.match(blocks, 0));
    cache.grow(blocks, 12);
    cache.publish(blocks, 12, 3);
    expect(cache.pool.numHashed).toBe(0);
    cache.markPresent(blocks, 7);
    cache.publish(blocks, 12, 3);
    expect([cache.pool.numHashed, blocks.numPublished]).toEqual([2, 1]);
    cache.markPresent(blocks, 12);
    cache.publish(blocks, 11, 4);
    expect([cache.pool.numHashed, blocks.numPublished]).toEqual([4, 2]);
    expect(blocks.tables[0]!.state(1)).toBe("present");
    expect(blocks.tables[0]!.state(99)).toBe("missing");
  });

  test("takes nothing for present that has no block", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, range(1, 12));
    cache.grow(sequence.blocks, 4);
    cache.markPresent(sequence.blocks, 12);
    expect(sequence.blocks.numPresent).toBe(1);
    cache.publish(sequence.blocks, 12, 0);
    cache.checkIntegrity([sequence.blocks]);
  });

  test("goes as far as the tokens are known", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, range(1, 5));
    cache.grow(sequence.blocks, 12);
    cache.markPresent(sequence.blocks, 12);
    cache.publish(sequence.blocks, 12, 0);
    expect(cache.pool.numHashed).toBe(1);
  });

  test("of two sequences with the same tokens keeps both blocks; the first is found (I3)", () => {
    const cache = makeCache();
    const both = [0, 1].map(() => new CachedSequence(cache, range(1, 8), { readsCache: false }));
    for (const sequence of both) sequence.start();
    expect(both.map(({ ids }) => ids)).toEqual([[[1, 2]], [[3, 4]]]);
    expect(cache.pool.find(both[0]!.blocks.hashes, 0, 0)).toBe(1);
    both[0]!.release();
    const others = new Int32Array(38);
    expect(cache.pool.allocate(38, others, 0)).toBe(true);
    expect(cache.pool.find(both[0]!.blocks.hashes, 0, 0)).toBe(3);
    cache.checkIntegrity([both[1]!.blocks], others);
  });

  test("passes entries that left a window by; what was null is in no group's map", () => {
    const cache = makeCache({ groups: [windowOf(4)] });
    const sequence = new CachedSequence(cache, range(1, 12));
    const { blocks } = sequence;
    cache.grow(blocks, 12);
    cache.markPresent(blocks, 12);
    cache.slide(blocks, 12);
    expect(sequence.ids).toEqual([[0, 0, 3]]);
    cache.publish(blocks, 12, 0);
    expect([cache.pool.numHashed, blocks.numPublished]).toEqual([1, 3]);
  });

  test("is off without prefix caching", () => {
    const cache = makeCache({ prefixCaching: false });
    const sequence = new CachedSequence(cache, range(1, 12));
    expect(sequence.start()).toBe(true);
    expect([cache.pool.numHashed, cache.match(sequence.blocks, 3).numBlocks]).toEqual([0, 0]);
  });

  test("after a reset is for those admitted since", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, range(1, 12));
    sequence.start(6);
    cache.reset();
    cache.grow(sequence.blocks, 12);
    cache.markPresent(sequence.blocks, 12);
    cache.publish(sequence.blocks, 12, 0);
    expect(cache.pool.numHashed).toBe(0);
    sequence.release();
    expect(sequence.start()).toBe(true);
    expect([sequence.blocks.generation, cache.pool.numHashed]).toEqual([1, 3]);
  });
});

describe("withdrawing", () => {
  test("takes back what a step and later ones published, in all groups; it is missing from then on", () => {
    const cache = makeCache({ groups: [FULL, windowOf(64)] });
    const sequence = new CachedSequence(cache, range(1, 16));
    const { blocks } = sequence;
    cache.grow(blocks, 16);
    for (const [numTokens, step] of [
      [4, 1],
      [8, 2],
      [16, 3],
    ] as const) {
      cache.markPresent(blocks, numTokens);
      cache.publish(blocks, numTokens, step);
    }
    expect(cache.withdraw(blocks, 4)).toEqual([]);
    expect(cache.withdraw(blocks, 2)).toEqual([2, 3, 4, 6, 7, 8]);
    expect([cache.pool.numHashed, blocks.numPublished, blocks.numPresent]).toEqual([2, 1, 1]);
    cache.publish(blocks, 16, 5);
    expect(cache.pool.numHashed).toBe(2);
    cache.checkIntegrity([blocks]);
    sequence.release();
    expect(cache.pool.freeIds().slice(0, 3)).toEqual([8, 7, 6]);
    const again = new CachedSequence(cache, range(1, 16));
    again.start();
    expect(again.numHitTokens).toBe(4);
  });
});

describe("sliding", () => {
  test("test_sliding_window_remove_skipped_blocks: a block goes when its last position leaves (vLLM's numbers)", () => {
    const cache = makeCache({ blockSize: 2, groups: [windowOf(4)] });
    const sequence = new CachedSequence(cache, range(1, 22));
    const { blocks } = sequence;
    cache.grow(blocks, 22);
    const nulls = (computed: number): number => {
      cache.slide(blocks, computed);
      return sequence.ids[0]!.filter((id) => id === 0).length;
    };
    expect([0, 4, 5, 6, 7, 11].map(nulls)).toEqual([0, 0, 1, 1, 2, 4]);
    expect(nulls(4)).toBe(4);
    cache.checkIntegrity([blocks]);
  });

  test("frees hashed blocks to the back, tail first, and they can still be found (I5)", () => {
    const cache = makeCache({ groups: [FULL, windowOf(4)], numBlocks: 10 });
    const sequence = new CachedSequence(cache, range(1, 16));
    sequence.start();
    cache.slide(sequence.blocks, 16);
    expect(sequence.ids).toEqual([range(1, 4), [0, 0, 0, 8]]);
    expect(cache.pool.freeIds()).toEqual([9, 7, 6, 5]);
    const again = new CachedSequence(cache, range(1, 12));
    again.start();
    expect([again.numHitTokens, again.ids]).toEqual([
      8,
      [
        [1, 2, 9],
        [0, 6, 7],
      ],
    ]);
    cache.checkIntegrity([sequence.blocks, again.blocks]);
  });

  test("keeps what the next position of a state group reads", () => {
    const cache = makeCache({ groups: [STATE] });
    const sequence = new CachedSequence(cache, range(1, 16));
    cache.grow(sequence.blocks, 16);
    const held = (computed: number): number[] => {
      cache.slide(sequence.blocks, computed);
      return sequence.ids[0]!;
    };
    expect(held(4)).toEqual([1, 2, 3, 4]);
    expect(held(5)).toEqual([0, 2, 3, 4]);
    expect(held(8)).toEqual([0, 2, 3, 4]);
    expect(held(16)).toEqual([0, 0, 0, 4]);
  });

  test("leaves full attention alone", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, range(1, 16));
    sequence.start();
    cache.slide(sequence.blocks, 16);
    expect(sequence.ids).toEqual([[1, 2, 3, 4]]);
  });

  test("never goes past what is grown", () => {
    const cache = makeCache({ groups: [windowOf(1)] });
    const sequence = new CachedSequence(cache, range(1, 8));
    cache.grow(sequence.blocks, 4);
    cache.slide(sequence.blocks, 40);
    expect(sequence.ids).toEqual([[0]]);
    expect(cache.grow(sequence.blocks, 8)).toBe(true);
    cache.checkIntegrity([sequence.blocks]);
  });
});

describe("integrity", () => {
  test("a reference without a holder, or a holder without a reference, is named (I2)", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, range(1, 8));
    sequence.start();
    cache.checkIntegrity([sequence.blocks]);
    expect(() => cache.checkIntegrity([])).toThrow("block 1 has 1 references, its holders 0");
    expect(() => cache.checkIntegrity([sequence.blocks, sequence.blocks])).toThrow("its holders 2");
    expect(() => cache.checkIntegrity([sequence.blocks], [2])).toThrow("block 2 has 1 references");
    expect(() => cache.checkIntegrity([sequence.blocks], [0])).toThrow("0 is held and no block");
  });

  test("a block under another's hash, and one that is found before it is present, are named (I3)", () => {
    const cache = makeCache();
    const sequence = new CachedSequence(cache, range(1, 8));
    const { blocks } = sequence;
    cache.grow(blocks, 8);
    cache.pool.insert(1, blocks.hashes, 8, 0, 0);
    expect(() => cache.checkIntegrity([blocks])).toThrow("has another's hash");
    cache.pool.unhash(1);
    cache.pool.insert(2, blocks.hashes, 8, 0, 0);
    expect(() => cache.checkIntegrity([blocks])).toThrow("block 2 can be found and is not present");
  });
});

describe("a step of a running sequence", () => {
  test("costs no loop turn while it stays in its block, however long it is and however large the pool", () => {
    for (const numBlocks of [1_001, 100_001]) {
      const cache = makeCache({ numBlocks, groups: [FULL, windowOf(9)] });
      const sequence = new CachedSequence(cache, range(1, 1_001));
      sequence.start();
      cache.slide(sequence.blocks, 1_001);
      const before = cache.pool.operations;
      for (const numTokens of [1_002, 1_003, 1_004]) {
        cache.grow(sequence.blocks, numTokens);
        cache.publish(sequence.blocks, numTokens - 1, 1);
        cache.slide(sequence.blocks, numTokens - 1);
      }
      expect(cache.pool.operations).toBe(before);
      sequence.release();
    }
  });
});
