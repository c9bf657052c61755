/**
 * Reads numbers and strings one after another from the front of a file, through a window of bounded size. Knows how many
 * bytes are left, so that nothing is allocated for a length that the file cannot hold. Little-endian.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { KvEngineError } from "../errors.ts";

/** Bytes read at once. */
const WINDOW = 1 << 20;
/** Nothing is read past this, so that a header cannot fill the memory. The largest in use are a fifth of it. */
const MAX_HEADER_BYTES = 1 << 26;
/** Below this the upper half of a 64-bit number keeps it exact as a JavaScript number. */
const EXACT_HIGH = 2 ** 21;

export class FileCursor implements Disposable {
  readonly path: string;
  /** Bytes of the file. */
  readonly size: number;
  readonly #fd: number;
  #window: Buffer = Buffer.alloc(0);
  /** Over the window: reads numbers faster than a Buffer's own methods. */
  #view = new DataView(this.#window.buffer, 0, 0);
  /** Offset in the file of the window's first byte. */
  #windowStart = 0;
  /** Offset in the window of the next byte. */
  #at = 0;
  /** Offset in the file of what was read last, for errors. */
  #place = 0;

  /** Throws `bad_model` where there is no such file, or it is not a file. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, "r");
    } catch (cause) {
      throw new KvEngineError(
        "bad_model",
        `${path}: cannot be opened: ${(cause as Error).message}`,
        { subject: path, cause },
      );
    }
    const stat = fstatSync(this.#fd);
    if (!stat.isFile()) {
      closeSync(this.#fd);
      throw new KvEngineError("bad_model", `${path}: is not a file`, { subject: path });
    }
    this.size = stat.size;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /** Offset in the file of the next byte. */
  get position(): number {
    return this.#windowStart + this.#at;
  }

  get left(): number {
    return this.size - this.position;
  }

  /** A `bad_model` error that names the file and the place of what was read last. */
  fail(message: string): KvEngineError {
    return new KvEngineError("bad_model", `${this.path}: at byte ${this.#place}: ${message}`, {
      subject: this.path,
    });
  }

  u8(what: string): number {
    const at = this.#take(1, what);
    return this.#view.getUint8(at);
  }

  u32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getUint32(at, true);
  }

  /** A 64-bit count, length or offset; one that is no exact number is beyond every file. */
  u64(what: string): number {
    const at = this.#take(8, what);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= EXACT_HIGH)
      throw this.fail(`${what} is ${this.#view.getBigUint64(at, true)}, more than any file holds`);
    return high * 2 ** 32 + this.#view.getUint32(at, true);
  }

  /** UTF-8 of `length` bytes; bytes that are none become U+FFFD. */
  string(length: number, what: string): string {
    const at = this.#take(length, what);
    return this.#window.toString("utf8", at, at + length);
  }

  /** `count` strings, each after its length: vocabularies have hundreds of thousands, so this loop is a tight one. */
  strings(count: number, maxBytes: number, what: string): string[] {
    const strings: string[] = [];
    while (strings.length < count) {
      const length = this.u64(what);
      if (length > maxBytes)
        throw this.fail(`${what}: length of a string is ${length}, allowed is 0 to ${maxBytes}`);
      strings.push(this.string(length, what));
      this.#stringsInWindow(strings, count, maxBytes);
    }
    return strings;
  }

  /** Goes on for as long as the strings are whole in the window and short enough. */
  #stringsInWindow(strings: string[], count: number, maxBytes: number): void {
    const window = this.#window;
    const view = this.#view;
    let at = this.#at;
    while (strings.length < count && at + 8 <= window.length) {
      const length = view.getUint32(at, true);
      const end = at + 8 + length;
      if (view.getUint32(at + 4, true) !== 0 || length > maxBytes || end > window.length) break;
      strings.push(window.toString("utf8", at + 8, end));
      at = end;
    }
    this.#at = at;
  }

  /** A copy of the next `length` bytes, in memory of its own that begins with them. */
  bytes(length: number, what: string): Uint8Array<ArrayBuffer> {
    this.#place = this.position;
    this.#check(length, what);
    const copy = new Uint8Array(length);
    const inWindow = Math.min(length, this.#window.length - this.#at);
    copy.set(this.#window.subarray(this.#at, this.#at + inWindow));
    this.#at += inWindow;
    if (inWindow < length) {
      this.#read(copy.subarray(inWindow), this.position, what);
      this.#setWindow(Buffer.alloc(0), this.position + length - inWindow);
    }
    return copy;
  }

  /** Makes the next `length` bytes lie in the window and moves past them; answers where in the window they begin. */
  #take(length: number, what: string): number {
    this.#place = this.position;
    if (this.#at + length > this.#window.length) {
      this.#check(length, what);
      const start = this.position;
      const window = Buffer.allocUnsafe(Math.min(this.left, Math.max(WINDOW, length)));
      this.#read(window, start, what);
      this.#setWindow(window, start);
    }
    const at = this.#at;
    this.#at += length;
    return at;
  }

  #setWindow(window: Buffer, start: number): void {
    this.#window = window;
    this.#view = new DataView(window.buffer, window.byteOffset, window.length);
    this.#windowStart = start;
    this.#at = 0;
  }

  #check(length: number, what: string): void {
    if (length > this.left)
      throw this.fail(`${what} needs ${length} bytes, but the file ends after ${this.left} more`);
    if (this.position + length > MAX_HEADER_BYTES) {
      throw this.fail(`${what}: the header is longer than ${MAX_HEADER_BYTES} bytes`);
    }
  }

  #read(into: Uint8Array, position: number, what: string): void {
    let done = 0;
    while (done < into.length) {
      const count = readSync(this.#fd, into, done, into.length - done, position + done);
      if (count === 0) throw this.fail(`${what}: the file became shorter while it was read`);
      done += count;
    }
  }
}
