import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { AnswerStream } from "../../../cli/bench/http/answer-stream.ts";
import { EventReader } from "../../../cli/bench/http/event-reader.ts";
import { type ResponseHead, ResponseParser } from "../../../cli/bench/http/response-parser.ts";
import { data, event, usage } from "../../support/bench-client.ts";
import { propertyRuns } from "../../support/property-runs.ts";

interface Read {
  readonly heads: readonly ResponseHead[];
  readonly body: string;
  readonly ended: boolean;
  readonly parser: ResponseParser;
}

/** Reads bytes in pieces of the given sizes; the rest in one. */
function read(bytes: Buffer, sizes: readonly number[] = [], closes = false): Read {
  const heads: ResponseHead[] = [];
  const body: Buffer[] = [];
  let ended = false;
  const parser = new ResponseParser({
    head: (head) => heads.push(head),
    body: (piece) => body.push(Buffer.from(piece)),
    end: () => (ended = true),
  });
  let at = 0;
  for (const size of [...sizes, bytes.length]) {
    if (at >= bytes.length) break;
    parser.push(bytes.subarray(at, at + size));
    at += size;
  }
  if (closes) parser.close();
  return { heads, body: Buffer.concat(body).toString(), ended, parser };
}

function response(head: string, body: string | Buffer = ""): Buffer {
  return Buffer.concat([Buffer.from(`${head}\r\n\r\n`), Buffer.from(body)]);
}

/** A body in HTTP chunks of the given sizes. */
function inChunks(body: Buffer, sizes: readonly number[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (const size of [...sizes, body.length]) {
    const piece = body.subarray(at, at + size);
    if (piece.length > 0)
      parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n"));
    at += size;
  }
  return Buffer.concat([...parts, Buffer.from("0\r\n\r\n")]);
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 60 });
const CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked";

describe("a response", () => {
  test("is read the same however its bytes are parted, and however its body is", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", maxLength: 300 }),
        sizes,
        sizes,
        (text, parts, chunks) => {
          const chunked = read(response(CHUNKED, inChunks(Buffer.from(text), chunks)), parts);
          expect([chunked.body, chunked.ended]).toEqual([text, true]);
          const length = `HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(text)}`;
          const counted = read(response(length, text), parts);
          expect([counted.body, counted.ended]).toEqual([text, true]);
          const closed = read(response("HTTP/1.1 200 OK", text), parts, true);
          expect([closed.body, closed.ended]).toEqual([text, true]);
        },
      ),
      propertyRuns(200),
    );
  });

  test("has its status, its reason and its headers, whatever their case", () => {
    const { heads } = read(response("HTTP/1.1 503 Too Busy\r\nX-A:  b c \r\nContent-Length: 0"));
    expect(heads[0]?.status).toBe(503);
    expect(heads[0]?.reason).toBe("Too Busy");
    expect(heads[0]?.headers.get("x-a")).toBe("b c");
  });

  test("follows interim ones", () => {
    const { heads, ended } = read(
      response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0"),
    );
    expect([heads.map(({ status }) => status), ended]).toEqual([[200], true]);
  });

  test("may have extensions of chunks and trailers, and bare line feeds", () => {
    const body = "3;name=value\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    expect(read(response(CHUNKED, body))).toMatchObject({ body: "abc", ended: true });
    const bare = "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n";
    expect(read(Buffer.from(bare))).toMatchObject({ body: "abc", ended: true });
  });

  test("says whether its connection may carry another request", () => {
    const keeps = (head: string): boolean => read(response(head)).parser.keepsConnection;
    expect(keeps("HTTP/1.1 200 OK\r\ncontent-length: 0")).toBe(true);
    expect(keeps("HTTP/1.1 204 No Content")).toBe(true);
    expect(keeps("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close")).toBe(false);
    expect(keeps("HTTP/1.0 200 OK\r\ncontent-length: 0")).toBe(false);
    expect(keeps("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive")).toBe(true);
    expect(keeps("HTTP/1.1 200 OK")).toBe(false);
  });

  test("that is cut off is not whole when the connection ends", () => {
    for (const cut of [CHUNKED, "HTTP/1.1 200 OK\r\ncontent-length: 9"]) {
      const { parser, ended } = read(response(cut, "5\r\nab"), [], true);
      expect([parser.done, ended]).toEqual([false, false]);
    }
  });

  test("that is not HTTP is refused with what was found", () => {
    const cases = [
      ["hello\r\n", "`hello` is no HTTP/1.1 status"],
      ["HTTP/2 200\r\n", "`HTTP/2 200` is no HTTP/1.1 status"],
      ["HTTP/1.1 200 OK\r\nnonsense\r\n", "`nonsense` is no header"],
      ["HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "content-length is `-1`"],
      [`${CHUNKED}\r\n\r\nxyz\r\n`, "`xyz` is no chunk's size"],
      [`${CHUNKED}\r\n\r\n2\r\nabc\r\n`, "a chunk is longer than its size"],
      ["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "bytes came after the end"],
      [
        `HTTP/1.1 200 OK\r\n${"a: b\r\n".repeat(3)}${"x".repeat(70_000)}`,
        "a line of the response is too long",
      ],
      [
        `HTTP/1.1 200 OK\r\n${Array.from({ length: 257 }, (_, i) => `a${i}: b\r\n`).join("")}\r\n`,
        "there are too many headers",
      ],
    ] as const;
    for (const [text, says] of cases) expect(() => read(Buffer.from(text))).toThrow(says);
  });
});

describe("events", () => {
  test("make the same answer however their bytes are parted", () => {
    const words = fc.array(fc.string({ unit: "grapheme", minLength: 1, maxLength: 8 }), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(words, sizes, fc.constantFrom("\n", "\r\n"), (texts, parts, newline) => {
        const events =
          texts.map((text, i) => event(text, usage(4, i + 1))).join("") + data("[DONE]");
        const bytes = Buffer.from(events.replaceAll("\n\n", newline + newline));
        const stream = new AnswerStream();
        const reader = new EventReader((one) => stream.push(one, 7));
        let at = 0;
        for (const size of [...parts, bytes.length]) {
          reader.push(bytes.subarray(at, at + size));
          at += size;
        }
        expect([stream.text, stream.done]).toEqual([texts.join(""), true]);
        expect(stream.chunks).toEqual(texts.map(() => ({ at: 7, numTokens: 1 })));
      }),
      propertyRuns(200),
    );
  });
});
