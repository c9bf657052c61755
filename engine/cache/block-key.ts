/** A block's content as connectors name it: the 64 hex digits of its hash, as vLLM prints them, and `:group`. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { RefusedError } from "../../connectors/errors.ts";
import { HASH_WORDS } from "./block-hash.ts";

const DIGITS = HASH_WORDS * 8;
/** Nine digits are always a group that a 32-bit word holds. */
const FORM = /^[0-9a-f]{64}:(?:0|[1-9][0-9]{0,8})$/;
const MOST_SHOWN = 80;

const words = new Int32Array(HASH_WORDS);
const bytes = Buffer.from(words.buffer);

/** The key of the hash at word `at` of `hashes`, for a group. */
export function blockKey(hashes: Int32Array, at: number, group: number): BlockKey {
  for (let word = 0; word < HASH_WORDS; word++) words[word] = hashes[at + word] as number;
  return `${bytes.toString("hex")}:${group}`;
}

/** Writes the key's hash (8 words) to the start of `into`; answers its group. Throws `invalid` unless it is a key. */
export function readBlockKey(key: unknown, into: Int32Array): number {
  checkBlockKey(key);
  bytes.write(key.slice(0, DIGITS), "hex");
  into.set(words);
  return Number(key.slice(DIGITS + 1));
}

/** Throws `invalid` unless it is a key. */
export function checkBlockKey(key: unknown): asserts key is BlockKey {
  if (typeof key === "string" && FORM.test(key)) return;
  const shown = typeof key === "string" ? JSON.stringify(key.slice(0, MOST_SHOWN)) : typeof key;
  throw new RefusedError(
    "invalid",
    `${shown} is no block key; allowed is 64 lower-case hex digits, a colon and the group`,
  );
}
