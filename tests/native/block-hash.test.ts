/** Block hashes are vLLM's, bit for bit: caches and routers that know those know ours. */

import { describe, expect, test } from "bun:test";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import seed0 from "../vectors/vllm/vllm-sha256-cbor-seed0.json";
import seed42 from "../vectors/vllm/vllm-sha256-cbor-seed42.json";
import { thrownBy } from "../support/thrown.ts";

const HASH_WORDS = 8;

function hex(words: Int32Array): string {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength).toString("hex");
}

/** The salt of a case; `undefined` also stands for extra keys that are not ours to make. */
function saltOf(extraKeys: string | null): string | undefined {
  return /^first block only: \[\["cache_salt","(.*)"\]\]$/.exec(extraKeys ?? "")?.[1];
}

describe.each([seed0, seed42])("hashes under seed $PYTHONHASHSEED", (vectors) => {
  const parent = noneHash(vectors.PYTHONHASHSEED);
  const cases = vectors.cases.filter(
    ({ extra_keys: extraKeys }) => extraKeys === null || saltOf(extraKeys) !== undefined,
  );

  test("a first block's parent is the seed's hash", () => {
    expect(hex(parent)).toBe(vectors.none_hash_hex);
  });

  test("each full block has vLLM's hash", () => {
    expect(cases.length).toBeGreaterThan(4);
    for (const { token_ids, block_size, extra_keys, block_hashes_hex } of cases) {
      const hashes = hashBlocks(parent, Int32Array.from(token_ids), block_size, saltOf(extra_keys));
      expect(hex(hashes)).toBe(block_hashes_hex.join(""));
    }
  });

  test("blocks of different sequences may be hashed in one call", () => {
    const unsalted = cases.filter((one) => one.extra_keys === null && one.block_size === 16);
    const parents: number[] = [];
    const tokens: number[] = [];
    for (const { token_ids, block_hashes_hex } of unsalted) {
      for (const block of block_hashes_hex.keys()) {
        const before = hashBlocks(parent, Int32Array.from(token_ids.slice(0, block * 16)), 16);
        parents.push(...(block === 0 ? parent : before.subarray(-HASH_WORDS)));
        tokens.push(...token_ids.slice(block * 16, (block + 1) * 16));
      }
    }
    const hashes = hashEach(Int32Array.from(parents), Int32Array.from(tokens), 16);
    expect(hex(hashes)).toBe(unsalted.flatMap((one) => one.block_hashes_hex).join(""));
    expect(hashEach(new Int32Array(0), new Int32Array(0), 16).length).toBe(0);
  });

  test("a prompt may be hashed in parts, each from the last hash of the one before", () => {
    for (const { token_ids, block_size, extra_keys, block_hashes_hex } of cases) {
      const tokens = Int32Array.from(token_ids);
      let last = parent;
      for (const [block, expected] of block_hashes_hex.entries()) {
        const part = tokens.subarray(block * block_size, (block + 1) * block_size);
        last = hashBlocks(last, part, block_size, block === 0 ? saltOf(extra_keys) : undefined);
        expect(hex(last)).toBe(expected);
      }
    }
  });
});

describe("hashBlocks", () => {
  test("tokens and parent may be parts of larger arrays", () => {
    const tokens = Int32Array.of(9, 1, 2, 3, 4, 9);
    const all = hashBlocks(noneHash("0"), tokens.subarray(1, 5), 2);
    expect(all).toEqual(hashBlocks(noneHash("0"), Int32Array.of(1, 2, 3, 4), 2));
    const second = hashBlocks(all.subarray(0, HASH_WORDS), tokens.subarray(3, 5), 2);
    expect(second).toEqual(all.subarray(HASH_WORDS));
  });

  test("fewer tokens than a block have no hash", () => {
    expect(hashBlocks(noneHash("0"), Int32Array.of(1, 2, 3), 4)).toEqual(new Int32Array(0));
    expect(hashBlocks(noneHash("0"), new Int32Array(0), 4, "salt")).toEqual(new Int32Array(0));
  });

  test("what is wrong is named", async () => {
    const tokens = Int32Array.of(1, 2);
    for (const [parent, blockSize, message] of [
      [new Int32Array(7), 2, "length of parent is 28, allowed is 32"],
      [new Int32Array(8), 0, "blockSize is 0, allowed is 1 or more"],
    ] as const) {
      const error = await thrownBy(() => hashBlocks(parent, tokens, blockSize));
      expect(error).toMatchObject({ code: "internal", message });
    }
    for (const count of [1, 3]) {
      const error = await thrownBy(() => hashEach(noneHash("0"), new Int32Array(count), 2));
      const found = `number of tokens is ${count}, allowed is 2, a block for each parent`;
      expect(error).toMatchObject({ code: "internal", message: found });
    }
    const error = await thrownBy(() => hashBlocks(noneHash("0"), Int32Array.of(1, -1), 2));
    expect(error).toMatchObject({
      code: "internal",
      message: "tokens is -1, allowed is 0 or more",
    });
  });
});
