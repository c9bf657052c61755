import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { readGguf } from "../../../engine/models/gguf.ts";
import {
  bool,
  type GgufContents,
  type MetadataValue,
  text,
  texts,
  u32,
  writeGguf,
} from "../../support/gguf-writer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const path = join(temporaryFolder(), "model.gguf");

function tensor(
  name: string,
  dims: readonly number[],
  type: string,
  bytes: number,
): GgufContents["tensors"][number] {
  return { name, dims, type, bytes: new Uint8Array(bytes) };
}

async function read(contents: GgufContents): Promise<ReturnType<typeof readGguf>> {
  await writeGguf(path, contents);
  return readGguf(path);
}

describe("values", () => {
  test("of each type come back as they were written", async () => {
    const metadata: Record<string, MetadataValue> = {
      u8: { type: "uint8", value: 200 },
      i8: { type: "int8", value: -5 },
      u16: { type: "uint16", value: 60_000 },
      i16: { type: "int16", value: -300 },
      u32: u32(4_000_000_000),
      i32: { type: "int32", value: -70_000 },
      f32: { type: "float32", value: 0.5 },
      yes: bool(true),
      text: text("Grüße 👋"),
      empty: text(""),
      u64: { type: "uint64", value: 2 ** 40 },
      big: { type: "uint64", value: 2n ** 63n },
      i64: { type: "int64", value: -1 },
      f64: { type: "float64", value: 1e300 },
      "list of texts": texts(["a", "", "ć"]),
      "list of numbers": { type: "array", of: "int16", values: [1, -2] },
      "list of 64 bits": { type: "array", of: "uint64", values: [1n, 2n ** 60n] },
      "list of truths": { type: "array", of: "bool", values: [true, false] },
      lists: {
        type: "array",
        of: "array",
        values: [texts(["x"]), { type: "array", of: "uint8", values: [7] }],
      },
      "empty list": texts([]),
    };
    const file = await read({ metadata, tensors: [] });
    expect(Object.fromEntries(file.metadata)).toEqual({
      u8: 200,
      i8: -5,
      u16: 60_000,
      i16: -300,
      u32: 4_000_000_000,
      i32: -70_000,
      f32: 0.5,
      yes: true,
      text: "Grüße 👋",
      empty: "",
      u64: 2 ** 40,
      big: 2n ** 63n,
      i64: -1,
      f64: 1e300,
      "list of texts": ["a", "", "ć"],
      "list of numbers": Int16Array.of(1, -2),
      "list of 64 bits": BigUint64Array.of(1n, 2n ** 60n),
      "list of truths": [true, false],
      lists: [["x"], Uint8Array.of(7)],
      "empty list": [],
    });
  });

  test("longer than what is read at once are whole", async () => {
    const strings = Array.from({ length: 300_000 }, (_, i) => `token ${i} ć`);
    const numbers = Int32Array.from({ length: 600_000 }, (_, i) => i);
    const long = "x".repeat(3_000_000);
    const file = await read({
      metadata: {
        strings: texts(strings),
        numbers: { type: "array", of: "int32", values: numbers },
        long: text(long),
        last: u32(7),
      },
      tensors: [],
    });
    expect(file.metadata.get("strings")).toEqual(strings);
    expect(file.metadata.get("numbers")).toEqual(numbers);
    expect(file.metadata.get("long")).toBe(long);
    expect(file.metadata.get("last")).toBe(7);
  });
});

describe("tensors", () => {
  test("have their type, shape, place and size", async () => {
    const file = await read({
      metadata: {},
      tensors: [
        tensor("a", [32, 3], "Q4_1", 60),
        tensor("b", [5], "F32", 20),
        tensor("c", [256, 2, 2], "Q6_K", 840),
      ],
    });
    const [a, b, c] = file.tensors;
    expect(a).toMatchObject({
      name: "a",
      dims: [32, 3],
      elements: 96,
      bytes: 60,
      offset: file.dataOffset,
    });
    expect(a?.type.name).toBe("Q4_1");
    expect(b).toMatchObject({
      name: "b",
      dims: [5],
      elements: 5,
      bytes: 20,
      offset: file.dataOffset + 64,
    });
    expect(c).toMatchObject({
      name: "c",
      dims: [256, 2, 2],
      elements: 1024,
      bytes: 840,
      offset: file.dataOffset + 96,
    });
    expect(file.dataOffset % 32).toBe(0);
  });

  test("lie at the file's own alignment", async () => {
    const file = await read({
      alignment: 1024,
      metadata: { "general.alignment": u32(1024) },
      tensors: [tensor("a", [1], "F32", 4), tensor("b", [1], "F32", 4)],
    });
    expect(file.alignment).toBe(1024);
    expect(file.tensors.map(({ offset }) => offset - file.dataOffset)).toEqual([0, 1024]);
  });

  test("of types without kernels are listed", async () => {
    const file = await read({ metadata: {}, tensors: [tensor("a", [256], "IQ2_XXS", 66)] });
    expect(file.tensors[0]?.type).toMatchObject({ name: "IQ2_XXS", supported: false });
  });
});

test("version 2 is read like version 3", async () => {
  const file = await read({ version: 2, metadata: { a: u32(1) }, tensors: [] });
  expect([file.version, file.metadata.get("a")]).toEqual([2, 1]);
});
