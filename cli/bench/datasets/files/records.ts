/** The records of a data file: lines, or elements of one JSON array. Found first, read when they are needed. */

import { KvEngineError } from "../../../../engine/errors.ts";
import type { DataSource } from "./data-source.ts";

/** One record, as bytes of the file. */
export interface RecordPlace {
  /** From 1: the number of the line or element. */
  readonly number: number;
  readonly from: number;
  /** Not included. */
  readonly to: number;
}

/** Most bytes of one record: beyond any prompt, and no danger to memory. */
export const MAX_RECORD_BYTES: number = 32 * 1024 * 1024;

/** Bytes read at a time. */
const PIECE = 256 * 1024;

const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

/** The places of lines that are not empty. Throws `bad_config` for one that is too long. */
export function* lines(source: DataSource): Generator<RecordPlace> {
  let number = 0;
  let from = firstByte(source);
  let last = CARRIAGE_RETURN;
  for (let base = from; base < source.size; base += PIECE) {
    const bytes = source.read(base, PIECE);
    for (let at = 0; at < bytes.length;) {
      const end = bytes.indexOf(LINE_FEED, at);
      if (end < 0) {
        last = bytes[bytes.length - 1] as number;
        break;
      }
      number++;
      const before = end === 0 ? last : (bytes[end - 1] as number);
      const to = base + end - (before === CARRIAGE_RETURN && base + end > from ? 1 : 0);
      checkLength(source, "line", number, to - from);
      if (to > from) yield { number, from, to };
      from = base + end + 1;
      at = end + 1;
    }
    checkLength(source, "line", number + 1, base + bytes.length - from);
  }
  if (from < source.size) yield { number: number + 1, from, to: source.size };
}

const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 123, 125];

/**
 * The places of the elements of the JSON array that the file must be. What stands in an element is not looked at beyond its
 * brackets and strings. Throws `bad_config` where there is no array, and where it or an element does not end.
 */
export function* elements(source: DataSource): Generator<RecordPlace> {
  let number = 0;
  /** -1 = before the array. */
  let depth = -1;
  let [inString, escaped] = [false, false];
  /** Of the element, once something other than a blank has come. */
  let from = -1;
  for (let base = firstByte(source); base < source.size; base += PIECE) {
    const bytes = source.read(base, PIECE);
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i] as number;
      if (inString) {
        if (escaped) escaped = false;
        else if (byte === BACKSLASH) escaped = true;
        else if (byte === QUOTE) inString = false;
        continue;
      }
      if (isBlank(byte)) continue;
      if (depth < 0) {
        if (byte !== OPEN_ARRAY)
          throw wrongFile(source, "must be a JSON array: it does not begin with [");
        depth = 0;
        continue;
      }
      const ends = depth === 0 && (byte === COMMA || byte === CLOSE_ARRAY);
      if (ends && from >= 0) {
        yield { number: ++number, from, to: base + i };
        from = -1;
      } else if (!ends && from < 0) {
        from = base + i;
      }
      if (ends && byte === CLOSE_ARRAY) return;
      if (byte === QUOTE) inString = true;
      else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) depth++;
      else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth = Math.max(0, depth - 1);
    }
    if (from >= 0) checkLength(source, "element", number + 1, base + bytes.length - from);
  }
  throw wrongFile(
    source,
    depth < 0
      ? "is empty; it must be a JSON array"
      : `ends inside the array, after ${number} elements: it was cut off, or a bracket or quote is missing`,
  );
}

/** The record's text. Throws `bad_config` where it is no UTF-8. */
export function textOf(source: DataSource, { from, to }: RecordPlace, place: string): string {
  try {
    return UTF8.decode(source.read(from, to - from));
  } catch (cause) {
    throw new KvEngineError("bad_config", `${place}: the text is not UTF-8`, {
      subject: source.name,
      cause,
    });
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** After the byte order mark that some programs write. */
function firstByte(source: DataSource): number {
  const [a, b, c] = source.read(0, 3);
  return a === 0xef && b === 0xbb && c === 0xbf ? 3 : 0;
}

function isBlank(byte: number): boolean {
  return byte === 32 || byte === LINE_FEED || byte === CARRIAGE_RETURN || byte === 9;
}

function checkLength(source: DataSource, what: string, number: number, length: number): void {
  if (length <= MAX_RECORD_BYTES) return;
  throw wrongFile(
    source,
    `has more than ${MAX_RECORD_BYTES / 2 ** 20} MiB in ${what} ${number}; allowed is that much`,
  );
}

function wrongFile(source: DataSource, what: string): KvEngineError {
  return new KvEngineError("bad_config", `${source.name} ${what}`, { subject: source.name });
}
