import { describe, expect, test } from "bun:test";
import type { GroupSpec } from "../../../engine/cache/block-group.ts";
import { type KvPlanInput, planKv } from "../../../engine/runner/kv-plan.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import { blocksNeeded } from "../../../engine/request-limits.ts";

const FULL: GroupSpec = { kind: "full", window: 0 };
const WINDOW: GroupSpec = { kind: "window", window: 64 };

const INPUT: KvPlanInput = {
  numGpuBlocksOverride: 0,
  kvCacheMemory: 0,
  maxModelLen: 0,
  contextLength: 1024,
  maxNumSeqs: 4,
  blockSize: 16,
  groups: [FULL],
  maxInFlightTokens: 32,
  pageBytes: 1000,
  weightBytes: 400_000,
  memoryAvailable: () => 1_000_000,
};

describe("plan of KV memory", () => {
  test("takes half of what is free beside the weights", () => {
    expect(planKv({ ...INPUT, memoryAvailable: () => 600_000 })).toEqual({
      numBlocks: 100,
      maxModelLen: 1024,
    });
  });

  test("takes by itself no more than all sequences at full length can use, and the null block", () => {
    const memoryAvailable = (): number => 1e12;
    expect(planKv({ ...INPUT, memoryAvailable })).toEqual({ numBlocks: 257, maxModelLen: 1024 });
    expect(planKv({ ...INPUT, memoryAvailable, groups: [FULL, FULL] }).numBlocks).toBe(513);
  });

  test("takes what a device's share leaves beside other programs and this one's own, all of it", () => {
    const device = { totalBytes: 2_000_000, freeBytes: 1_500_000, programBytes: 300_000 };
    const blocks = (utilization: number): number =>
      planKv({ ...INPUT, device: () => ({ ...device, utilization }) }).numBlocks;
    expect(blocks(0.9)).toBe(1000);
    expect(blocks(1)).toBe(1200);
    expect(blocks(0.5)).toBe(200);
    expect(blocks(0.401)).toBe(2);
    expect(() => blocks(0.4)).toThrow(
      "the model needs 1 MiB of device memory and 1 MiB for KV at least; of 2 MiB there are 2 MiB free, " +
        "and 0.4 of all may be in use",
    );
  });

  test("takes all of --kv-cache-memory: what runs needs no more, other conversations' prefixes do", () => {
    expect(planKv({ ...INPUT, kvCacheMemory: 1_000_999 })).toEqual({
      numBlocks: 1000,
      maxModelLen: 1024,
    });
    expect(planKv({ ...INPUT, kvCacheMemory: 1_000_999, pageBytes: 0 }).numBlocks).toBe(257);
  });

  test("--kv-cache-memory is that many bytes, --num-gpu-blocks-override that many blocks", () => {
    const unread = (): number => {
      throw new Error("memory was asked for");
    };
    expect(planKv({ ...INPUT, kvCacheMemory: 80_999, memoryAvailable: unread }).numBlocks).toBe(80);
    expect(planKv({ ...INPUT, numGpuBlocksOverride: 70, memoryAvailable: unread })).toEqual({
      numBlocks: 70,
      maxModelLen: 1024,
    });
  });

  test("a length that was not asked for shrinks to what one sequence can hold", () => {
    expect(planKv({ ...INPUT, numGpuBlocksOverride: 11 }).maxModelLen).toBe(161);
    expect(planKv({ ...INPUT, numGpuBlocksOverride: 11, groups: [FULL, FULL] }).maxModelLen).toBe(
      81,
    );
  });

  test("a window takes as many blocks as it can hold at a time, whatever the length", () => {
    // 64 - 1 seen positions and 32 in flight touch 6 blocks, and one more where they begin inside one.
    const groups = [FULL, WINDOW];
    expect(planKv({ ...INPUT, groups, memoryAvailable: () => 1e12 }).numBlocks).toBe(
      1 + 4 * (64 + 7),
    );
    expect(planKv({ ...INPUT, groups, numGpuBlocksOverride: 1 + 20 + 7 }).maxModelLen).toBe(321);
    expect(planKv({ ...INPUT, groups: [WINDOW], numGpuBlocksOverride: 1 + 7 }).maxModelLen).toBe(
      1024,
    );
  });

  test("what the plan says fits is what requests are refused by", () => {
    const groups = [FULL, WINDOW];
    for (const numGpuBlocksOverride of [4, 9, 13, 16, 40]) {
      const { maxModelLen } = planKv({ ...INPUT, groups, numGpuBlocksOverride });
      const limits = {
        maxModelLen,
        blockSize: INPUT.blockSize,
        groups,
        maxInFlightTokens: INPUT.maxInFlightTokens,
        numBlocks: numGpuBlocksOverride - 1,
      };
      expect(blocksNeeded(maxModelLen - 1, 1, limits)).toBeLessThanOrEqual(limits.numBlocks);
      expect(blocksNeeded(maxModelLen, 1, limits)).toBeGreaterThan(limits.numBlocks);
    }
  });

  test("a length that was asked for and cannot be held is an error with the numbers", () => {
    expect(() => planKv({ ...INPUT, maxModelLen: 162, numGpuBlocksOverride: 11 })).toThrow(
      "max-model-len is 162; 10 KV blocks of 16 tokens hold one sequence of 161",
    );
    expect(planKv({ ...INPUT, maxModelLen: 161, numGpuBlocksOverride: 11 }).maxModelLen).toBe(161);
    expect(() => planKv({ ...INPUT, maxModelLen: 1025 })).toThrow(
      "max-model-len is 1025; this model takes 1024",
    );
  });

  test("too little memory is an error with the numbers", () => {
    expect(() => planKv({ ...INPUT, memoryAvailable: () => 300_000 })).toThrow(
      "0 KV blocks of 1000 bytes are too few",
    );
    expect(() => planKv({ ...INPUT, numGpuBlocksOverride: 1 })).toThrow("at least 2 are needed");
    expect(() => planKv({ ...INPUT, kvCacheMemory: 999 })).toThrow(
      expect.objectContaining({ code: "out_of_memory" }),
    );
  });

  test("names the option that gave the blocks, and no other", () => {
    const thrown = (change: Partial<KvPlanInput>): KvEngineError => {
      try {
        planKv({ ...INPUT, ...change });
      } catch (error) {
        return error as KvEngineError;
      }
      throw new Error("nothing was thrown");
    };
    const override = "num-gpu-blocks-override";
    expect(thrown({ numGpuBlocksOverride: 1 })).toMatchObject({
      subject: override,
      hint: `raise --${override} to 2 at least`,
    });
    for (const change of [{ kvCacheMemory: 1999 }, { memoryAvailable: () => 0 }]) {
      expect(thrown(change)).toMatchObject({
        subject: "kv-cache-memory",
        hint: "give the KV cache at least 2000 bytes with --kv-cache-memory",
      });
    }
    const asked = { maxModelLen: 162 };
    expect(thrown({ ...asked, numGpuBlocksOverride: 11 }).hint).toBe(
      `lower --max-model-len to 161 or raise --${override}`,
    );
    expect(thrown({ ...asked, kvCacheMemory: 11_000 }).hint).toBe(
      "lower --max-model-len to 161 or raise --kv-cache-memory",
    );
  });
});
