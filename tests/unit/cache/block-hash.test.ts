import { describe, expect, test } from "bun:test";
import { HASH_WORDS, sameHash } from "../../../engine/cache/block-hash.ts";
import {
  type ExtraKeys,
  hashBlocks,
  hashBlocksWith,
  hexOf,
  noneHash,
} from "../../support/sha256-cbor.ts";
import seed0 from "../../vectors/vllm/vllm-sha256-cbor-seed0.json";
import seed42 from "../../vectors/vllm/vllm-sha256-cbor-seed42.json";

/** Tests of the cache hash with this, so that they need no native module. */
describe("the tests' sha256_cbor", () => {
  test.each([seed0, seed42])("is vLLM's (vectors %#)", (vectors) => {
    const parent = noneHash(vectors.PYTHONHASHSEED);
    expect(hexOf(parent)).toBe(vectors.none_hash_hex);
    for (const { block_size, token_ids, extra_keys, block_hashes_hex } of vectors.cases) {
      const words = hashBlocksWith(
        parent,
        Int32Array.from(token_ids),
        block_size,
        extraKeysOf(extra_keys),
      );
      expect(hexOf(words)).toBe(block_hashes_hex.join(""));
    }
  });
});

/** The vectors say them in words: "every block: [...]" or "first block only: [...]". */
function extraKeysOf(text: string | null): ExtraKeys {
  if (text === null) return () => null;
  const [which, keys] = text.split(/: (.*)/) as [string, string];
  const value = JSON.parse(keys) as string[][];
  return (block) => (which === "every block" || block === 0 ? value : null);
}

describe("block hashes", () => {
  const tokens = Int32Array.from({ length: 20 }, (_, i) => i);

  test("one for each full block, none for the rest", () => {
    const words = hashBlocks(noneHash("0"), tokens.subarray(0, 11), 4);
    expect(words.length).toBe(2 * HASH_WORDS);
  });

  test("a salt in the first block changes all; an early token changes all after it", () => {
    const plain = hashBlocks(noneHash("0"), tokens, 4);
    const salted = hashBlocks(noneHash("0"), tokens, 4, "tenant");
    const changed = hashBlocks(noneHash("0"), Int32Array.from(tokens).fill(99, 5, 6), 4);
    for (let block = 0; block < 5; block++) {
      const at = block * HASH_WORDS;
      expect(sameHash(plain, at, salted, at)).toBe(false);
      expect(sameHash(plain, at, changed, at)).toBe(block === 0);
    }
  });

  test("are the same whether hashed at once or block by block", () => {
    const whole = hashBlocks(noneHash("0"), tokens, 4, "s");
    const first = hashBlocks(noneHash("0"), tokens.subarray(0, 8), 4, "s");
    const rest = hashBlocks(first.slice(HASH_WORDS), tokens.subarray(8), 4);
    expect([...first, ...rest]).toEqual([...whole]);
  });
});
