import { describe, expect, test } from "bun:test";
import { type KvPlanInput, planKv } from "../../../engine/runner/kv-plan.ts";

const INPUT: KvPlanInput = {
  numGpuBlocksOverride: 0,
  kvCacheMemory: 0,
  maxModelLen: 0,
  contextLength: 1024,
  maxNumSeqs: 4,
  blockSize: 16,
  numGroups: 1,
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

  test("takes no more than all sequences at full length can use, and the null block", () => {
    expect(planKv({ ...INPUT, memoryAvailable: () => 1e12 })).toEqual({
      numBlocks: 257,
      maxModelLen: 1024,
    });
    expect(planKv({ ...INPUT, kvCacheMemory: 1e12, numGroups: 2 }).numBlocks).toBe(513);
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
    expect(planKv({ ...INPUT, numGpuBlocksOverride: 11, numGroups: 2 }).maxModelLen).toBe(81);
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
});
