import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { KvEngineError } from "../../../engine/errors.ts";
import { readGguf } from "../../../engine/models/gguf.ts";
import { type ModelConfig, readModelConfig } from "../../../engine/models/model-config.ts";
import {
  bool,
  bools,
  f32,
  int32s,
  type MetadataValue,
  text,
  u32,
  writeGguf,
} from "../../support/gguf-writer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";
import { tinyModel } from "../../support/tiny-model.ts";

const path = join(temporaryFolder(), "model.gguf");

/** The config of the tiny model with other metadata; undefined takes a key away. */
async function configWith(
  changes: Readonly<Record<string, MetadataValue | undefined>>,
): Promise<ModelConfig> {
  const contents = tinyModel();
  const entries = Object.entries({ ...contents.metadata, ...changes }).filter(
    (entry): entry is [string, MetadataValue] => entry[1] !== undefined,
  );
  await writeGguf(path, { ...contents, metadata: Object.fromEntries(entries) });
  return readModelConfig(readGguf(path));
}

async function errorWith(
  changes: Readonly<Record<string, MetadataValue | undefined>>,
): Promise<KvEngineError> {
  return await thrownBy(() => configWith(changes));
}

test("all numbers of the tiny model are read", async () => {
  expect(await configWith({})).toEqual({
    architecture: "llama",
    numLayers: 2,
    hiddenSize: 64,
    intermediateSize: 128,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 16,
    ropeDims: 16,
    ropeTheta: 10_000,
    rmsNormEps: Math.fround(1e-5),
    attentionScale: 0.25,
    vocabSize: 300,
    contextLength: 512,
    layerKinds: ["full", "full"],
    slidingWindow: 0,
  });
});

test("keys that are often missing have their usual values", async () => {
  const config = await configWith({
    "llama.vocab_size": undefined,
    "llama.rope.freq_base": undefined,
    "llama.rope.dimension_count": undefined,
    "llama.attention.head_count_kv": undefined,
  });
  expect(config).toMatchObject({ vocabSize: 300, ropeTheta: 10_000, ropeDims: 16, numKvHeads: 4 });
});

test("a head may be of another size than hidden / heads, and scaled in another way", async () => {
  const config = await configWith({
    "llama.attention.key_length": u32(32),
    "llama.attention.value_length": u32(32),
    "llama.attention.scale": f32(0.5),
  });
  expect(config).toMatchObject({ headDim: 32, attentionScale: 0.5 });
});

test("a number for each layer is one number where all are the same", async () => {
  expect((await configWith({ "llama.attention.head_count_kv": int32s([2, 2]) })).numKvHeads).toBe(
    2,
  );
});

test("layers have the window as the pattern says, where there is one", async () => {
  const kinds = async (
    window: number,
    pattern: MetadataValue | undefined,
  ): Promise<[string, number]> => {
    const { layerKinds, slidingWindow } = await configWith({
      "llama.block_count": u32(7),
      "llama.attention.sliding_window": u32(window),
      "llama.attention.sliding_window_pattern": pattern,
    });
    return [layerKinds.map((kind) => kind.charAt(0)).join(""), slidingWindow];
  };
  expect(await kinds(128, undefined)).toEqual(["wwwwwww", 128]);
  expect(await kinds(128, u32(0))).toEqual(["wwwwwww", 128]);
  expect(await kinds(128, u32(3))).toEqual(["wwfwwfw", 128]);
  expect(await kinds(511, u32(2))).toEqual(["wfwfwfw", 511]);
  expect(await kinds(128, u32(1))).toEqual(["fffffff", 0]);
  expect(await kinds(512, u32(3))).toEqual(["fffffff", 0]);
  expect(await kinds(0, u32(3))).toEqual(["fffffff", 0]);
  const list = [false, true, true, true, false, false, true];
  expect(await kinds(1, bools(list))).toEqual(["fwwwffw", 1]);
  expect(await kinds(1, bools(list.map(() => false)))).toEqual(["fffffff", 0]);
});

test("values that change nothing are accepted", async () => {
  const config = await configWith({
    "llama.expert_count": u32(0),
    "llama.rope.scaling.type": text("none"),
    "llama.attention.causal": bool(true),
    "llama.attention.sliding_window": u32(512),
    "llama.logit_scale": f32(1),
  });
  expect(config.numLayers).toBe(2);
});

describe("what is missing, of the wrong type, out of range or contradictory is a bad model:", () => {
  test.each([
    ["llama.block_count", undefined, "is missing"],
    ["llama.block_count", u32(0), "is 0, allowed is a whole number from 1 to 1024"],
    ["llama.block_count", text("2"), 'is "2", allowed is a whole number from 1 to 1024'],
    ["llama.block_count", f32(1.5), "is 1.5, allowed is a whole number"],
    [
      "llama.embedding_length",
      u32(2 ** 31),
      "is 2147483648, allowed is a whole number from 1 to 1048576",
    ],
    ["llama.embedding_length", u32(66), "makes heads of 16.5 elements"],
    ["llama.context_length", undefined, "is missing"],
    ["llama.attention.head_count", u32(0), "is 0, allowed is"],
    [
      "llama.attention.head_count_kv",
      u32(3),
      "is 3, which does not divide llama.attention.head_count, 4",
    ],
    ["llama.attention.head_count_kv", int32s([2]), "is a list of 1, allowed is 2 whole numbers"],
    ["llama.rope.dimension_count", u32(17), "is 17, allowed is an even number up to 16"],
    ["llama.rope.dimension_count", u32(32), "is 32, allowed is an even number up to 16"],
    ["llama.rope.freq_base", f32(Number.NaN), "is NaN, allowed is a number from 1 to"],
    ["llama.attention.layer_norm_rms_epsilon", f32(-1), "is -1, allowed is a number from"],
    ["llama.attention.sliding_window", f32(2.5), "is 2.5, allowed is a whole number"],
    [
      "llama.attention.sliding_window_pattern",
      bools([true]),
      "is a list of 1, allowed is 2 times true or false",
    ],
    [
      "llama.attention.sliding_window_pattern",
      int32s([1, 0]),
      "is a list of 2, allowed is 2 times",
    ],
    ["llama.attention.sliding_window_pattern", text("3"), 'is "3", allowed is a whole number'],
    ["llama.vocab_size", u32(301), "is 301, but token_embd.weight has 300 rows"],
    ["general.architecture", u32(1), "is 1, allowed is a string"],
  ] as const)("%s", async (key, value, problem) => {
    const error = await errorWith({ [key]: value });
    expect([error.code, error.subject]).toEqual(["bad_model", key]);
    expect(error.message).toStartWith(`${path}: metadata ${key} ${problem}`);
  });
});

describe("what there is no kernel for is refused, not ignored:", () => {
  test.each([
    ["llama.expert_count", u32(8), "mixtures of experts"],
    ["llama.rope.scaling.type", text("yarn"), "RoPE scaling"],
    ["llama.rope.scale_linear", f32(4), "RoPE scaling"],
    ["llama.rope.freq_base_swa", f32(10_000), "a RoPE base of its own for window layers"],
    ["llama.attention.causal", bool(false), "attention in both directions"],
    ["llama.logit_scale", f32(0.5), "scaled logits"],
    ["llama.attention.value_length", u32(32), "the key length, 16"],
    ["llama.feed_forward_length", int32s([128, 256]), "one number for all layers"],
  ] as const)("%s", async (key, value, reason) => {
    const error = await errorWith({ [key]: value });
    expect([error.code, error.subject]).toEqual(["unsupported", key]);
    expect(error.message).toContain(reason);
  });
});
