/**
 * HTTP/1.1 responses of one connection, read as they come (RFC 9112). Bodies by length, in chunks, or up to the end of the
 * connection; no compression, which is not asked for.
 */

export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
}

export interface ResponseReader {
  head(head: ResponseHead): void;
  /** A piece of the body; the bytes are the reader's until it returns. */
  body(bytes: Uint8Array): void;
  /** The response is whole. Nothing of it follows. */
  end(): void;
}

/** What was read is not HTTP/1.1. */
export class ProtocolError extends Error {}

/** Most bytes of one line: of a status, a header or a chunk's size. */
const MAX_LINE = 64 * 1024;
const MAX_HEADERS = 256;

type State =
  | "status"
  | "header"
  | "body by length"
  | "body to the end"
  | "chunk size"
  | "chunk"
  | "end of chunk"
  | "trailer"
  | "done";

export class ResponseParser {
  readonly #reader: ResponseReader;
  #state: State = "status";
  /** The part of an unfinished line that has come. */
  #line = "";
  #status = 0;
  #reason = "";
  #headers = new Map<string, string>();
  /** Bytes that the body, or the chunk, still has. */
  #left = 0;
  #keepsConnection = false;

  constructor(reader: ResponseReader) {
    this.#reader = reader;
  }

  get done(): boolean {
    return this.#state === "done";
  }

  /** Whether the connection may carry another request once this response is done. */
  get keepsConnection(): boolean {
    return this.#keepsConnection;
  }

  /** Reads on. Throws `ProtocolError`. Bytes after the response's end are one, too. */
  push(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      switch (this.#state) {
        case "body by length":
        case "chunk":
          at = this.#readCounted(bytes, at);
          break;
        case "body to the end":
          this.#reader.body(bytes.subarray(at));
          return;
        case "done":
          throw new ProtocolError("bytes came after the end of the response");
        default:
          at = this.#readLine(bytes, at);
      }
    }
  }

  /** The connection has ended. True = that was the response's end. */
  close(): boolean {
    if (this.#state === "body to the end") this.#finish();
    return this.done;
  }

  #readCounted(bytes: Buffer, from: number): number {
    const to = Math.min(bytes.length, from + this.#left);
    this.#left -= to - from;
    const counted = this.#state;
    this.#reader.body(bytes.subarray(from, to));
    if (this.#left > 0) return to;
    if (counted === "chunk") this.#state = "end of chunk";
    else this.#finish();
    return to;
  }

  #readLine(bytes: Buffer, from: number): number {
    const newline = bytes.indexOf(0x0a, from);
    const to = newline < 0 ? bytes.length : newline;
    this.#line += bytes.toString("latin1", from, to);
    if (this.#line.length > MAX_LINE) throw new ProtocolError("a line of the response is too long");
    if (newline < 0) return to;
    const line = this.#line.endsWith("\r") ? this.#line.slice(0, -1) : this.#line;
    this.#line = "";
    this.#takeLine(line);
    return newline + 1;
  }

  #takeLine(line: string): void {
    switch (this.#state) {
      case "status":
        this.#takeStatus(line);
        break;
      case "header":
        if (line === "") this.#takeHead();
        else this.#takeHeader(line);
        break;
      case "chunk size":
        this.#takeChunkSize(line);
        break;
      case "end of chunk":
        if (line !== "") throw new ProtocolError("a chunk is longer than its size");
        this.#state = "chunk size";
        break;
      case "trailer":
        if (line === "") this.#finish();
        break;
      default:
        throw new ProtocolError(`a line came in the state ${this.#state}`);
    }
  }

  #takeStatus(line: string): void {
    const match = /^HTTP\/1\.([01]) (\d{3})(?: (.*))?$/.exec(line);
    if (match === null) throw new ProtocolError(`\`${line.slice(0, 80)}\` is no HTTP/1.1 status`);
    this.#keepsConnection = match[1] === "1";
    this.#status = Number(match[2]);
    this.#reason = match[3] ?? "";
    this.#headers = new Map();
    this.#state = "header";
  }

  #takeHeader(line: string): void {
    const colon = line.indexOf(":");
    if (colon <= 0) throw new ProtocolError(`\`${line.slice(0, 80)}\` is no header`);
    if (this.#headers.size >= MAX_HEADERS) throw new ProtocolError("there are too many headers");
    this.#headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }

  #takeHead(): void {
    // An interim answer: the real one follows.
    if (this.#status < 200) {
      this.#state = "status";
      return;
    }
    const connection = this.#headers.get("connection")?.toLowerCase();
    if (connection !== undefined) this.#keepsConnection = connection !== "close";
    this.#reader.head({ status: this.#status, reason: this.#reason, headers: this.#headers });
    const length = this.#headers.get("content-length");
    if (this.#headers.get("transfer-encoding")?.toLowerCase() === "chunked") {
      this.#state = "chunk size";
    } else if (this.#status === 204 || this.#status === 304 || length === "0") {
      this.#finish();
    } else if (length === undefined) {
      this.#keepsConnection = false;
      this.#state = "body to the end";
    } else {
      if (!/^\d{1,15}$/.test(length))
        throw new ProtocolError(`content-length is \`${length.slice(0, 80)}\``);
      this.#left = Number(length);
      this.#state = "body by length";
    }
  }

  #takeChunkSize(line: string): void {
    const size = /^[\da-f]{1,12}(?=\s*(?:;|$))/i.exec(line)?.[0];
    if (size === undefined) throw new ProtocolError(`\`${line.slice(0, 80)}\` is no chunk's size`);
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? "trailer" : "chunk";
  }

  #finish(): void {
    this.#state = "done";
    this.#reader.end();
  }
}
