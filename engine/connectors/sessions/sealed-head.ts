/**
 * What files about sessions begin with: a head of 24 bytes (magic, version, lengths), JSON, token ids as 32-bit words, and the SHA-256 of
 * all before. Whoever reads one takes nothing of it for granted.
 */

import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { z } from "zod";
import { KvEngineError } from "../../errors.ts";

export const HEAD_BYTES = 24;
export const SUM_BYTES = 32;
/** Most bytes of the JSON, and most tokens: a file that says more is none. */
const MOST_JSON: number = 4 * 2 ** 20;
const MOST_TOKENS: number = 16 * 2 ** 20;

export interface HeadKind {
  /** 8 characters of Latin-1. */
  readonly magic: string;
  readonly version: number;
}

export interface SealedHead {
  /** Not checked. */
  readonly json: unknown;
  readonly tokenIds: Int32Array;
  /** Of the head, its sum included, and of the whole file. */
  readonly headBytes: number;
  readonly fileBytes: number;
}

/** The bytes of a head. Throws `invalid_request` for one that could not be read. */
export function sealHead(
  { magic, version }: HeadKind,
  value: object,
  tokenIds: Int32Array,
): Uint8Array {
  const json = Buffer.from(JSON.stringify(value));
  if (json.length > MOST_JSON)
    throw new KvEngineError("invalid_request", "the session is too long for a file");
  const start = Buffer.alloc(HEAD_BYTES);
  start.write(magic, "latin1");
  start.writeUInt32LE(version, 8);
  start.writeUInt32LE(json.length, 12);
  start.writeUInt32LE(tokenIds.length, 16);
  const ids = Buffer.alloc(4 * tokenIds.length);
  for (const [i, id] of tokenIds.entries()) ids.writeInt32LE(id, 4 * i);
  const checked = Buffer.concat([start, json, ids]);
  return Buffer.concat([checked, createHash("sha256").update(checked).digest()]);
}

/** Throws `invalid_request`, saying what is wrong with the file. */
export async function readSealedHead(
  file: FileHandle,
  { magic, version: ours }: HeadKind,
): Promise<SealedHead> {
  const { size } = await file.stat();
  const read = async (at: number, length: number): Promise<Buffer> => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
    if (bytesRead < length) throw damaged("it ends too soon");
    return buffer;
  };
  if (size < HEAD_BYTES + SUM_BYTES) throw notOurs();
  const start = await read(0, HEAD_BYTES);
  if (start.toString("latin1", 0, 8) !== magic) throw notOurs();
  const version = start.readUInt32LE(8);
  if (version !== ours)
    throw wrong(`the file has version ${version} of the format; allowed is ${ours}`);
  const [jsonBytes, numTokens] = [start.readUInt32LE(12), start.readUInt32LE(16)];
  const checkedBytes = HEAD_BYTES + jsonBytes + 4 * numTokens;
  if (jsonBytes > MOST_JSON || numTokens > MOST_TOKENS || checkedBytes + SUM_BYTES > size)
    throw damaged("its lengths cannot be");
  const whole = await read(0, checkedBytes + SUM_BYTES);
  const checked = whole.subarray(0, checkedBytes);
  const sum = createHash("sha256").update(checked).digest();
  if (!sum.equals(whole.subarray(checkedBytes))) throw damaged("its head is not what was written");
  const json = parse(checked.toString("utf8", HEAD_BYTES, HEAD_BYTES + jsonBytes));
  const tokenIds = new Int32Array(numTokens);
  for (let i = 0; i < numTokens; i++)
    tokenIds[i] = checked.readInt32LE(HEAD_BYTES + jsonBytes + 4 * i);
  return { json, tokenIds, headBytes: checkedBytes + SUM_BYTES, fileBytes: size };
}

/** The JSON of a head as what it should be. Throws `invalid_request`, naming what is wrong. */
export function checkHead<T>(schema: z.ZodType<T>, json: unknown): T {
  const read = schema.safeParse(json);
  if (read.success) return read.data;
  throw damaged(`its head has a wrong ${read.error.issues[0]?.path.join(".") ?? "form"}`);
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new KvEngineError("invalid_request", "the session's file has a head that is no JSON", {
      cause,
    });
  }
}

function wrong(message: string): KvEngineError {
  return new KvEngineError("invalid_request", message, { subject: "file" });
}

function notOurs(): KvEngineError {
  return wrong("the file is no session of kvengine");
}

export function damaged(how: string): KvEngineError {
  return new KvEngineError("invalid_request", `the session's file is damaged: ${how}`, {
    subject: "file",
    hint: "export it again",
  });
}
