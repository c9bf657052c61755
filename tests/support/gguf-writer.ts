/** Writes GGUF files (version 3, little-endian) for tests. Trusts its caller: wrong files are made on purpose with it. */

import { GGML_TYPES } from "../../engine/models/ggml-types.ts";

export const VALUE_TYPES = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;

export type ScalarType = Exclude<keyof typeof VALUE_TYPES, "array">;

export type MetadataValue =
  | { readonly type: ScalarType; readonly value: number | bigint | boolean | string }
  | {
      readonly type: "array";
      readonly of: ScalarType;
      readonly values: ArrayLike<number | bigint | boolean | string>;
    }
  | { readonly type: "array"; readonly of: "array"; readonly values: readonly MetadataValue[] };

export interface TensorContents {
  readonly name: string;
  /** GGUF order: the contiguous dimension first. */
  readonly dims: readonly number[];
  /** Name of the ggml type. */
  readonly type: string;
  readonly bytes: Uint8Array;
}

export interface GgufContents {
  readonly version?: number;
  readonly alignment?: number;
  readonly metadata: Readonly<Record<string, MetadataValue>>;
  readonly tensors: readonly TensorContents[];
}

export const u32 = (value: number): MetadataValue => ({ type: "uint32", value });
export const f32 = (value: number): MetadataValue => ({ type: "float32", value });
export const bool = (value: boolean): MetadataValue => ({ type: "bool", value });
export const text = (value: string): MetadataValue => ({ type: "string", value });
export const texts = (values: readonly string[]): MetadataValue => ({
  type: "array",
  of: "string",
  values,
});
export const int32s = (values: readonly number[]): MetadataValue => ({
  type: "array",
  of: "int32",
  values,
});

export const bools = (values: readonly boolean[]): MetadataValue => ({
  type: "array",
  of: "bool",
  values,
});

/** The bytes of a whole file. */
export function encodeGguf(contents: GgufContents): Uint8Array {
  const alignment = contents.alignment ?? 32;
  const header = encodeHeader(contents, alignment);
  const start = alignUp(header.length, alignment);
  const total = contents.tensors.reduce(
    (end, { bytes }) => alignUp(end, alignment) + bytes.length,
    start,
  );
  const file = new Uint8Array(total);
  file.set(header);
  let offset = start;
  for (const { bytes } of contents.tensors) {
    offset = alignUp(offset, alignment);
    file.set(bytes, offset);
    offset += bytes.length;
  }
  return file;
}

export async function writeGguf(path: string, contents: GgufContents): Promise<void> {
  await Bun.write(path, encodeGguf(contents));
}

function encodeHeader(
  { version = 3, metadata, tensors }: GgufContents,
  alignment: number,
): Uint8Array {
  const out = new Bytes();
  out.raw(new TextEncoder().encode("GGUF"));
  out.scalar("uint32", version);
  out.scalar("uint64", tensors.length);
  out.scalar("uint64", Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    out.scalar("string", key);
    out.scalar("uint32", VALUE_TYPES[value.type]);
    out.value(value);
  }
  let offset = 0;
  for (const { name, dims, type, bytes } of tensors) {
    out.scalar("string", name);
    out.scalar("uint32", dims.length);
    for (const dim of dims) out.scalar("uint64", dim);
    out.scalar("uint32", typeNumber(type));
    out.scalar("uint64", offset);
    offset = alignUp(offset + bytes.length, alignment);
  }
  return out.take();
}

function typeNumber(name: string): number {
  for (const [number, type] of GGML_TYPES) if (type.name === name) return number;
  throw new Error(`no ggml type ${name}`);
}

function alignUp(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

/** Bytes that grow. */
class Bytes {
  private buffer = new Uint8Array(1 << 16);
  private length = 0;

  take(): Uint8Array {
    return this.buffer.slice(0, this.length);
  }

  raw(bytes: Uint8Array): void {
    const at = this.room(bytes.length);
    this.buffer.set(bytes, at);
  }

  value(value: MetadataValue): void {
    if (value.type !== "array") {
      this.scalar(value.type, value.value);
      return;
    }
    this.scalar("uint32", VALUE_TYPES[value.of]);
    this.scalar("uint64", value.values.length);
    if (value.of === "array") for (const inner of value.values) this.value(inner);
    else if (value.values instanceof Uint8Array) this.raw(value.values);
    else for (const element of Array.from(value.values)) this.scalar(value.of, element);
  }

  scalar(type: ScalarType, value: number | bigint | boolean | string): void {
    switch (type) {
      case "string": {
        const bytes = new TextEncoder().encode(String(value));
        this.scalar("uint64", bytes.length);
        this.raw(bytes);
        break;
      }
      case "bool":
      case "uint8":
      case "int8":
        this.view(1).setUint8(0, Number(value));
        break;
      case "uint16":
      case "int16":
        this.view(2).setUint16(0, Number(value), true);
        break;
      case "uint32":
      case "int32":
        this.view(4).setUint32(0, Number(value), true);
        break;
      case "float32":
        this.view(4).setFloat32(0, Number(value), true);
        break;
      case "float64":
        this.view(8).setFloat64(0, Number(value), true);
        break;
      case "uint64":
      case "int64":
        this.view(8).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
        break;
    }
  }

  private view(size: number): DataView {
    const at = this.room(size);
    return new DataView(this.buffer.buffer, at, size);
  }

  /** Makes room at the end and answers where it begins. */
  private room(size: number): number {
    const at = this.length;
    this.length += size;
    if (this.length > this.buffer.length) {
      const grown = new Uint8Array(Math.max(this.length, 2 * this.buffer.length));
      grown.set(this.buffer);
      this.buffer = grown;
    }
    return at;
  }
}
