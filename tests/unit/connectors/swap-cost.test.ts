/** Swap or recompute: a pure function of measured numbers, at both extremes and between them. */

import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { decideSwap, type SwapCost } from "../../../engine/connectors/swap-cost.ts";
import { propertyRuns } from "../../support/property-runs.ts";

/** 64 blocks of 16 tokens, a MiB each, all of them taken and none forgotten; 1 ms a token, so 1,024 ms against 67 and 67. */
const COST: SwapCost = {
  numTokens: 1024,
  bytes: 64 * 2 ** 20,
  bytesToStore: 64 * 2 ** 20,
  storeBytesPerSecond: 1e9,
  loadBytesPerSecond: 1e9,
  loadLatencyMs: 0.1,
  msPerPromptToken: 1,
  shareTaken: 1,
  shareForgotten: 0,
};

describe("what is decided", () => {
  test.each<[string, Partial<SwapCost>, "swap" | "recompute"]>([
    ["fast copies beside a slow processor", {}, "swap"],
    ["a link of no bytes a second to the host", { storeBytesPerSecond: 0 }, "recompute"],
    ["a link of no bytes a second back", { loadBytesPerSecond: 0 }, "recompute"],
    ["a link to the host that is 1,000 times slower", { storeBytesPerSecond: 1e6 }, "recompute"],
    ["a link back that is 1,000 times slower", { loadBytesPerSecond: 1e6 }, "recompute"],
    ["a processor that costs nothing", { msPerPromptToken: 0 }, "recompute"],
    ["no full block", { numTokens: 0, bytes: 0, bytesToStore: 0 }, "recompute"],
    ["blocks that nobody takes before it goes on", { shareTaken: 0 }, "recompute"],
    ["blocks of which few are taken", { shareTaken: 0.06 }, "recompute"],
    ["blocks of which some are taken", { shareTaken: 0.08 }, "swap"],
    ["copies that are all forgotten before it goes on", { shareForgotten: 1 }, "recompute"],
    ["copies of which the most are forgotten", { shareForgotten: 0.93 }, "recompute"],
    ["copies of which the half is forgotten", { shareForgotten: 0.5 }, "swap"],
    ["a load that takes an hour to begin", { loadLatencyMs: 3.6e6 }, "recompute"],
    [
      "copies that are there already, beside a link that stores nothing",
      { bytesToStore: 0, storeBytesPerSecond: 0 },
      "swap",
    ],
    [
      "copies that are there already, of which few blocks are taken",
      { bytesToStore: 0, shareTaken: 0.01 },
      "swap",
    ],
  ])("%s", (_, change, wanted) => {
    expect(decideSwap({ ...COST, ...change })).toBe(wanted);
  });
});

test("what makes copies slower or of less use never makes them worth it", () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  const rate = fc.double({ min: 0, max: 1e12, noNaN: true });
  const costs = fc.record({
    numTokens: fc.integer({ min: 0, max: 100_000 }),
    bytes: fc.nat(2 ** 30),
    bytesToStore: fc.nat(2 ** 30),
    storeBytesPerSecond: rate,
    loadBytesPerSecond: rate,
    loadLatencyMs: fc.double({ min: 0, max: 1000, noNaN: true }),
    msPerPromptToken: fc.double({ min: 0, max: 100, noNaN: true }),
    shareTaken: share,
    shareForgotten: share,
  });
  const factor = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(costs, factor, factor, (cost, less, lost) => {
      const worse: SwapCost = {
        ...cost,
        storeBytesPerSecond: cost.storeBytesPerSecond * less,
        loadBytesPerSecond: cost.loadBytesPerSecond * less,
        shareForgotten: cost.shareForgotten + (1 - cost.shareForgotten) * lost,
      };
      // To forget what is slower to load than to compute is no loss.
      fc.pre(
        decideSwap(cost) === "recompute" &&
          decideSwap({ ...worse, shareForgotten: cost.shareForgotten }) === "recompute",
      );
      expect(decideSwap(worse)).toBe("recompute");
    }),
    propertyRuns(2000),
  );
});
