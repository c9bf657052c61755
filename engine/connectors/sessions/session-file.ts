/**
 * A session as a file: what its pages depend on and its token ids (`sealed-head.ts`), then the pages: from `pages_at` on those that there
 * are, each with the label by which native threads know page, key and fingerprint (`LABEL_BYTES`). Keys are not in the file: they follow
 * from the ids. Texts and messages are not in it either. Whoever reads one takes nothing of it for granted.
 */

import { open } from "node:fs/promises";
import { z } from "zod";
import { LABEL_BYTES } from "../../cache/page-transfers.ts";
import { KvEngineError } from "../../errors.ts";
import { sha256 } from "../sha256.ts";
import {
  checkHead,
  damaged,
  HEAD_BYTES,
  type HeadKind,
  readSealedHead,
  type SealedHead,
  sealHead,
  SUM_BYTES,
} from "./sealed-head.ts";
import { isSessionName } from "./session-query.ts";

const KIND: HeadKind = { magic: "KVSESSN\n", version: 1 };
/** Pages begin at a multiple of it. */
const ALIGNMENT = 4096;

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
  session: z.string().refine(isSessionName),
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
  return salt === undefined ? null : sha256(salt);
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
  const pages = Buffer.from(bits).toString("base64");
  const whole = sealHead(KIND, { ...head, pages }, tokenIds);
  if (whole.length > head.pages_at)
    throw new KvEngineError("internal", "a session's head has outgrown its room");
  return whole;
}

/** Reads and checks all but the pages. Throws `invalid_request`, saying what is wrong with the file. */
export async function readSessionFile(path: string): Promise<SessionContent> {
  const file = await open(path, "r");
  try {
    return checkPlaces(await readSealedHead(file, KIND));
  } finally {
    await file.close();
  }
}

/** That the pages are where they should be, and nothing else is. */
function checkPlaces({ json, tokenIds, headBytes, fileBytes }: SealedHead): SessionContent {
  const head = checkHead(HEAD, json);
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
  if (fileBytes !== at + indices.length * recordBytes(head))
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
