import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type LoadedModel, loadModel } from "../../../engine/models/registry.ts";
import type { Tape } from "../../../engine/models/tape.ts";
import { defaultModelPath } from "../../support/default-model.ts";
import { type GgufContents, text, u32, writeGguf } from "../../support/gguf-writer.ts";
import { quantize } from "../../support/quantize.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";
import { TINY, tinyModel, type TinyModelOptions } from "../../support/tiny-model.ts";

const folder = temporaryFolder();
const path = join(folder, "tiny.gguf");
const GOLDEN = join(import.meta.dir, "llama.tape.txt");

async function load(contents: GgufContents): Promise<LoadedModel> {
  await writeGguf(path, contents);
  return await loadModel(path);
}

async function loadTiny(options: TinyModelOptions = {}): Promise<LoadedModel> {
  return await load(tinyModel(options));
}

function withTensor(
  contents: GgufContents,
  name: string,
  values: Float32Array,
  dims: readonly number[],
): GgufContents {
  const others = contents.tensors.filter((tensor) => tensor.name !== name);
  return {
    ...contents,
    tensors: [...others, { name, dims, type: "F32", bytes: quantize(values, "F32") }],
  };
}

/** One line a value, then one line an op. */
function tapeText({ values, ops }: Tape): string {
  const shapes = values.map(({ rows, width }, id) => `value ${id}: [${rows}, ${width}]`);
  const lines = ops.map(({ op, label, ...fields }) => `${op} ${label} ${JSON.stringify(fields)}`);
  return [...shapes, ...lines, ""].join("\n");
}

test("the tape of the tiny model is the recorded one (KVENGINE_UPDATE_GOLDEN=1 records it)", async () => {
  const found = tapeText((await loadTiny()).tape);
  if (process.env["KVENGINE_UPDATE_GOLDEN"] === "1") await Bun.write(GOLDEN, found);
  expect(found).toBe(await Bun.file(GOLDEN).text());
});

test("every value is written once, before it is read", async () => {
  const written = new Set<number>();
  for (const op of (await loadTiny()).tape.ops) {
    const fields = Object.entries(op);
    const reads = fields
      .filter(([name]) => ["x", "y", "residual", "qkv", "logits"].includes(name))
      .map(([, id]) => Number(id));
    for (const id of reads) expect(written.has(id)).toBe(true);
    for (const [name, id] of fields) {
      if (name !== "out" && name !== "sum") continue;
      expect(written.has(Number(id))).toBe(false);
      written.add(Number(id));
    }
  }
});

test("tensors are found where the file has them", async () => {
  const { tensors, gguf, files } = await loadTiny({ dtype: "Q4_0" });
  expect(files).toEqual([path]);
  expect(tensors).toHaveLength(gguf.tensors.length);
  const query = gguf.tensors.find(({ name }) => name === "blk.1.attn_q.weight");
  expect(tensors.find(({ name }) => name === "blk.1.attn_q.weight")).toEqual({
    name: "blk.1.attn_q.weight",
    dtype: "Q4_0",
    rows: 64,
    cols: 64,
    file: 0,
    offset: query?.offset ?? -1,
    bytes: (64 * 64 * 18) / 32,
  });
  expect(tensors.find(({ name }) => name === "output_norm.weight")).toMatchObject({
    dtype: "F32",
    rows: 1,
    cols: 64,
  });
});

test("without an output matrix the embedding takes its place", async () => {
  const { tape, tensors } = await loadTiny({ tied: true });
  expect(tape.ops.at(-2)).toMatchObject({
    op: "linear",
    label: "output",
    weights: ["token_embd.weight"],
  });
  expect(tensors.filter(({ name }) => name === "token_embd.weight")).toHaveLength(1);
});

test("after the last attention only sampled rows are computed", async () => {
  const { tape } = await loadTiny();
  const last = tape.ops.findLastIndex(({ op }) => op === "attention");
  const rows = tape.ops
    .slice(last + 1)
    .map((op) => ("out" in op ? tape.values[op.out]?.rows : "samples"));
  expect(new Set(rows)).toEqual(new Set(["samples"]));
});

test("biases are read where the file has them", async () => {
  let contents = tinyModel();
  for (const layer of [0, 1]) {
    contents = withTensor(contents, `blk.${layer}.attn_q.bias`, new Float32Array(64), [64]);
    contents = withTensor(contents, `blk.${layer}.attn_k.bias`, new Float32Array(32), [32]);
    contents = withTensor(contents, `blk.${layer}.attn_v.bias`, new Float32Array(32), [32]);
  }
  const { tape } = await load(contents);
  expect(tape.ops.find(({ label }) => label === "blk.1.attn_qkv")).toMatchObject({
    biases: ["blk.1.attn_q.bias", "blk.1.attn_k.bias", "blk.1.attn_v.bias"],
  });
  const part = withTensor(tinyModel(), "blk.0.attn_q.bias", new Float32Array(64), [64]);
  const error = await thrownBy(() => load(part));
  expect([error.code, error.message]).toEqual([
    "unsupported",
    expect.stringContaining("blk.0.attn_q.bias"),
  ]);
});

test("rotation factors are used where the file has them", async () => {
  const { tape } = await load(
    withTensor(tinyModel(), "rope_freqs.weight", new Float32Array(8).fill(1), [8]),
  );
  for (const op of tape.ops) if (op.op === "rope") expect(op.frequencies).toBe("rope_freqs.weight");
});

test("window layers and full ones have groups of their own, and windows on the tape", async () => {
  const { tape, groups } = await loadTiny({ hybrid: true });
  const spec = { layers: 2, numKvHeads: TINY.numKvHeads, headDim: TINY.headDim };
  expect(groups).toEqual([
    { ...spec, kind: "window", window: 24 },
    { ...spec, kind: "window", window: 24 },
    { ...spec, kind: "full", window: 0 },
  ]);
  const attention = tape.ops.flatMap((op) => (op.op === "attention" ? [op] : []));
  expect(attention.map(({ group, layer, window }) => [group, layer, window])).toEqual([
    [0, 0, 24],
    [0, 1, 24],
    [2, 0, undefined],
    [1, 0, 24],
    [1, 1, 24],
    [2, 1, undefined],
  ]);
  const stored = tape.ops.flatMap((op) => (op.op === "storeKv" ? [[op.group, op.layer]] : []));
  expect(stored).toEqual(attention.map(({ group, layer }) => [group, layer]));
});

describe("a model that cannot be run is refused by name:", () => {
  test("another architecture", async () => {
    const contents = tinyModel();
    const error = await thrownBy(() =>
      load({
        ...contents,
        metadata: { ...contents.metadata, "general.architecture": text("toString") },
      }),
    );
    expect([error.code, error.message]).toEqual([
      "unsupported",
      `${path}: architecture "toString" is not supported; supported are llama`,
    ]);
  });

  test("one part of several", async () => {
    const contents = tinyModel();
    const error = await thrownBy(() =>
      load({ ...contents, metadata: { ...contents.metadata, "split.count": u32(3) } }),
    );
    expect([error.code, error.message]).toEqual([
      "unsupported",
      `${path}: is one of 3 parts of a model; supported are whole files`,
    ]);
  });

  test("a tensor that is missing", async () => {
    const contents = tinyModel();
    const error = await thrownBy(() =>
      load({
        ...contents,
        tensors: contents.tensors.filter(({ name }) => name !== "blk.1.ffn_up.weight"),
      }),
    );
    expect([error.code, error.subject]).toEqual(["bad_model", "blk.1.ffn_up.weight"]);
    expect(error.message).toContain("tensor blk.1.ffn_up.weight is missing");
  });

  test("a tensor of another shape", async () => {
    const error = await thrownBy(() =>
      load(withTensor(tinyModel(), "blk.0.attn_k.weight", new Float32Array(64 * 16), [64, 16])),
    );
    expect([error.code, error.message]).toEqual([
      "bad_model",
      `${path}: tensor blk.0.attn_k.weight is [64, 16]; blk.0.attn_k.weight needs [64, 32]`,
    ]);
  });

  test("a tensor that the architecture does not have", async () => {
    const error = await thrownBy(() =>
      load(withTensor(tinyModel(), "blk.0.attn_q_norm.weight", new Float32Array(16), [16])),
    );
    expect([error.code, error.subject]).toEqual(["unsupported", "blk.0.attn_q_norm.weight"]);
  });

  test("a tensor of a type without kernels", async () => {
    const contents = tinyModel();
    const tensors = contents.tensors.map((tensor) =>
      tensor.name === "blk.0.ffn_down.weight"
        ? { ...tensor, type: "IQ4_NL", bytes: new Uint8Array((64 * 128 * 18) / 32) }
        : tensor,
    );
    const error = await thrownBy(() => load({ ...contents, tensors }));
    expect([error.code, error.subject]).toEqual(["unsupported", "blk.0.ffn_down.weight"]);
    expect(error.message).toContain(
      "tensor blk.0.ffn_down.weight has type IQ4_NL; supported is F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16",
    );
  });

  test("a norm that is not F32", async () => {
    const contents = tinyModel();
    const tensors = contents.tensors.map((tensor) =>
      tensor.name === "output_norm.weight"
        ? { ...tensor, type: "F16", bytes: new Uint8Array(128) }
        : tensor,
    );
    expect((await thrownBy(() => load({ ...contents, tensors }))).message).toContain(
      "has type F16; supported is F32",
    );
  });
});

const realModel = defaultModelPath();
// A skip says why: the model is downloaded by the test command, not by the tests.
test.skipIf(!existsSync(realModel))(
  `the default model's tensors are all read, and no other (needs ${realModel})`,
  async () => {
    const { config, tape, tensors, gguf, groups, vocabulary, name } = await loadModel(realModel);
    expect(name).toBe("Smollm2 135M 8k Lc100K Mix1 Ep2");
    expect(config).toMatchObject({
      numLayers: 30,
      hiddenSize: 576,
      numHeads: 9,
      numKvHeads: 3,
      headDim: 64,
      vocabSize: 49_152,
    });
    expect(groups).toEqual([{ layers: 30, numKvHeads: 3, headDim: 64, kind: "full", window: 0 }]);
    expect(tensors.map((tensor) => tensor.name).sort()).toEqual(
      gguf.tensors.map((tensor) => tensor.name).sort(),
    );
    expect(tape.ops).toHaveLength(1 + 1 + 30 * 10 + 2 + 2);
    expect(tape.ops.at(-2)).toMatchObject({ op: "linear", weights: ["token_embd.weight"] });
    expect(vocabulary.tokens).toHaveLength(49_152);
    expect(vocabulary).toMatchObject({
      model: "gpt2",
      pre: "smollm",
      bosId: 1,
      eosId: 2,
      addBos: false,
      eosIds: [2, 0],
    });
  },
);

test("the tiny model has what the table says", async () => {
  const { config } = await loadTiny({ contextLength: 77 });
  const { imStart: _s, imEnd: _e, endOfText: _t, ...numbers } = TINY;
  expect(config).toMatchObject({ ...numbers, contextLength: 77 });
});
