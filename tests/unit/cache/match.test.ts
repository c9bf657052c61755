import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { type GroupSpec, KvCache } from "../../../engine/cache/kv-cache.ts";
import { CachedSequence, FULL, range, STATE, windowOf } from "../../support/cached-sequence.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const TOKENS = range(1, 48);

/** A cache of blocks of 2 tokens in which, of each group, exactly the blocks of `TOKENS` named by 1 are cached and free. */
function cacheWith(groups: readonly (readonly [GroupSpec, readonly number[]])[]): KvCache {
  const cache = new KvCache({
    numBlocks: 128,
    blockSize: 2,
    groups: groups.map(([spec]) => spec),
    prefixCaching: true,
  });
  const sequence = new CachedSequence(cache, TOKENS.slice(0, 2 * groups[0]![1].length));
  sequence.start();
  for (const [group, [, cached]] of groups.entries())
    for (const [block, flag] of cached.entries())
      if (flag === 0) cache.pool.unhash(sequence.ids[group]![block]!);
  sequence.release();
  return cache;
}

function match(cache: KvCache, maxBlocks = 24): { prefix: number; islands: number; free: number } {
  const { blocks } = new CachedSequence(cache, TOKENS);
  const { numBlocks, numIslands, numFreeHits } = cache.match(blocks, maxBlocks);
  return { prefix: numBlocks, islands: numIslands, free: numFreeHits };
}

describe("the longest prefix", () => {
  // vLLM's test_sliding_window_possible_cached_prefix: window 4, blocks of 2, so 2 blocks in a row, or all from the start.
  test.each([
    [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0],
    [[1], 1],
    [[1, 0], 1],
    [[1, 1], 2],
    [[1, 1, 0], 2],
    [[1, 1, 1], 3],
    [[1, 1, 1, 0], 3],
    [[1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1], 12],
    [[1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0], 8],
    [[1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1], 8],
    [[0, 1, 0, 1, 0, 1], 0],
  ])("of a window group with %j cached is %p", (cached, prefix) => {
    expect(match(cacheWith([[windowOf(4), cached]])).prefix).toBe(prefix);
  });

  test.each([
    [[0, 1, 1], 0],
    [[1, 1, 0, 1], 2],
    [[1, 1, 1, 1], 4],
  ])("of a full group with %j cached is %p", (cached, prefix) => {
    expect(match(cacheWith([[FULL, cached]])).prefix).toBe(prefix);
  });

  test.each([
    [[0, 0, 1, 0], 3],
    [[1, 0, 0, 0], 1],
    [[0, 0, 0, 0], 0],
  ])("of a state group with %j cached is %p", (cached, prefix) => {
    expect(match(cacheWith([[STATE, cached]])).prefix).toBe(prefix);
  });

  test("is one that all groups can go on behind, though each has a longer one", () => {
    const cache = cacheWith([
      [FULL, [1, 1, 1, 1, 1, 1, 0, 0]],
      [windowOf(4), [1, 1, 1, 0, 0, 1, 1, 1]],
      [STATE, [0, 1, 0, 0, 0, 1, 1, 0]],
    ]);
    expect(match(cache).prefix).toBe(2);
  });

  test("shrinks again for a group that was content before", () => {
    // Window 4 allows 6; state allows 5, which the window does not; state again.
    const cache = cacheWith([
      [windowOf(4), [1, 1, 1, 0, 1, 1]],
      [STATE, [0, 0, 1, 1, 1, 0]],
    ]);
    expect(match(cache).prefix).toBe(3);
  });

  test("is the longest that every group can go on behind, whatever is cached", () => {
    const length = 12;
    const flags = fc.array(fc.nat(4), { minLength: length, maxLength: length, size: "max" });
    const group = fc.tuple(
      fc.oneof(
        fc.constant(FULL),
        fc.constant(STATE),
        fc.integer({ min: 1, max: 12 }).map(windowOf),
      ),
      flags.map((flags) => flags.map((flag) => (flag === 0 ? 0 : 1))),
    );
    fc.assert(
      fc.property(fc.array(group, { minLength: 1, maxLength: 4 }), (groups) => {
        const isValid = (end: number): boolean =>
          groups.every(([{ kind, window }, cached]) => {
            const run =
              kind === "full" ? end : kind === "state" ? 1 : Math.max(1, (window - 1) / 2);
            return cached.slice(Math.max(0, end - Math.ceil(run)), end).every((flag) => flag === 1);
          });
        const prefix = range(0, length).findLast(isValid)!;
        const islands = range(prefix, length - 1).filter((block) =>
          groups.every(([, cached]) => cached[block] === 1),
        );
        expect(match(cacheWith(groups))).toMatchObject({ prefix, islands: islands.length });
      }),
      propertyRuns(600),
    );
  });

  test("costs a look or two at each block of a group, however often the groups disagree", () => {
    // The states shorten the prefix block by block in turn; the window wants the same long run before each of its ends.
    const numBlocks = 24;
    const odd = range(1, numBlocks).map((block) => block % 2);
    const even = odd.map((flag) => 1 - flag);
    const all = odd.map(() => 1);
    const cache = cacheWith([
      [windowOf(2 * numBlocks), all],
      [STATE, odd],
      [STATE, even],
    ]);
    const { blocks } = new CachedSequence(cache, TOKENS);
    const before = cache.pool.operations;
    expect(cache.match(blocks, numBlocks).numBlocks).toBe(0);
    // Looks that find nothing walk no record, so they are not counted.
    expect(cache.pool.operations - before).toBeLessThan(4 * numBlocks);
  });

  test("ends at the most blocks that may be found", () => {
    const cache = cacheWith([[FULL, [1, 1, 1, 1]]]);
    expect([0, 1, 3, 4, 9].map((most) => match(cache, most).prefix)).toEqual([0, 1, 3, 4, 4]);
  });

  test("references only what a window still sees; the rest of the table is null", () => {
    const cache = cacheWith([
      [FULL, [1, 1, 1, 1, 1]],
      [windowOf(4), [1, 1, 1, 1, 1]],
      [STATE, [1, 1, 1, 1, 1]],
    ]);
    const sequence = new CachedSequence(cache, TOKENS);
    const found = cache.match(sequence.blocks, 5);
    expect(found.numFreeHits).toBe(5 + 2 + 1);
    cache.take(sequence.blocks, found);
    expect(sequence.ids).toEqual([
      [1, 2, 3, 4, 5],
      [0, 0, 0, 9, 10],
      [0, 0, 0, 0, 15],
    ]);
    cache.checkIntegrity([sequence.blocks]);
  });

  test("changes nothing, however often it is looked for", () => {
    const cache = cacheWith([[FULL, [1, 1, 0, 1]]]);
    const before = cache.pool.freeIds();
    const first = match(cache);
    expect(match(cache)).toEqual(first);
    expect(cache.pool.freeIds()).toEqual(before);
    cache.checkIntegrity([]);
  });
});

describe("islands", () => {
  test("are later blocks that all groups have", () => {
    const cache = cacheWith([
      [FULL, [1, 0, 1, 1, 1, 0, 1]],
      [windowOf(4), [1, 1, 0, 1, 1, 0, 1]],
    ]);
    expect(match(cache)).toEqual({ prefix: 1, islands: 3, free: 2 * 1 + 2 * 3 });
  });

  test("are passed over by what is computed, hole by hole", () => {
    const cache = cacheWith([[FULL, [1, 0, 1, 1, 0, 0, 1]]]);
    const sequence = new CachedSequence(cache, TOKENS);
    const { blocks } = sequence;
    const found = cache.match(blocks, 23);
    expect(cache.blocksNeeded(found, 14, 99)).toBe(4 + 3);
    cache.take(blocks, found);
    expect(sequence.ids).toEqual([[1, 0, 3, 4, 0, 0, 7]]);
    expect(cache.presentEnd(blocks, 2)).toBe(2);
    expect(cache.missingEnd(blocks, 2)).toBe(4);
    expect([cache.growth(blocks, 3), cache.growth(blocks, 8), cache.growth(blocks, 16)]).toEqual([
      1, 1, 4,
    ]);
    cache.grow(blocks, 3);
    cache.markPresent(blocks, 3);
    expect([cache.presentEnd(blocks, 3), cache.missingEnd(blocks, 3)]).toEqual([3, 4]);
    cache.markPresent(blocks, 4);
    expect(cache.presentEnd(blocks, 4)).toBe(8);
    expect(cache.missingEnd(blocks, 8)).toBe(12);
    cache.grow(blocks, 12);
    cache.markPresent(blocks, 12);
    expect(cache.presentEnd(blocks, 12)).toBe(14);
    expect(cache.missingEnd(blocks, 14)).toBe(Infinity);
    cache.publish(blocks, 14, 5);
    expect(range(0, 6).map((block) => cache.pool.publishedStep(sequence.ids[0]![block]!))).toEqual([
      0, 5, 0, 0, 5, 5, 0,
    ]);
    cache.checkIntegrity([blocks]);
    cache.release(blocks);
    expect(blocks).toMatchObject({ islandEnd: 0, numGrown: 0, numPresent: 0, numPublished: 0 });
    cache.checkIntegrity([]);
  });

  test("that could never be held beside the rest are dropped, the last first", () => {
    const cache = cacheWith([[windowOf(4), [0, 1, 0, 1, 0, 1, 0, 1]]]);
    const taken: number[] = [];
    const into = new Int32Array(1);
    // All but 4 blocks are used by others; the peak of the sequence is 4.
    while (cache.pool.numFree > 4) {
      const id = cache.pool.freeIds().find((id) => !cache.pool.isHashed(id))!;
      cache.pool.touch(into.fill(id), 1);
      taken.push(id);
    }
    const { blocks } = new CachedSequence(cache, TOKENS.slice(0, 17));
    const found = cache.match(blocks, 8);
    expect([found.numBlocks, found.numIslands, cache.peak(17, 2)]).toEqual([0, 4, 4]);
    expect(cache.blocksNeeded(found, 17, 2)).toBeLessThanOrEqual(4);
    expect(found.numIslands).toBeLessThan(4);
    cache.take(blocks, found);
    cache.checkIntegrity([blocks], taken);
  });

  test("are given up by a sequence that finds no free block, before it has to wait", () => {
    const cache = cacheWith([[FULL, [0, 0, 1, 0, 1, 1]]]);
    const sequence = new CachedSequence(cache, TOKENS.slice(0, 13));
    const { blocks } = sequence;
    cache.take(blocks, cache.match(blocks, 6));
    const others = new Int32Array(cache.pool.numFree);
    cache.pool.allocate(others.length, others, 0);
    expect(cache.grow(blocks, 2)).toBe(true);
    expect(sequence.ids).toEqual([[6, 0, 3, 0, 5]]);
    expect(cache.grow(blocks, 4)).toBe(true);
    expect(sequence.ids).toEqual([[6, 5, 3]]);
    expect(cache.grow(blocks, 13)).toBe(false);
    expect(sequence.ids).toEqual([[6, 5, 3]]);
    expect(cache.missingEnd(blocks, 2)).toBe(4);
    cache.checkIntegrity([blocks], others);
  });

  test("that others hold too free nothing, so they stay (I6)", () => {
    const cache = cacheWith([[FULL, [0, 1]]]);
    const first = new CachedSequence(cache, TOKENS.slice(0, 5));
    const second = new CachedSequence(cache, TOKENS.slice(0, 5));
    for (const { blocks } of [first, second]) cache.take(blocks, cache.match(blocks, 2));
    const others = new Int32Array(cache.pool.numFree);
    cache.pool.allocate(others.length, others, 0);
    expect(cache.grow(first.blocks, 2)).toBe(false);
    expect(first.ids).toEqual([[0, 2]]);
    cache.checkIntegrity([first.blocks, second.blocks], others);
  });
});

describe("what a match says of its blocks", () => {
  test("the newest step that published any of them, islands included", () => {
    const cache = new KvCache({ numBlocks: 20, blockSize: 2, groups: [FULL], prefixCaching: true });
    const sequence = new CachedSequence(cache, TOKENS.slice(0, 8));
    const { blocks } = sequence;
    cache.take(blocks, cache.match(blocks, 0));
    cache.grow(blocks, 8);
    for (const [step, numTokens] of [2, 4, 6, 8].entries()) {
      cache.markPresent(blocks, numTokens);
      cache.publish(blocks, numTokens, 10 + step);
    }
    const other = new CachedSequence(cache, TOKENS.slice(0, 8));
    expect(cache.match(other.blocks, 0).newestStep).toBe(-1);
    expect(cache.match(other.blocks, 1).newestStep).toBe(10);
    expect(cache.match(other.blocks, 3).newestStep).toBe(12);
    cache.pool.unhash(2);
    expect(cache.match(other.blocks, 4)).toMatchObject({ numBlocks: 1, newestStep: 13 });
  });

  test("what leaves the free count: free hits and new blocks, not what others hold", () => {
    const cache = cacheWith([[FULL, [1, 1, 1, 1]]]);
    const holder = new CachedSequence(cache, TOKENS.slice(0, 4));
    cache.take(holder.blocks, cache.match(holder.blocks, 2));
    const { blocks } = new CachedSequence(cache, TOKENS);
    const found = cache.match(blocks, 4);
    expect([found.numBlocks, found.numFreeHits]).toEqual([4, 2]);
    expect(cache.blocksNeeded(found, 15, 99)).toBe(2 + 4);
    const before = cache.pool.numFree;
    cache.take(blocks, found);
    cache.grow(blocks, 15);
    expect(before - cache.pool.numFree).toBe(2 + 4);
  });

  test("a match is taken once, by its own sequence, into empty tables", () => {
    const cache = cacheWith([[FULL, [1, 1]]]);
    const first = new CachedSequence(cache, TOKENS);
    const second = new CachedSequence(cache, TOKENS);
    const found = cache.match(first.blocks, 2);
    expect(() => cache.take(second.blocks, found)).toThrow("of another sequence");
    cache.take(first.blocks, found);
    expect(() => cache.take(first.blocks, found)).toThrow("cannot be taken");
    expect(() => cache.take(first.blocks, cache.match(first.blocks, 2))).toThrow("not empty");
    cache.checkIntegrity([first.blocks]);
    const again = cache.match(first.blocks, 2);
    first.release();
    cache.take(first.blocks, again);
    first.release();
    expect(() => cache.take(first.blocks, again)).toThrow("cannot be taken");
  });
});
