import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  blockKey,
  packBlockKeys,
  readBlockKey,
  unpackBlockKeys,
} from "../../../engine/cache/block-key.ts";
import { hexOf, noneHash } from "../../support/sha256-cbor.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { refusalOf } from "../../support/connector-blocks.ts";

describe("a block's key", () => {
  test("is the hash's hex digits, as vLLM prints them, and the group", () => {
    const hash = noneHash("0");
    expect(blockKey(hash, 0, 3)).toBe(`${hexOf(hash)}:3`);
    expect(blockKey(Int32Array.from([...hash, 1, 0, 0, 0, 0, 0, 0, -2]), 8, 0)).toBe(
      `01000000${"0".repeat(48)}feffffff:0`,
    );
  });

  test("gives hash and group back", () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(
        fc.array(word, { minLength: 8, maxLength: 8 }),
        fc.integer({ min: 0, max: 999_999_999 }),
        (words, group) => {
          const into = new Int32Array(9);
          expect(readBlockKey(blockKey(Int32Array.from(words), 0, group), into)).toBe(group);
          expect([...into]).toEqual([...words, 0]);
          const keys = [blockKey(Int32Array.from(words), 0, group), blockKey(into, 0, 1)];
          expect([...packBlockKeys(keys)]).toEqual([...words, group, ...words, 1]);
          expect(unpackBlockKeys(packBlockKeys(keys))).toEqual(keys);
        },
      ),
      propertyRuns(300),
    );
  });

  const HEX = "0123456789abcdef".repeat(4);
  test.each([
    ["no group", HEX],
    ["an empty group", `${HEX}:`],
    ["a negative group", `${HEX}:-1`],
    ["a group with a leading 0", `${HEX}:01`],
    ["a group of ten digits", `${HEX}:1000000000`],
    ["a group in hex", `${HEX}:a`],
    ["one digit too few", `${HEX.slice(1)}:0`],
    ["one digit too many", `0${HEX}:0`],
    ["capitals", `${HEX.toUpperCase()}:0`],
    ["a letter that is no digit", `${HEX.slice(1)}g:0`],
    ["something behind it", `${HEX}:0\n`],
    ["something before it", ` ${HEX}:0`],
    ["nothing", ""],
    ["a number", 5],
    ["undefined", undefined],
    ["an object that prints as a key", { toString: () => `${HEX}:0` }],
  ])("is refused with %s", (_, key) => {
    const into = Int32Array.of(7, 7, 7, 7, 7, 7, 7, 7);
    expect(refusalOf(() => readBlockKey(key, into))).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("64 lower-case hex digits"),
    });
    expect([...into]).toEqual([7, 7, 7, 7, 7, 7, 7, 7]);
  });

  test("that is refused is shown in part, however long it is", () => {
    expect(
      refusalOf(() => readBlockKey("x".repeat(1e6), new Int32Array(8))).message.length,
    ).toBeLessThan(200);
  });
});
