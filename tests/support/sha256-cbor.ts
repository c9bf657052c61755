/** vLLM's `sha256_cbor` in plain TypeScript: SHA-256 over the canonical CBOR of [parent, [token ids], extra keys or null]. */

import { createHash } from "node:crypto";
import { HASH_WORDS, type HashBlocks } from "../../engine/cache/block-hash.ts";

type CborValue = null | number | string | Uint8Array | readonly CborValue[];

/** First bytes of an item: its major type and a length or number in as few bytes as it takes. */
function head(major: number, value: number): number[] {
  const type = major << 5;
  if (value < 24) return [type | value];
  if (value < 2 ** 8) return [type | 24, value];
  if (value < 2 ** 16) return [type | 25, value >> 8, value & 255];
  return [type | 26, value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];
}

function encode(value: CborValue): number[] {
  if (value === null) return [0xf6];
  if (typeof value === "number") return head(0, value);
  if (typeof value === "string") {
    const bytes = new TextEncoder().encode(value);
    return [...head(3, bytes.length), ...bytes];
  }
  if (value instanceof Uint8Array) return [...head(2, value.length), ...value];
  return [...head(4, value.length), ...value.flatMap(encode)];
}

function digest(value: CborValue): Uint8Array {
  return createHash("sha256")
    .update(Uint8Array.from(encode(value)))
    .digest();
}

function wordsOf(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** Parent of a first block. */
export function noneHash(seed: string): Int32Array {
  return wordsOf(digest(seed));
}

/** Extra keys of each block, as vLLM makes them. */
export type ExtraKeys = (block: number) => CborValue;

export function hashBlocksWith(
  parent: Int32Array,
  tokens: Int32Array,
  blockSize: number,
  extraKeys: ExtraKeys,
): Int32Array {
  const numBlocks = Math.floor(tokens.length / blockSize);
  const words = new Int32Array(numBlocks * HASH_WORDS);
  let before = parent;
  for (let block = 0; block < numBlocks; block++) {
    const ids = tokens.subarray(block * blockSize, (block + 1) * blockSize);
    const bytes = new Uint8Array(before.buffer, before.byteOffset, before.byteLength);
    before = wordsOf(digest([bytes, [...ids], extraKeys(block)]));
    words.set(before, block * HASH_WORDS);
  }
  return words;
}

export const hashBlocks: HashBlocks = (parent, tokens, blockSize, salt) =>
  hashBlocksWith(parent, tokens, blockSize, (block) =>
    block === 0 && salt !== undefined ? [["cache_salt", salt]] : null,
  );

export function hexOf(words: Int32Array): string {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength).toString("hex");
}
