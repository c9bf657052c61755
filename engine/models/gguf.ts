/**
 * Reads the header of a GGUF file (versions 2 and 3): metadata and where each tensor lies. The file may come from
 * anywhere, so every count, length and offset is checked against what the file can hold before it is used, and memory
 * stays below the limits here. Format: `docs/gguf.md` of ggml. Knows no architecture.
 */

import { KvEngineError } from "../errors.ts";
import { FileCursor } from "./file-cursor.ts";
import { GGML_TYPES, type GgmlType, SUPPORTED_TYPE_NAMES } from "./ggml-types.ts";
import { type GgufValue, readValue } from "./gguf-value.ts";

export type { GgufValue };

export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** The contiguous dimension first; one to four. */
  readonly dims: readonly number[];
  readonly elements: number;
  /** From the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface GgufFile {
  readonly path: string;
  readonly version: number;
  readonly alignment: number;
  /** Bytes of the file. */
  readonly size: number;
  /** Where tensor data begins. */
  readonly dataOffset: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the file, names unique, inside the file, none over another. */
  readonly tensors: readonly GgufTensor[];
}

const MAGIC = 0x46_55_47_47;
const VERSIONS = [2, 3];
/** Files in use have under a hundred keys and under 50,000 tensors. */
const MAX_KEYS = 65_536;
const MAX_TENSORS = 262_144;
const MAX_NAME_BYTES = 65_535;
const MAX_DIMS = 4;
const DEFAULT_ALIGNMENT = 32;
const MIN_ALIGNMENT = 8;
const MAX_ALIGNMENT = 1 << 20;
/** Least bytes of a key (length, type, value) and of a tensor (length, dimensions, one of them, type, offset). */
const KEY_BYTES = 8 + 4 + 1;
const TENSOR_BYTES = 8 + 4 + 8 + 4 + 8;

/** Throws `bad_model`, naming the file and the place, or `unsupported` for a tensor type that is not known. */
export function readGguf(path: string): GgufFile {
  using cursor = new FileCursor(path);
  const version = readPreamble(cursor);
  const numTensors = readCount(cursor, "number of tensors", MAX_TENSORS, TENSOR_BYTES);
  const numKeys = readCount(cursor, "number of metadata keys", MAX_KEYS, KEY_BYTES);
  const metadata = readMetadata(cursor, numKeys);
  const alignment = readAlignment(cursor, metadata);
  const infos: TensorInfo[] = [];
  const names = new Set<string>();
  for (let i = 0; i < numTensors; i++) infos.push(readTensorInfo(cursor, names));
  const dataOffset = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = infos.map((info) => placeTensor(cursor, info, dataOffset, alignment));
  refuseOverlap(cursor, tensors);
  return { path, version, alignment, size: cursor.size, dataOffset, metadata, tensors };
}

function readPreamble(cursor: FileCursor): number {
  if (cursor.size < 4 || cursor.u32("magic number") !== MAGIC) {
    throw new KvEngineError(
      "bad_model",
      `${cursor.path}: is not a GGUF file: it does not begin with GGUF`,
      {
        subject: cursor.path,
        hint: "give a .gguf file; a checkpoint in another format must be converted first",
      },
    );
  }
  const version = cursor.u32("version");
  if (VERSIONS.includes(version)) return version;
  const bigEndian = version !== 0 && version % 2 ** 24 === 0;
  throw new KvEngineError(
    bigEndian ? "unsupported" : "bad_model",
    bigEndian
      ? `${cursor.path}: is a big-endian GGUF file; only little-endian ones can be read`
      : `${cursor.path}: GGUF version is ${version}; versions ${VERSIONS.join(" and ")} can be read`,
    { subject: cursor.path, hint: "convert the model again with a current llama.cpp" },
  );
}

function readCount(cursor: FileCursor, what: string, most: number, bytesEach: number): number {
  const count = cursor.u64(what);
  if (count > most) throw cursor.fail(`${what} is ${count}, allowed is 0 to ${most}`);
  if (count * bytesEach > cursor.left)
    throw cursor.fail(`${what} is ${count}, but only ${cursor.left} bytes follow`);
  return count;
}

function readMetadata(cursor: FileCursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = readName(cursor, "metadata key");
    if (metadata.has(key)) throw cursor.fail(`metadata key ${show(key)} is there twice`);
    metadata.set(key, readValue(cursor, `metadata ${show(key)}`));
  }
  return metadata;
}

function readAlignment(cursor: FileCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const legal =
    typeof alignment === "number" &&
    alignment >= MIN_ALIGNMENT &&
    alignment <= MAX_ALIGNMENT &&
    Number.isInteger(Math.log2(alignment));
  if (legal) return alignment;
  throw cursor.fail(
    `metadata general.alignment is ${show(String(alignment))}, allowed is a power of two from ${MIN_ALIGNMENT} to ${MAX_ALIGNMENT}`,
  );
}

/** A tensor's entry as it stands, its offset still relative to the tensor data. */
interface TensorInfo {
  readonly name: string;
  readonly type: GgmlType;
  readonly dims: readonly number[];
  readonly elements: number;
  readonly relativeOffset: number;
}

function readTensorInfo(cursor: FileCursor, names: Set<string>): TensorInfo {
  const name = readName(cursor, "tensor name");
  const label = `tensor ${show(name)}`;
  if (names.has(name)) throw cursor.fail(`${label} is there twice`);
  names.add(name);
  const numDims = cursor.u32(`${label}: number of dimensions`);
  if (numDims < 1 || numDims > MAX_DIMS) {
    throw cursor.fail(`${label}: number of dimensions is ${numDims}, allowed is 1 to ${MAX_DIMS}`);
  }
  const dims: number[] = [];
  let elements = 1;
  for (let i = 0; i < numDims; i++) {
    const dim = cursor.u64(`${label}: dimension ${i}`);
    if (dim < 1) throw cursor.fail(`${label}: dimension ${i} is 0, allowed is 1 and more`);
    elements *= dim;
    // The first product that is not exact is already past this, so no later one can come back into range.
    if (elements > Number.MAX_SAFE_INTEGER)
      throw cursor.fail(`${label}: dimensions are more than any file holds`);
    dims.push(dim);
  }
  const number = cursor.u32(`${label}: type`);
  const type = GGML_TYPES.get(number);
  if (type === undefined) {
    throw new KvEngineError(
      "unsupported",
      `${cursor.path}: ${label} has type number ${number}; supported are ${SUPPORTED_TYPE_NAMES.join(", ")}`,
      { subject: name },
    );
  }
  const relativeOffset = cursor.u64(`${label}: offset`);
  return { name, type, dims, elements, relativeOffset };
}

function placeTensor(
  cursor: FileCursor,
  info: TensorInfo,
  dataOffset: number,
  alignment: number,
): GgufTensor {
  const { name, type, dims, elements, relativeOffset } = info;
  const fail = (message: string): KvEngineError =>
    new KvEngineError("bad_model", `${cursor.path}: tensor ${show(name)}: ${message}`, {
      subject: cursor.path,
    });
  const rowLength = dims[0] ?? 0;
  if (rowLength % type.blockLen !== 0) {
    throw fail(
      `rows have ${rowLength} elements, ${type.name} needs a multiple of ${type.blockLen}`,
    );
  }
  if (relativeOffset % alignment !== 0) {
    throw fail(
      `offset is ${relativeOffset}, which is not a multiple of the alignment ${alignment}`,
    );
  }
  const bytes = (elements / type.blockLen) * type.blockBytes;
  const offset = dataOffset + relativeOffset;
  if (!(offset + bytes <= cursor.size)) {
    throw new KvEngineError(
      "bad_model",
      `${cursor.path}: tensor ${show(name)}: ends at byte ${offset + bytes}, but the file has ${cursor.size}`,
      { subject: cursor.path, hint: "the file is cut off or damaged: download it again" },
    );
  }
  return { name, type, dims, elements, offset, bytes };
}

function refuseOverlap(cursor: FileCursor, tensors: readonly GgufTensor[]): void {
  const inOrder = tensors.toSorted((a, b) => a.offset - b.offset);
  for (const [i, tensor] of inOrder.entries()) {
    const next = inOrder[i + 1];
    if (next === undefined || tensor.offset + tensor.bytes <= next.offset) continue;
    throw new KvEngineError(
      "bad_model",
      `${cursor.path}: tensors ${show(tensor.name)} and ${show(next.name)} lie over one another`,
      { subject: cursor.path },
    );
  }
}

function readName(cursor: FileCursor, what: string): string {
  const length = cursor.u64(`length of a ${what}`);
  if (length < 1 || length > MAX_NAME_BYTES) {
    throw cursor.fail(`length of a ${what} is ${length}, allowed is 1 to ${MAX_NAME_BYTES}`);
  }
  const name = cursor.string(length, what);
  if (name.includes("\uFFFD")) throw cursor.fail(`${what} ${show(name)} is not UTF-8`);
  return name;
}

/** A name out of a file as it may stand in a message: short and without control characters. */
function show(name: string): string {
  const clean = name.replaceAll(/\p{C}/gu, "?");
  return clean.length > 100 ? `${clean.slice(0, 100)}…` : clean;
}
