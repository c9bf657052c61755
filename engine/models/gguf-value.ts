/** Values of GGUF metadata: scalars, strings and arrays, nested ones included. */

import type { FileCursor } from "./file-cursor.ts";

/** 64-bit integers are numbers where that is exact, otherwise bigints; arrays of numbers are typed arrays. */
export type GgufValue = number | bigint | boolean | string | GgufArray;
export type GgufArray = NumberArray | readonly boolean[] | readonly string[] | readonly GgufArray[];
type NumberArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

interface NumberType {
  readonly bytes: number;
  readonly array: (buffer: ArrayBuffer) => NumberArray;
}

const NUMBER_TYPES: ReadonlyMap<number, NumberType> = new Map([
  [0, { bytes: 1, array: (buffer) => new Uint8Array(buffer) }],
  [1, { bytes: 1, array: (buffer) => new Int8Array(buffer) }],
  [2, { bytes: 2, array: (buffer) => new Uint16Array(buffer) }],
  [3, { bytes: 2, array: (buffer) => new Int16Array(buffer) }],
  [4, { bytes: 4, array: (buffer) => new Uint32Array(buffer) }],
  [5, { bytes: 4, array: (buffer) => new Int32Array(buffer) }],
  [6, { bytes: 4, array: (buffer) => new Float32Array(buffer) }],
  [10, { bytes: 8, array: (buffer) => new BigUint64Array(buffer) }],
  [11, { bytes: 8, array: (buffer) => new BigInt64Array(buffer) }],
  [12, { bytes: 8, array: (buffer) => new Float64Array(buffer) }],
] satisfies [number, NumberType][]);
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;
const LAST_TYPE = 12;

/** Chat templates are the longest strings in use, tens of kilobytes. */
const MAX_STRING_BYTES = 1 << 24;
/** Merges are the longest lists of strings in use, half a million. */
const MAX_STRINGS = 1 << 22;
const MAX_BOOLS = 1 << 22;
const MAX_NUMBER_BYTES = 1 << 25;
/** Arrays in arrays, at all depths together in one value. */
const MAX_INNER_ARRAYS = 1 << 16;
const MAX_DEPTH = 4;

/** Reads a value's type and the value. `what` names it in errors. */
export function readValue(cursor: FileCursor, what: string): GgufValue {
  const type = cursor.u32(`${what}: type`);
  if (type === ARRAY) return readArray(cursor, what, { depth: 1, innerArrays: 0 });
  if (type === STRING) return readString(cursor, what);
  if (type === BOOL) return readBool(cursor, what);
  return readNumber(cursor, what, numberType(cursor, what, type));
}

function numberType(cursor: FileCursor, what: string, type: number): NumberType {
  const found = NUMBER_TYPES.get(type);
  if (found === undefined)
    throw cursor.fail(`${what}: value type is ${type}, allowed is 0 to ${LAST_TYPE}`);
  return found;
}

function readNumber(
  cursor: FileCursor,
  what: string,
  { bytes, array }: NumberType,
): number | bigint {
  const value = array(cursor.bytes(bytes, what).buffer)[0] ?? 0;
  return typeof value === "bigint" && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function readBool(cursor: FileCursor, what: string): boolean {
  const byte = cursor.u8(what);
  if (byte > 1) throw cursor.fail(`${what}: a truth value is ${byte}, allowed is 0 or 1`);
  return byte === 1;
}

function readString(cursor: FileCursor, what: string): string {
  return cursor.strings(1, MAX_STRING_BYTES, what)[0] ?? "";
}

interface Nesting {
  readonly depth: number;
  /** Counted over the whole value. */
  innerArrays: number;
}

function readArray(cursor: FileCursor, what: string, nesting: Nesting): GgufArray {
  const type = cursor.u32(`${what}: element type`);
  const length = cursor.u64(`${what}: number of elements`);
  if (type === STRING) {
    checkLength(cursor, what, length, MAX_STRINGS, 8);
    return cursor.strings(length, MAX_STRING_BYTES, what);
  }
  if (type === BOOL) {
    checkLength(cursor, what, length, MAX_BOOLS, 1);
    return readMany(length, () => readBool(cursor, what));
  }
  if (type === ARRAY) {
    if (nesting.depth >= MAX_DEPTH)
      throw cursor.fail(`${what}: arrays are nested deeper than ${MAX_DEPTH}`);
    checkLength(cursor, what, length, MAX_INNER_ARRAYS - nesting.innerArrays, 12);
    nesting.innerArrays += length;
    return readInner(cursor, what, length, nesting);
  }
  const { bytes, array } = numberType(cursor, what, type);
  checkLength(cursor, what, length, MAX_NUMBER_BYTES / bytes, bytes);
  return array(cursor.bytes(length * bytes, what).buffer);
}

function readInner(cursor: FileCursor, what: string, length: number, outer: Nesting): GgufArray[] {
  const nesting: Nesting = { depth: outer.depth + 1, innerArrays: outer.innerArrays };
  const arrays = readMany(length, () => readArray(cursor, what, nesting));
  outer.innerArrays = nesting.innerArrays;
  return arrays;
}

function checkLength(
  cursor: FileCursor,
  what: string,
  length: number,
  most: number,
  bytesEach: number,
): void {
  if (length > most)
    throw cursor.fail(`${what}: number of elements is ${length}, allowed is 0 to ${most}`);
  if (length * bytesEach > cursor.left) {
    throw cursor.fail(
      `${what}: number of elements is ${length}, but only ${cursor.left} bytes follow`,
    );
  }
}

function readMany<T>(length: number, read: () => T): T[] {
  const values: T[] = [];
  for (let i = 0; i < length; i++) values.push(read());
  return values;
}
