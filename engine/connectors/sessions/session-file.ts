/**
 * A session as a file: what its pages depend on, its token ids, then the pages. A head of 24 bytes (magic, version, lengths), JSON, the
 * ids as 32-bit words, and the SHA-256 of all before; from `pages_at` on the pages that there are, each with the label by which native
 * threads know page, key and fingerprint (`LABEL_BYTES`). Keys are not in the file: they follow from the ids. Texts and messages are
 * not in it either. Whoever reads one takes nothing of it for granted.
 */

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { z } from "zod";
import { LABEL_BYTES } from "../../cache/page-transfers.ts";
import { KvEngineError } from "../../errors.ts";

const MAGIC = "KVSESSN\n";
const VERSION = 1;
const HEAD_BYTES = 24;
const SUM_BYTES = 32;
/** Pages begin at a multiple of it. */
const ALIGNMENT = 4096;
/** Most bytes of the JSON, and most tokens: a file that says more is none. */
export const MOST_JSON: number = 4 * 2 ** 20;
export const MOST_TOKENS: number = 16 * 2 ** 20;

/** What a page's bytes depend on beside its key: equal on both sides, or the file is refused. */
export interface SessionModel {
  readonly model: string;
  readonly fingerprint: string;
  readonly layout: string;
  readonly kv_dtype: string;
  readonly block_size: number;
  readonly groups: number;
  readonly page_bytes: number;
}

export interface SessionHead extends SessionModel {
  readonly session: string;
  /** Seconds since the epoch. */
  readonly created: number;
  /** SHA-256 of the requests' salt; null = they have none. */
  readonly cache_salt_sha256: string | null;
  readonly pages_at: number;
  /** Which blocks are there, as bits in base64: bit `block * groups + group`, the lowest of each byte first. */
  readonly pages: string;
}

export interface SessionContent {
  readonly head: SessionHead;
  /** Of full blocks. */
  readonly tokenIds: Int32Array;
  /** Places of the pages that are in the file, among all blocks and groups: ascending. */
  readonly indices: readonly number[];
}

const count = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);
const HEAD: z.ZodType<SessionHead> = z.strictObject({
  model: z.string().max(1024),
  fingerprint: z.string().max(65_536),
  layout: z.string().max(4096),
  kv_dtype: z.string().max(64),
  block_size: count,
  groups: count.max(1024),
  page_bytes: count,
  session: z.string().min(1).max(256),
  created: z.number().nonnegative(),
  cache_salt_sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  pages_at: count,
  pages: z.base64(),
});

export function recordBytes({ page_bytes: pageBytes }: Pick<SessionModel, "page_bytes">): number {
  return pageBytes + LABEL_BYTES;
}

export function saltDigest(salt: string | undefined): string | null {
  return salt === undefined ? null : createHash("sha256").update(salt).digest("hex");
}

/** Room for the head of a session of so many tokens: where its pages may begin. */
export function pagesAt(head: Omit<SessionHead, "pages_at" | "pages">, numTokens: number): number {
  const numPages = (numTokens / head.block_size) * head.groups;
  const json = Buffer.byteLength(JSON.stringify(head)) + 2 * Math.ceil(numPages / 8) + 256;
  return align(HEAD_BYTES + json + 4 * numTokens + SUM_BYTES);
}

/** The bytes before the pages. */
export function writeHead({ head, tokenIds, indices }: SessionContent): Uint8Array {
  const numPages = (tokenIds.length / head.block_size) * head.groups;
  const bits = new Uint8Array(Math.ceil(numPages / 8));
  for (const index of indices) bits[index >> 3] = (bits[index >> 3] as number) | (1 << (index & 7));
  const json = Buffer.from(
    JSON.stringify({ ...head, pages: Buffer.from(bits).toString("base64") }),
  );
  const start = Buffer.alloc(HEAD_BYTES);
  start.write(MAGIC, "latin1");
  start.writeUInt32LE(VERSION, 8);
  start.writeUInt32LE(json.length, 12);
  start.writeUInt32LE(tokenIds.length, 16);
  const ids = Buffer.alloc(4 * tokenIds.length);
  for (const [i, id] of tokenIds.entries()) ids.writeInt32LE(id, 4 * i);
  const checked = Buffer.concat([start, json, ids]);
  const whole = Buffer.concat([checked, createHash("sha256").update(checked).digest()]);
  if (whole.length > head.pages_at)
    throw new KvEngineError("internal", "a session's head has outgrown its room");
  return whole;
}

/** Reads and checks all but the pages. Throws `invalid_request`, saying what is wrong with the file. */
export async function readSessionFile(path: string): Promise<SessionContent> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const read = async (at: number, length: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at);
      if (bytesRead < length) throw damaged("it ends too soon");
      return buffer;
    };
    if (size < HEAD_BYTES + SUM_BYTES) throw notOurs();
    const start = await read(0, HEAD_BYTES);
    if (start.toString("latin1", 0, 8) !== MAGIC) throw notOurs();
    const version = start.readUInt32LE(8);
    if (version !== VERSION)
      throw wrong(`the file has version ${version} of the format; allowed is ${VERSION}`);
    const [jsonBytes, numTokens] = [start.readUInt32LE(12), start.readUInt32LE(16)];
    const checkedBytes = HEAD_BYTES + jsonBytes + 4 * numTokens;
    if (jsonBytes > MOST_JSON || numTokens > MOST_TOKENS || checkedBytes + SUM_BYTES > size)
      throw damaged("its lengths cannot be");
    const whole = await read(0, checkedBytes + SUM_BYTES);
    const checked = whole.subarray(0, checkedBytes);
    const sum = createHash("sha256").update(checked).digest();
    if (!sum.equals(whole.subarray(checkedBytes)))
      throw damaged("its head is not what was written");
    const head = readHead(checked.toString("utf8", HEAD_BYTES, HEAD_BYTES + jsonBytes));
    const tokenIds = new Int32Array(numTokens);
    for (let i = 0; i < numTokens; i++)
      tokenIds[i] = checked.readInt32LE(HEAD_BYTES + jsonBytes + 4 * i);
    return checkPlaces(head, tokenIds, size, checkedBytes + SUM_BYTES);
  } finally {
    await file.close();
  }
}

function readHead(json: string): SessionHead {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new KvEngineError("invalid_request", "the session's file has a head that is no JSON", {
      cause,
    });
  }
  const read = HEAD.safeParse(value);
  if (read.success) return read.data;
  throw damaged(`its head has a wrong ${read.error.issues[0]?.path.join(".") ?? "form"}`);
}

/** That the pages are where they should be, and nothing else is. */
function checkPlaces(
  head: SessionHead,
  tokenIds: Int32Array,
  size: number,
  headBytes: number,
): SessionContent {
  const { block_size: blockSize, groups, pages_at: at } = head;
  if (tokenIds.length === 0 || tokenIds.length % blockSize !== 0)
    throw damaged("its tokens do not fill blocks");
  if (at < headBytes || at % ALIGNMENT !== 0) throw damaged("its pages cannot be where it says");
  const numPages = (tokenIds.length / blockSize) * groups;
  const bits = Buffer.from(head.pages, "base64");
  if (bits.length !== Math.ceil(numPages / 8)) throw damaged("it names other pages than it has");
  const indices: number[] = [];
  for (let index = 0; index < 8 * bits.length; index++)
    if ((((bits[index >> 3] as number) >> (index & 7)) & 1) === 1) indices.push(index);
  if (indices.length === 0 || (indices.at(-1) as number) >= numPages)
    throw damaged("it names other pages than it has");
  if (size !== at + indices.length * recordBytes(head))
    throw damaged("it does not have the length that its head says");
  return { head, tokenIds, indices };
}

/** Throws `invalid_request`, naming both sides of the first thing that differs, unless the pages are this model's. */
export function checkModel(theirs: SessionModel, ours: SessionModel): void {
  const names = [
    "fingerprint",
    "layout",
    "kv_dtype",
    "block_size",
    "groups",
    "page_bytes",
  ] as const;
  for (const name of names) {
    if (theirs[name] === ours[name]) continue;
    const [one, other] = partsThatDiffer(String(theirs[name]), String(ours[name]));
    throw new KvEngineError(
      "invalid_request",
      `the session was made by another model or build: its ${name} is ${one}, this server's is ${other}`,
      {
        subject: "file",
        hint: `its model is called ${JSON.stringify(theirs.model)}; serve the same file with the same --kv-cache-dtype, --device and version`,
      },
    );
  }
}

/** A fingerprint is JSON: the fields that are equal in both are left out. */
function partsThatDiffer(one: string, other: string): readonly [string, string] {
  const [a, b] = [fieldsOf(one), fieldsOf(other)];
  if (a === undefined || b === undefined) return [one, other];
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter(
    (name) => JSON.stringify(a[name]) !== JSON.stringify(b[name]),
  );
  const only = (from: Readonly<Record<string, unknown>>): string =>
    JSON.stringify(Object.fromEntries(names.map((name) => [name, from[name]]))).slice(0, 400);
  return [only(a), only(b)];
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    // A fingerprint of another version may be any text: it is shown as it is.
    return undefined;
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
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
