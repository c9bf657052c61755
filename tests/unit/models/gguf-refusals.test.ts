import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { readGguf } from "../../../engine/models/gguf.ts";
import {
  bool,
  encodeGguf,
  type GgufContents,
  type MetadataValue,
  text,
  texts,
  u32,
  writeGguf,
} from "../../support/gguf-writer.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { thrownBy } from "../../support/thrown.ts";

const folder = temporaryFolder();
const path = join(folder, "model.gguf");
const NO_TENSORS: GgufContents = { metadata: {}, tensors: [] };

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

/** The message for a file whose bytes were changed after it was written. */
async function messageAfter(
  contents: GgufContents,
  change: (file: Uint8Array, view: DataView) => Uint8Array | void,
): Promise<string> {
  const file = encodeGguf(contents);
  await Bun.write(path, change(file, new DataView(file.buffer)) ?? file);
  const error = await thrownBy(() => readGguf(path));
  expect(error.code).toBe("bad_model");
  expect(error.message).toStartWith(path);
  return error.message;
}

/** Offset of a name's first byte in the file. */
function find(file: Uint8Array, name: string): number {
  return Buffer.from(file.buffer).indexOf(name);
}

describe("a file that is wrong is refused by name and place:", () => {
  test("missing", async () => {
    const error = await thrownBy(() => readGguf(join(folder, "none.gguf")));
    expect([error.code, error.message]).toEqual([
      "bad_model",
      expect.stringContaining("none.gguf: cannot be opened"),
    ]);
  });

  test("a folder", async () => {
    expect((await thrownBy(() => readGguf(folder))).message).toBe(`${folder}: is not a file`);
  });

  test.each(["", "GG", "GGML and more"])("not GGUF: %p", async (content) => {
    await Bun.write(path, content);
    const error = await thrownBy(() => readGguf(path));
    expect([error.code, error.message]).toEqual([
      "bad_model",
      `${path}: is not a GGUF file: it does not begin with GGUF`,
    ]);
  });

  test("version 1", async () => {
    const message = await messageAfter(NO_TENSORS, (_, view) => view.setUint32(4, 1, true));
    expect(message).toEndWith("GGUF version is 1; versions 2 and 3 can be read");
  });

  test("big-endian", async () => {
    const file = encodeGguf(NO_TENSORS);
    new DataView(file.buffer).setUint32(4, 3, false);
    await Bun.write(path, file);
    const error = await thrownBy(() => readGguf(path));
    expect([error.code, error.message]).toEqual([
      "unsupported",
      expect.stringContaining("big-endian"),
    ]);
  });

  test.each([
    ["tensors", 8],
    ["metadata keys", 16],
  ])("more %s than there can be", async (what, at) => {
    const huge = await messageAfter(NO_TENSORS, (_, view) =>
      view.setBigUint64(at, 2n ** 64n - 1n, true),
    );
    expect(huge).toContain(
      `at byte ${at}: number of ${what} is 18446744073709551615, more than any file holds`,
    );
    const many = await messageAfter(NO_TENSORS, (_, view) =>
      view.setBigUint64(at, 1_000_000n, true),
    );
    expect(many).toContain(`number of ${what} is 1000000, allowed is 0 to`);
    const some = await messageAfter(NO_TENSORS, (_, view) => view.setBigUint64(at, 100n, true));
    expect(some).toContain(`number of ${what} is 100, but only`);
  });

  test("cut off in a value", async () => {
    const message = await messageAfter(
      { metadata: { "a.key": text("abcdefgh") }, tensors: [] },
      (file) => file.slice(0, find(file, "abcd") + 3),
    );
    expect(message).toContain("metadata a.key needs 8 bytes, but the file ends after 3 more");
  });

  test("a string longer than the file, or than a string may be", async () => {
    const contents: GgufContents = { metadata: { key: text("abcdefgh") }, tensors: [] };
    const long = await messageAfter(contents, (file, view) =>
      view.setBigUint64(find(file, "abcd") - 8, 1000n, true),
    );
    expect(long).toContain("metadata key needs 1000 bytes");
    const huge = await messageAfter(contents, (file, view) =>
      view.setBigUint64(find(file, "abcd") - 8, 2n ** 40n, true),
    );
    expect(huge).toContain(
      "metadata key: length of a string is 1099511627776, allowed is 0 to 16777216",
    );
  });

  test("a list longer than the file", async () => {
    const contents: GgufContents = { metadata: { key: texts(["abcdefgh"]) }, tensors: [] };
    const message = await messageAfter(contents, (file, view) =>
      view.setBigUint64(find(file, "abcd") - 16, 1000n, true),
    );
    expect(message).toContain("metadata key: number of elements is 1000, but only");
  });

  test("a list, or a whole header, that would fill the memory, though the file is that long", async () => {
    const list = (count: number): MetadataValue => ({
      type: "array",
      of: "uint8",
      values: new Uint8Array(count).fill(1),
    });
    const count = 1 << 25;
    const one = await messageAfter({ metadata: { key: list(8) }, tensors: [] }, (file, view) => {
      view.setBigUint64(find(file, "\u0001".repeat(8)) - 8, BigInt(count + 1), true);
      return new Uint8Array(Buffer.concat([file, Buffer.alloc(count + 1)]));
    });
    expect(one).toContain("metadata key: number of elements is 33554433, allowed is 0 to 33554432");
    const all = await messageAfter(
      { metadata: { a: list(count), b: list(count) }, tensors: [] },
      () => undefined,
    );
    expect(all).toContain("metadata b: the header is longer than 67108864 bytes");
  });

  test("a list nested too deep", async () => {
    const nest = (depth: number): MetadataValue =>
      depth === 0 ? texts([]) : { type: "array", of: "array", values: [nest(depth - 1)] };
    expect((await read({ metadata: { key: nest(3) }, tensors: [] })).metadata.size).toBe(1);
    const message = await messageAfter(
      { metadata: { key: nest(4) }, tensors: [] },
      () => undefined,
    );
    expect(message).toContain("metadata key: arrays are nested deeper than 4");
  });

  test("a value of an unknown type", async () => {
    const message = await messageAfter({ metadata: { key: u32(1) }, tensors: [] }, (file, view) =>
      view.setUint32(find(file, "key") + 3, 13, true),
    );
    expect(message).toContain("metadata key: value type is 13, allowed is 0 to 12");
  });

  test("a truth value that is neither", async () => {
    const message = await messageAfter({ metadata: { key: bool(true) }, tensors: [] }, (file) => {
      file[find(file, "key") + 7] = 2;
    });
    expect(message).toContain("metadata key: a truth value is 2, allowed is 0 or 1");
  });

  test("a key twice", async () => {
    const message = await messageAfter(
      { metadata: { key1: u32(1), key2: u32(1) }, tensors: [] },
      (file) => {
        file[find(file, "key2") + 3] = "1".charCodeAt(0);
      },
    );
    expect(message).toContain("metadata key key1 is there twice");
  });

  test("a name without letters, too long, or not UTF-8", async () => {
    const contents: GgufContents = { metadata: { key: u32(1) }, tensors: [] };
    const none = await messageAfter(contents, (file, view) =>
      view.setBigUint64(find(file, "key") - 8, 0n, true),
    );
    expect(none).toContain("length of a metadata key is 0, allowed is 1 to 65535");
    const long = await messageAfter(contents, (file, view) =>
      view.setBigUint64(find(file, "key") - 8, 65_536n, true),
    );
    expect(long).toContain("length of a metadata key is 65536");
    const bytes = await messageAfter(contents, (file) => {
      file[find(file, "key")] = 0xff;
    });
    expect(bytes).toContain("is not UTF-8");
  });

  test.each([
    ["text", text("32")],
    ["0", u32(0)],
    ["12", u32(12)],
    ["4", u32(4)],
    ["2^40", { type: "uint64", value: 2 ** 40 }],
  ] as const)("alignment %s", async (_, alignment) => {
    const message = await messageAfter(
      { metadata: { "general.alignment": alignment }, tensors: [] },
      () => undefined,
    );
    expect(message).toContain("metadata general.alignment is");
    expect(message).toContain("allowed is a power of two from 8 to 1048576");
  });

  const oneTensor: GgufContents = {
    metadata: {},
    tensors: [tensor("ten.sor", [32, 2], "Q8_0", 68)],
  };
  const afterName = (file: Uint8Array): number => find(file, "ten.sor") + 7;

  test("a tensor twice", async () => {
    const message = await messageAfter(
      { metadata: {}, tensors: [tensor("t1", [1], "F32", 4), tensor("t2", [1], "F32", 4)] },
      (file) => {
        file[find(file, "t2") + 1] = "1".charCodeAt(0);
      },
    );
    expect(message).toContain("tensor t1 is there twice");
  });

  test.each([0, 5])("a tensor of %i dimensions", async (count) => {
    const message = await messageAfter(oneTensor, (file, view) =>
      view.setUint32(afterName(file), count, true),
    );
    expect(message).toContain(
      `tensor ten.sor: number of dimensions is ${count}, allowed is 1 to 4`,
    );
  });

  test("dimensions that are 0 or overflow", async () => {
    const zero = await messageAfter(oneTensor, (file, view) =>
      view.setBigUint64(afterName(file) + 4, 0n, true),
    );
    expect(zero).toContain("tensor ten.sor: dimension 0 is 0, allowed is 1 and more");
    const product = await messageAfter(oneTensor, (file, view) =>
      view.setBigUint64(afterName(file) + 4, 2n ** 53n - 1n, true),
    );
    expect(product).toContain("tensor ten.sor: dimensions are more than any file holds");
    const one = await messageAfter(oneTensor, (file, view) =>
      view.setBigUint64(afterName(file) + 4, 2n ** 63n, true),
    );
    expect(one).toContain("tensor ten.sor: dimension 0 is 9223372036854775808");
  });

  test("rows that are no whole blocks", async () => {
    const message = await messageAfter(oneTensor, (file, view) =>
      view.setBigUint64(afterName(file) + 4, 33n, true),
    );
    expect(message).toContain("tensor ten.sor: rows have 33 elements, Q8_0 needs a multiple of 32");
  });

  test("a type that is not known", async () => {
    const file = encodeGguf(oneTensor);
    new DataView(file.buffer).setUint32(afterName(file) + 20, 99, true);
    await Bun.write(path, file);
    const error = await thrownBy(() => readGguf(path));
    expect([error.code, error.subject]).toEqual(["unsupported", "ten.sor"]);
    expect(error.message).toContain(
      "tensor ten.sor has type number 99; supported are F32, F16, Q4_0",
    );
  });

  test("an offset that is not aligned, or past the end", async () => {
    const odd = await messageAfter(oneTensor, (file, view) =>
      view.setBigUint64(afterName(file) + 24, 8n, true),
    );
    expect(odd).toContain(
      "tensor ten.sor: offset is 8, which is not a multiple of the alignment 32",
    );
    const far = await messageAfter(oneTensor, (file, view) =>
      view.setBigUint64(afterName(file) + 24, 2n ** 52n, true),
    );
    expect(far).toContain("tensor ten.sor: ends at byte");
    const cut = await messageAfter(oneTensor, (file) => file.slice(0, -1));
    expect(cut).toMatch(/tensor ten\.sor: ends at byte \d+, but the file has \d+$/);
  });

  test("tensors over one another", async () => {
    const contents: GgufContents = {
      metadata: {},
      tensors: [tensor("t1", [16], "F32", 64), tensor("t2", [1], "F32", 4)],
    };
    const message = await messageAfter(contents, (file, view) =>
      view.setBigUint64(find(file, "t2") + 2 + 4 + 8 + 4, 32n, true),
    );
    expect(message).toContain("tensors t1 and t2 lie over one another");
  });
});
