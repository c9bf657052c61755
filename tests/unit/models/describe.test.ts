import { expect, test } from "bun:test";
import { join } from "node:path";
import { describeGguf, describeModel } from "../../../engine/models/describe.ts";
import { readGguf } from "../../../engine/models/gguf.ts";
import { loadModel } from "../../../engine/models/registry.ts";
import { text, texts, writeGguf } from "../../support/gguf-writer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TINY, writeTinyModel } from "../../support/tiny-model.ts";

const path = join(temporaryFolder(), "model.gguf");

test("a model's parameters, bytes by type and KV bytes a token are counted", async () => {
  await writeTinyModel(path, { dtype: "Q8_0", tied: true });
  const description = describeModel(await loadModel(path));
  const matrices = 300 * 64 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128);
  expect(description).toMatchObject({
    name: "Tiny Test Model",
    architecture: "llama",
    parameters: matrices + 5 * 64,
    tensorCount: 20,
    tensorBytes: (matrices * 34) / 32 + 5 * 64 * 4,
    kvElementsPerToken: TINY.numLayers * 2 * TINY.numKvHeads * TINY.headDim,
    kvBytesPerToken: 256,
    ops: 26,
  });
  expect(description.tensorTypes).toEqual([
    { type: "Q8_0", supported: true, count: 15, elements: matrices, bytes: (matrices * 34) / 32 },
    { type: "F32", supported: true, count: 5, elements: 320, bytes: 1280 },
  ]);
});

test("metadata is shown on one line, shortened, and without control characters", async () => {
  const metadata = {
    long: text("x".repeat(1000)),
    bell: text("a\u001B[31m\u0085b"),
    list: texts(Array.from({ length: 9 }, (_, i) => String(i))),
  };
  await writeGguf(path, { metadata, tensors: [] });
  expect(describeGguf(readGguf(path)).metadata).toEqual([
    { key: "long", value: `"${"x".repeat(100)}"…` },
    { key: "bell", value: String.raw`"a\u001b[31m?b"` },
    { key: "list", value: '["0", "1", "2", "3", "4", "5", … 9 in all]' },
  ]);
});
