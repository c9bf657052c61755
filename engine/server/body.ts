/** A request's body: bounded before it is held, then text, then a JSON object. */

import { KvEngineError } from "../errors.ts";
import type { AppContext } from "./deps.ts";
import { parseJson } from "./json.ts";

export interface JsonBody {
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Reads a JSON object of at most `bodyLimit` bytes, when it is the request's turn. A declared length over the limit is refused unread, an
 * undeclared one as soon as it passes it.
 */
export async function readJsonBody(
  { bodyLimit, turns }: Pick<AppContext, "bodyLimit" | "turns">,
  request: Request,
): Promise<JsonBody> {
  const type = request.headers.get("content-type");
  if (type !== null && !/^application\/(?:[\w.+-]+\+)?json\s*(?:;|$)/i.test(type)) {
    throw new KvEngineError(
      "invalid_request",
      `the content type is ${type}; allowed is application/json`,
      {
        hint: "send the header Content-Type: application/json",
      },
    );
  }
  await turns.next();
  const text = decode(await readBytes(request, bodyLimit));
  if (text.trim() === "") {
    throw new KvEngineError("invalid_request", "the body is empty; expected a JSON object");
  }
  const value = parseJson(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const found = value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
    throw new KvEngineError("invalid_request", `the body is ${found}; expected a JSON object`);
  }
  return { text, fields: value as Record<string, unknown> };
}

async function readBytes(request: Request, limit: number): Promise<Uint8Array> {
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > limit) throw tooLarge(`${declared}`, limit);
  if (request.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    // Leaving the loop by a throw cancels the stream.
    for await (const chunk of request.body) {
      size += chunk.byteLength;
      if (size > limit) throw tooLarge(`more than ${limit}`, limit);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof KvEngineError) throw error;
    throw new KvEngineError("invalid_request", "the body ended before it was complete", {
      cause: error,
    });
  }
  if (chunks.length === 1) return chunks[0] as Uint8Array;
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new KvEngineError("invalid_request", "the body is not valid UTF-8", { cause: error });
  }
}

function tooLarge(size: string, limit: number): KvEngineError {
  return new KvEngineError(
    "payload_too_large",
    `the body has ${size} bytes; at most ${limit} are allowed`,
    {
      hint: "shorten the prompt, or start the server with a larger body limit",
    },
  );
}
