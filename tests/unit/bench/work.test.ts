import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { rowOf, type SingleTest } from "../../../cli/bench/engine/grid.ts";
import { isaOf, shareOf } from "../../../cli/bench/engine/limits.ts";
import {
  type Context,
  floorOf,
  kvBytesOf,
  type ModelWork,
  type Phase,
  phasesOf,
  workOf,
} from "../../../cli/bench/engine/work.ts";
import { loadModel } from "../../../engine/models/registry.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TINY, writeTinyModel } from "../../support/tiny-model.ts";

const folder = temporaryFolder();

describe("the work of a model", () => {
  const { hiddenSize: h, intermediateSize: f, vocabSize, numHeads, numKvHeads, headDim } = TINY;
  const qkv = h * (numHeads + 2 * numKvHeads) * headDim;
  const output = h * h;
  const mlp = 3 * h * f;

  test("is its matrices: behind the last layer's attention for sampled rows only, norms and embeddings not at all", async () => {
    const path = join(folder, "f16.gguf");
    await writeTinyModel(path, { dtype: "F16" });
    const work = workOf(await loadModel(path), 7);
    expect(work.kv).toEqual([{ window: 0, bytes: 7 }]);
    expect(work.perToken).toEqual({ int8: 0, fp32: qkv + output + mlp + qkv });
    expect(work.perSample).toEqual({ int8: 0, fp32: output + mlp + h * vocabSize });
    expect(work.weightBytes).toBe(2 * (2 * (qkv + output + mlp) + h * vocabSize));
  });

  test("of quantised weights is done in int8; a tied output reads the embedding", async () => {
    const path = join(folder, "q8_0.gguf");
    await writeTinyModel(path, { dtype: "Q8_0", tied: true });
    const work = workOf(await loadModel(path), 7);
    expect(work.perSample).toEqual({ int8: output + mlp + h * vocabSize, fp32: 0 });
    // 34 bytes for 32 weights.
    expect(work.weightBytes).toBe((34 / 32) * (2 * (qkv + output + mlp) + h * vocabSize));
  });
});

const WORK: ModelWork = {
  weightBytes: 1000,
  kv: [],
  perToken: { int8: 100, fp32: 10 },
  perSample: { int8: 50, fp32: 0 },
};
const single = (nPrompt: number, nGen: number): SingleTest => {
  return { kind: "single", nPrompt, nGen, nDepth: 0 };
};

function context(sequences: number, before: number, shared: number, growth: number): Context {
  return { sequences, before, shared, growth };
}

describe("phases", () => {
  test("a prompt takes as many steps as it has chunks and one sample; an output a step and a sample for each token", () => {
    expect(phasesOf(rowOf(single(512, 0), "both"), 512)).toEqual([
      { steps: 1, tokens: 512, samples: 1, context: context(1, 0, 0, 0) },
    ]);
    expect(phasesOf(rowOf(single(513, 8), "both"), 512)).toEqual([
      { steps: 2, tokens: 513, samples: 1, context: context(1, 0, 0, 0) },
      { steps: 8, tokens: 8, samples: 8, context: context(1, 513, 0, 1) },
    ]);
  });

  test("sequences side by side share steps; a shared prompt is computed once", () => {
    const test = { kind: "parallel", nPrompt: 100, nGen: 8, nParallel: 4, shared: false } as const;
    expect(phasesOf(rowOf(test, "both"), 512)).toEqual([
      { steps: 1, tokens: 400, samples: 4, context: context(4, 0, 0, 0) },
      { steps: 8, tokens: 32, samples: 32, context: context(4, 100, 0, 1) },
    ]);
    expect(phasesOf(rowOf({ ...test, shared: true }, "prompt"), 512)).toEqual([
      { steps: 1, tokens: 100, samples: 1, context: context(1, 0, 0, 0) },
    ]);
    expect(phasesOf(rowOf({ ...test, shared: true }, "gen"), 512)).toEqual([
      { steps: 8, tokens: 32, samples: 32, context: context(4, 100, 100, 1) },
    ]);
  });
});

describe("the KV that is read", () => {
  const phase = (steps: number, ...of: Parameters<typeof context>): Phase => {
    return { steps, tokens: steps, samples: steps, context: context(...of) };
  };
  const bytesOf = (one: Phase, window: number): number =>
    kvBytesOf(one, { ...WORK, kv: [{ window, bytes: 10 }] });

  test("is all that was there before each step, of each sequence", () => {
    expect(bytesOf(phase(3, 1, 100, 0, 1), 0)).toBe(10 * (100 + 101 + 102));
    expect(bytesOf(phase(2, 4, 100, 0, 0), 0)).toBe(10 * 4 * 200);
    expect(bytesOf(phase(1, 1, 0, 0, 1), 0)).toBe(0);
    expect(kvBytesOf(phase(3, 1, 100, 0, 1), WORK)).toBe(0);
  });

  test("is read once where sequences share it, and no further back than the window", () => {
    expect(bytesOf(phase(2, 4, 100, 100, 1), 0)).toBe(10 * (100 + 100 + 4));
    expect(bytesOf(phase(2, 4, 100, 0, 1), 60)).toBe(10 * 4 * 120);
    // In the second step the window has left one shared token behind.
    expect(bytesOf(phase(2, 4, 100, 100, 1), 100)).toBe(10 * (100 + 99 + 4));
    expect(bytesOf(phase(1, 4, 100, 30, 1), 60)).toBe(10 * 4 * 60);
  });

  test("counts as reading beside the weights", () => {
    const one = { ...WORK, kv: [{ window: 0, bytes: 10 }] };
    const slowMemory = { read: 100, int8: 1e9, fp32: 1e9 };
    expect(floorOf([phase(1, 1, 100, 0, 1)], one, slowMemory).ns).toBe(20e9);
  });
});

describe("the least time", () => {
  const step = { steps: 1, tokens: 1, samples: 1, context: context(1, 0, 0, 0) };

  test("is that of reading or of multiplying, whichever takes longer", () => {
    const slowMemory = { read: 100, int8: 1e9, fp32: 1e9 };
    expect(floorOf([step], WORK, slowMemory)).toEqual({ ns: 10e9, bounds: ["read"] });
    const slowInt8 = { read: 1e9, int8: 10, fp32: 1e9 };
    const { ns, bounds } = floorOf([step], WORK, slowInt8);
    expect(ns).toBeCloseTo(15e9, -2);
    expect(bounds).toEqual(["int8"]);
    expect(floorOf([step], WORK, { read: 1e9, int8: 1e9, fp32: 1 }).bounds).toEqual(["fp32"]);
  });

  test("adds up over phases, each with its own limit", () => {
    const peaks = { read: 1000, int8: 1000, fp32: Number.POSITIVE_INFINITY };
    const prompt = { ...step, tokens: 100 };
    // (100 * 100 + 50) / 1000 s of int8, then a second of reading.
    expect(floorOf([prompt, step], WORK, peaks)).toEqual({ ns: 11.05e9, bounds: ["int8", "read"] });
  });
});

describe("the share of a limit", () => {
  test("is the least time by the time that a run took, each run with the peaks before it", () => {
    const peaks = [1000, 500].map((read) => ({ read, int8: 1e9, fp32: 1e9 }));
    const share = shareOf(rowOf(single(0, 10), "both"), [20e9, 40e9], peaks, WORK, 512);
    expect(share).toEqual({ bound: ["read"], share: 0.5, samples: [0.5, 0.5] });
  });

  test("is of the instruction set that a backend is named after", () => {
    expect([isaOf("cpu/avx512"), isaOf("cpu/portable"), isaOf("null")]).toEqual([
      "avx512",
      "portable",
      undefined,
    ]);
  });
});
