import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import {
  firstNeededBlock,
  peakBlocks,
  peakOfGroup,
  runBeforeBoundary,
} from "../../../engine/cache/block-group.ts";
import { KvCache } from "../../../engine/cache/kv-cache.ts";
import { CachedSequence, FULL, range, STATE, windowOf } from "../../support/cached-sequence.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

describe("what a group needs", () => {
  test.each([
    [1, 16, 1],
    [2, 16, 1],
    [17, 16, 1],
    [18, 16, 2],
    [8, 4, 2],
    [9, 4, 2],
    [10, 4, 3],
    [4, 1, 3],
  ])("window %p with blocks of %p: %p blocks before a boundary", (window, blockSize, blocks) => {
    expect(runBeforeBoundary(windowOf(window), blockSize)).toBe(blocks);
  });

  test("full attention needs all, a state the block before", () => {
    expect(runBeforeBoundary(FULL, 16)).toBe(Infinity);
    expect(runBeforeBoundary(STATE, 16)).toBe(1);
  });

  test.each([
    [0, 0],
    [4, 0],
    [5, 1],
    [6, 1],
    [7, 2],
    [11, 4],
  ])("window 4 with blocks of 2, at %p: blocks from %p on (vLLM's numbers)", (position, block) => {
    expect(firstNeededBlock(windowOf(4), 2, position)).toBe(block);
  });

  test.each([
    [0, 0],
    [1, 0],
    [4, 0],
    [5, 1],
    [8, 1],
    [9, 2],
  ])("state with blocks of 4, at %p: blocks from %p on", (position, block) => {
    expect(firstNeededBlock(STATE, 4, position)).toBe(block);
  });

  test("full attention needs block 0 for good", () => {
    expect([0, 100, 1e6].map((position) => firstNeededBlock(FULL, 16, position))).toEqual([
      0, 0, 0,
    ]);
  });
});

describe("the peak", () => {
  test.each([
    ["full", FULL, 0, 0, 0],
    ["full", FULL, 1, 512, 1],
    ["full", FULL, 33, 0, 3],
    ["window 32", windowOf(32), 1000, 16, 4],
    ["window 32", windowOf(32), 1000, 512, 35],
    ["window 32", windowOf(32), 20, 512, 2],
    ["state", STATE, 1000, 16, 3],
    ["state", STATE, 1000, 17, 4],
    ["state", STATE, 16, 512, 1],
  ] as const)("of a %s group: %#", (_, spec, numTokens, maxInFlightTokens, blocks) => {
    expect(peakOfGroup(spec, 16, numTokens, maxInFlightTokens)).toBe(blocks);
  });

  test("over several groups is the sum", () => {
    const groups = [FULL, windowOf(32), STATE];
    expect(peakBlocks(groups, 16, 1000, 16)).toBe(63 + 4 + 3);
    expect(new KvCache({ ...small, groups }).peak(1000, 16)).toBe(70);
  });

  const small = { numBlocks: 11, blockSize: 16, groups: [FULL], prefixCaching: true };

  test("a pool of exactly the peak carries a sequence to its end, whatever is cached (I11's cache part)", () => {
    const spec = fc.oneof(
      fc.constant(FULL),
      fc.constant(STATE),
      fc.integer({ min: 1, max: 12 }).map(windowOf),
    );
    fc.assert(
      fc.property(
        fc.record({
          groups: fc.array(spec, { minLength: 1, maxLength: 3 }),
          blockSize: fc.integer({ min: 1, max: 4 }),
          length: fc.integer({ min: 1, max: 40 }),
          inFlight: fc.integer({ min: 1, max: 10 }),
          unhashed: fc.array(fc.nat(80)),
          islands: fc.boolean(),
        }),
        ({ groups, blockSize, length, inFlight, unhashed, islands }) => {
          const numBlocks = peakBlocks(groups, blockSize, length, inFlight) + 1;
          const cache = new KvCache({ numBlocks, blockSize, groups, prefixCaching: true });
          for (let round = 0; round < 3; round++) {
            runToEnd(cache, length, inFlight, { islands });
            for (const id of unhashed) if (id > 0 && id < numBlocks) cache.pool.unhash(id);
          }
        },
      ),
      propertyRuns(800),
    );
  });
});

/** Computes a prompt in chunks; a token is committed once `inFlight` more are submitted. */
function runToEnd(
  cache: KvCache,
  length: number,
  inFlight: number,
  { islands }: { islands: boolean },
): void {
  const { blocks } = new CachedSequence(cache, range(1, length));
  const match = cache.match(blocks, Math.floor((length - 1) / cache.blockSize));
  if (!islands) while (match.numIslands > 0) match.dropLastIsland(cache.pool);
  expect(cache.blocksNeeded(match, length, inFlight)).toBeLessThanOrEqual(cache.pool.numFree);
  const freeBefore = cache.pool.numFree;
  const { numFreeHits } = match;
  cache.take(blocks, match);
  expect(freeBefore - cache.pool.numFree).toBe(numFreeHits);
  let submitted = blocks.numGrown * cache.blockSize;
  while (submitted < length) {
    const half = Math.ceil(inFlight / 2);
    const end = Math.min(submitted + half, length, cache.missingEnd(blocks, submitted));
    cache.slide(blocks, Math.max(submitted - (inFlight - half), 0));
    expect(cache.grow(blocks, end)).toBe(true);
    cache.markPresent(blocks, end);
    cache.publish(blocks, end, submitted);
    submitted = cache.presentEnd(blocks, end);
    cache.checkIntegrity([blocks]);
  }
  cache.release(blocks);
}

describe("a cache that cannot be served", () => {
  const options = { numBlocks: 4, blockSize: 4, groups: [FULL], prefixCaching: true };

  test.each([
    ["no group", { groups: [] }, "at least one group"],
    ["a window of 0", { groups: [windowOf(0)] }, "window of a window group is 0; allowed is 1"],
    ["a window of 1.5", { groups: [windowOf(1.5)] }, "allowed is 1 and more"],
    ["a full group with a window", { groups: [{ kind: "full", window: 4 }] }, "allowed is 0"],
    ["blocks of 0 tokens", { blockSize: 0 }, "allowed is 1 and more"],
    ["blocks of 2.5 tokens", { blockSize: 2.5 }, "allowed is 1 and more"],
    ["the null block alone", { numBlocks: 1 }, "at least 2 blocks"],
  ] as const)("is refused: %s", (_, wrong, message) => {
    expect(() => new KvCache({ ...options, ...wrong })).toThrow(message);
  });

  test("the smallest one works", () => {
    const cache = new KvCache({ ...options, numBlocks: 2, blockSize: 1, groups: [windowOf(1)] });
    const sequence = new CachedSequence(cache, [5]);
    expect(sequence.start()).toBe(true);
    expect(sequence.ids).toEqual([[1]]);
    expect(sequence.decode(6)).toBe(true);
    expect(sequence.ids).toEqual([[0, 1]]);
    cache.checkIntegrity([sequence.blocks]);
  });
});
