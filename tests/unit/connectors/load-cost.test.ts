/** Load, compute, or both: a pure function of measured numbers, at both extremes and between them (I34). */

import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { decideLoad, type LoadCost } from "../../../engine/connectors/load-cost.ts";
import { propertyRuns } from "../../support/property-runs.ts";

/** 64 blocks of 16 tokens, a MiB each; 1 ms a token, so 16 ms a block. */
const COST: LoadCost = {
  numTokens: 1024,
  blockSize: 16,
  bytesPerBlock: 2 ** 20,
  loadBytesPerSecond: 1e9,
  loadLatencyMs: 0.1,
  queuedLoadBytes: 0,
  msPerPromptToken: 1,
  queuedPromptTokens: 0,
};

const LOAD = 0;
const COMPUTE = 64;

describe("what is decided", () => {
  test.each<[string, Partial<LoadCost>, number | "both"]>([
    ["a fast link beside a slow processor: loads all", {}, LOAD],
    ["a link of no bytes a second: computes all", { loadBytesPerSecond: 0 }, COMPUTE],
    ["a link that is 1,000 times slower: computes all", { loadBytesPerSecond: 1e6 }, COMPUTE],
    ["as fast as computing: both", { loadBytesPerSecond: 2 ** 20 / 0.016 }, "both"],
    ["a processor that costs nothing: computes all", { msPerPromptToken: 0 }, COMPUTE],
    ["nothing to move: loads all", { bytesPerBlock: 0 }, LOAD],
    ["a minute of loads before it: computes all", { queuedLoadBytes: 60e9 }, COMPUTE],
    ["a load that takes an hour to begin: computes all", { loadLatencyMs: 3.6e6 }, COMPUTE],
    [
      "prompts of others before it, and a link as fast as computing: loads all",
      { loadBytesPerSecond: 2 ** 20 / 0.016, queuedPromptTokens: 10_000 },
      LOAD,
    ],
    ["one block, cheap to load", { numTokens: 16 }, LOAD],
    ["one block, cheap to compute", { numTokens: 16, msPerPromptToken: 0.001 }, 1],
  ])("%s", (_, change, wanted) => {
    const { numComputed } = decideLoad({ ...COST, ...change });
    if (wanted === "both") expect([numComputed > 0, numComputed < 64]).toEqual([true, true]);
    else expect(numComputed).toBe(wanted);
  });

  test("both are balanced: of a link half as fast as computing two thirds are computed", () => {
    const { numComputed } = decideLoad({ ...COST, loadBytesPerSecond: 2 ** 20 / 0.032 });
    expect(numComputed).toBeWithin(42, 44);
  });
});

test("whatever the numbers are, it is never estimated to be slower than to compute all", () => {
  const number = fc.double({ min: 0, max: 1e9, noNaN: true });
  const costs = fc.record({
    numTokens: fc.integer({ min: 1, max: 100_000 }),
    blockSize: fc.integer({ min: 1, max: 64 }),
    bytesPerBlock: number,
    loadBytesPerSecond: fc.double({ min: 1e-3, max: 1e15, noNaN: true }),
    loadLatencyMs: number,
    queuedLoadBytes: number,
    msPerPromptToken: fc.double({ min: 0, max: 1e4, noNaN: true }),
    queuedPromptTokens: fc.integer({ min: 0, max: 1_000_000 }),
  });
  fc.assert(
    fc.property(costs, (cost) => {
      const { numComputed, decidedMs, computeMs } = decideLoad(cost);
      expect(decidedMs).toBeLessThanOrEqual(computeMs);
      expect(numComputed).toBeWithin(0, Math.ceil(cost.numTokens / cost.blockSize) + 1);
      expect(Number.isInteger(numComputed)).toBe(true);
    }),
    propertyRuns(2000),
  );
});

test("a slower link, or more before it, never loads more", () => {
  let last = 0;
  for (let rate = 1e12; rate > 1e3; rate /= 1.3) {
    const { numComputed } = decideLoad({ ...COST, loadBytesPerSecond: rate });
    expect(numComputed).toBeGreaterThanOrEqual(last);
    last = numComputed;
  }
  expect(last).toBe(COMPUTE);
});
