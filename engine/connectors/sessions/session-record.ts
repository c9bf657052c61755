/**
 * What is known of a frozen session beside its pages, as a file: its name, whose it is, until when it is kept, and its token ids, without
 * which it could not be exported. No texts, and of a salt its digest alone: block hashes stand in for it.
 */

import { constants, open } from "node:fs/promises";
import { z } from "zod";
import type { BlockKey } from "../../../connectors/block-pool-view.ts";
import { sha256 } from "../sha256.ts";
import {
  checkHead,
  damaged,
  type HeadKind,
  readSealedHead,
  type SealedHead,
  sealHead,
} from "./sealed-head.ts";
import { isSessionName } from "./session-query.ts";

const KIND: HeadKind = { magic: "KVFROZN\n", version: 1 };
/** Nobody but the user who runs the server may read what was asked. */
const MODE = 0o600;
/** Longest time that anything is kept, in milliseconds: 30 days. A clock that was ahead keeps nothing for ever. */
const MOST_TTL_MS = 2_592_000_000;
/** A file that is longer is none: ids of 2^20 tokens, and as much JSON as a head may have. */
const MOST_BYTES: number = 8 * 2 ** 20 + 4096;

export interface SessionRecord {
  readonly name: string;
  readonly owner: string;
  readonly tokenIds: Int32Array;
  readonly saltDigest: string | null;
  /** Of the full blocks in group 0, where there is a salt: without it they do not follow from the tokens. */
  readonly keys: readonly BlockKey[] | undefined;
  /** Milliseconds since the epoch. */
  readonly endsAt: number;
}

interface RecordHead {
  readonly model: string;
  readonly session: string;
  readonly owner: string;
  readonly cache_salt_sha256: string | null;
  readonly hashes: string | null;
  readonly ends_at: number;
}

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const HEAD: z.ZodType<RecordHead> = z.strictObject({
  model: digest,
  session: z.string().refine(isSessionName),
  owner: z.string().max(1024),
  cache_salt_sha256: digest.nullable(),
  hashes: z.base64().nullable(),
  ends_at: z.number().int().positive().max(Number.MAX_SAFE_INTEGER),
});

/** Bytes of a hash. */
const HASH_BYTES = 32;
const ENDING = ".kvsession";
const FILE_NAME = /^[0-9a-f]{64}\.kvsession$/;
const PART_NAME = /^[0-9a-f]{64}\.kvsession\.part$/;

/** The name of a session's file: no two sessions have one. `model`: 64 hex digits that stand for all that pages depend on. */
export function recordName(
  model: string,
  { owner, name }: { owner: string; name: string },
): string {
  return `${sha256(JSON.stringify([model, owner, name]))}${ENDING}`;
}

export function isRecordName(file: string): boolean {
  return FILE_NAME.test(file);
}

/** Of a file that was being written. */
export function isPartName(file: string): boolean {
  return PART_NAME.test(file);
}

export function partOf(file: string): string {
  return `${file}.part`;
}

/** The bytes of a session's file. */
export function encodeRecord(model: string, record: SessionRecord): Uint8Array {
  const { name, owner, saltDigest, keys, endsAt, tokenIds } = record;
  const hashes = keys?.map((key) => Buffer.from(key.slice(0, 2 * HASH_BYTES), "hex"));
  const head: RecordHead = {
    ...{ model, session: name, owner },
    cache_salt_sha256: saltDigest,
    hashes: hashes === undefined ? null : Buffer.concat(hashes).toString("base64"),
    ends_at: Math.round(endsAt),
  };
  return sealHead(KIND, head, tokenIds);
}

/** Writes a file that there was not, whole and for good. */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx", MODE);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whose records are looked into. */
export interface RecordReader {
  /** As in `recordName`. */
  readonly model: string;
  readonly blockSize: number;
  readonly vocabSize: number;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export interface ReadRecord {
  readonly record: SessionRecord;
  readonly model: string;
  readonly bytes: number;
}

/** Reads and checks a session's file. Throws `invalid_request`, saying what is wrong, for one that is none, and what the system says. */
export async function readRecord(path: string, reader: RecordReader): Promise<ReadRecord> {
  // No link, and no pipe that would wait for its other end.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw damaged("it is no regular file");
    if (stats.size > MOST_BYTES) throw damaged("it is too long");
    return check(await readSealedHead(file, KIND), reader);
  } finally {
    await file.close();
  }
}

function check(sealed: SealedHead, { model: ours, now, ...model }: RecordReader): ReadRecord {
  const { json, tokenIds, headBytes, fileBytes } = sealed;
  const head = checkHead(HEAD, json);
  const { model: theirs, session, owner, cache_salt_sha256: saltDigest, hashes } = head;
  if (fileBytes !== headBytes) throw damaged("something follows its head");
  if ((hashes === null) !== (saltDigest === null))
    throw damaged("it has hashes without a salt, or a salt without hashes");
  const record: SessionRecord = {
    ...{ name: session, owner, tokenIds, saltDigest },
    // What another model's record holds is not looked at.
    keys: theirs === ours ? keysOf(tokenIds, hashes, model) : undefined,
    endsAt: Math.min(head.ends_at, now + MOST_TTL_MS),
  };
  return { record, model: theirs, bytes: fileBytes };
}

function keysOf(
  tokenIds: Int32Array,
  hashes: string | null,
  { blockSize, vocabSize }: Pick<RecordReader, "blockSize" | "vocabSize">,
): readonly BlockKey[] | undefined {
  const numBlocks = tokenIds.length / blockSize;
  if (numBlocks === 0 || !Number.isInteger(numBlocks))
    throw damaged("its tokens do not fill blocks");
  if (tokenIds.some((id) => id < 0 || id >= vocabSize))
    throw damaged("it has tokens that the model has not");
  if (hashes === null) return undefined;
  const bytes = Buffer.from(hashes, "base64");
  if (bytes.length !== numBlocks * HASH_BYTES) throw damaged("it has hashes of other blocks");
  return Array.from(
    { length: numBlocks },
    (_, i) => `${bytes.toString("hex", i * HASH_BYTES, (i + 1) * HASH_BYTES)}:0`,
  );
}
