/** A block's content as connectors name it: the 64 hex digits of its hash, as vLLM prints them, and `:group`. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { RefusedError } from "../../connectors/errors.ts";
import { HASH_WORDS } from "./block-hash.ts";

const DIGITS = HASH_WORDS * 8;
/** Words of a key in a list of words: the hash and the group. */
const PACKED_WORDS = HASH_WORDS + 1;
/** Nine digits are always a group that a 32-bit word holds. */
const FORM = /^[0-9a-f]{64}:(?:0|[1-9][0-9]{0,8})$/;
const MOST_SHOWN = 80;

const words = new Int32Array(HASH_WORDS);
const bytes = Buffer.from(words.buffer);

/** The two hex digits of each byte, as bytes of text. */
const HEX = Buffer.from(
  Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0")).join(""),
);
const COLON: number = ":".charCodeAt(0);
const ZERO: number = "0".charCodeAt(0);
const text = Buffer.alloc(DIGITS + 10);

/** The key of the hash at word `at` of `hashes`, for a group. Written in one piece: texts joined later are slow to look up. */
export function blockKey(hashes: Int32Array, at: number, group: number): BlockKey {
  for (let word = 0; word < HASH_WORDS; word++) words[word] = hashes[at + word] as number;
  for (let i = 0; i < bytes.length; i++) {
    const digits = 2 * (bytes[i] as number);
    text[2 * i] = HEX[digits] as number;
    text[2 * i + 1] = HEX[digits + 1] as number;
  }
  return text.toString("latin1", 0, DIGITS + writeGroup(group));
}

/** Answers how many bytes it wrote behind the digits. */
function writeGroup(group: number): number {
  if (group > 9) return text.write(`:${group}`, DIGITS, "latin1");
  text[DIGITS] = COLON;
  text[DIGITS + 1] = ZERO + group;
  return 2;
}

/** Writes the key's hash (8 words) to the start of `into`; answers its group. Throws `invalid` unless it is a key. */
export function readBlockKey(key: unknown, into: Int32Array): number {
  checkBlockKey(key);
  bytes.write(key.slice(0, DIGITS), "hex");
  into.set(words);
  return Number(key.slice(DIGITS + 1));
}

export function isBlockKey(key: unknown): key is BlockKey {
  return typeof key === "string" && FORM.test(key);
}

/** The keys as words, one behind the other: 8 of the hash, then the group. Throws `invalid` unless all are keys. */
export function packBlockKeys(keys: readonly BlockKey[]): Int32Array {
  const packed = new Int32Array(PACKED_WORDS * keys.length);
  for (const [i, key] of keys.entries()) {
    const one = packed.subarray(PACKED_WORDS * i, PACKED_WORDS * (i + 1));
    one[HASH_WORDS] = readBlockKey(key, one);
  }
  return packed;
}

/** The keys of `packBlockKeys`. */
export function unpackBlockKeys(packed: Int32Array): BlockKey[] {
  return Array.from({ length: packed.length / PACKED_WORDS }, (_, i) =>
    blockKey(packed, PACKED_WORDS * i, packed[PACKED_WORDS * i + HASH_WORDS] as number),
  );
}

/** Throws `invalid` unless it is a key. */
export function checkBlockKey(key: unknown): asserts key is BlockKey {
  if (isBlockKey(key)) return;
  const shown = typeof key === "string" ? JSON.stringify(key.slice(0, MOST_SHOWN)) : typeof key;
  throw new RefusedError(
    "invalid",
    `${shown} is no block key; allowed is 64 lower-case hex digits, a colon and the group`,
  );
}
