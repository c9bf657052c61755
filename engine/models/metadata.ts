/** Checked access to GGUF metadata: the right type, in range, or an error that names the key and what is allowed. */

import { KvEngineError } from "../errors.ts";
import type { GgufFile, GgufValue } from "./gguf.ts";

export interface Range {
  readonly min: number;
  readonly max: number;
}

export class Metadata {
  readonly #file: GgufFile;

  constructor(file: GgufFile) {
    this.#file = file;
  }

  has(key: string): boolean {
    return this.#file.metadata.has(key);
  }

  /** Without a fallback the key must be there. */
  integer(key: string, range: Range, fallback?: number): number {
    const value = this.#get(key, fallback);
    if (typeof value === "number" && Number.isInteger(value) && inside(value, range)) return value;
    throw this.#wrong(key, value, `a whole number from ${range.min} to ${range.max}`);
  }

  optionalInteger(key: string, range: Range): number | undefined {
    return this.has(key) ? this.integer(key, range) : undefined;
  }

  number(key: string, range: Range, fallback?: number): number {
    const value = this.#get(key, fallback);
    if (typeof value === "number" && inside(value, range)) return value;
    throw this.#wrong(key, value, `a number from ${range.min} to ${range.max}`);
  }

  string(key: string): string {
    const value = this.#get(key);
    if (typeof value === "string") return value;
    throw this.#wrong(key, value, "a string");
  }

  optionalString(key: string): string | undefined {
    return this.has(key) ? this.string(key) : undefined;
  }

  optionalBoolean(key: string): boolean | undefined {
    if (!this.has(key)) return undefined;
    const value = this.#get(key);
    if (typeof value === "boolean") return value;
    throw this.#wrong(key, value, "true or false");
  }

  /** Undefined where the key is missing or no list. */
  optionalBooleans(key: string, length: number): readonly boolean[] | undefined {
    const value = this.#file.metadata.get(key);
    if (typeof value !== "object") return undefined;
    if (
      Array.isArray(value) &&
      value.length === length &&
      value.every((element) => typeof element === "boolean")
    )
      return value as readonly boolean[];
    throw this.#wrong(key, value, `${length} times true or false`);
  }

  /** One number for all, or a list with one for each of `length`. */
  integers(key: string, length: number, range: Range, fallback?: number): number[] {
    const value = this.#get(key, fallback);
    if (!ArrayBuffer.isView(value))
      return Array.from({ length }, () => this.integer(key, range, fallback));
    const list = Array.from(value as unknown as ArrayLike<number | bigint>, Number);
    if (
      list.length === length &&
      list.every((each) => Number.isInteger(each) && inside(each, range))
    )
      return list;
    throw this.#wrong(key, value, `${length} whole numbers from ${range.min} to ${range.max}`);
  }

  strings(key: string): readonly string[] {
    const value = this.#get(key);
    if (Array.isArray(value) && value.every((element) => typeof element === "string"))
      return value as readonly string[];
    throw this.#wrong(key, value, "a list of strings");
  }

  /** Empty where the key is missing. */
  optionalInt32s(key: string): Int32Array {
    if (!this.has(key)) return new Int32Array(0);
    const value = this.#get(key);
    if (value instanceof Int32Array) return value;
    if (value instanceof Uint32Array) return Int32Array.from(value);
    throw this.#wrong(key, value, "a list of 32-bit whole numbers");
  }

  #get(key: string, fallback?: number): GgufValue {
    const value = this.#file.metadata.get(key) ?? fallback;
    if (value !== undefined) return value;
    const { path } = this.#file;
    throw new KvEngineError("bad_model", `${path}: metadata ${key} is missing`, { subject: key });
  }

  #wrong(key: string, value: GgufValue, allowed: string): KvEngineError {
    const message = `${this.#file.path}: metadata ${key} is ${show(value)}, allowed is ${allowed}`;
    return new KvEngineError("bad_model", message, { subject: key });
  }
}

function inside(value: number, { min, max }: Range): boolean {
  return value >= min && value <= max;
}

function show(value: GgufValue): string {
  if (typeof value === "string") return value.length > 40 ? "a long string" : JSON.stringify(value);
  if (typeof value === "object") return `a list of ${value.length}`;
  return String(value);
}
