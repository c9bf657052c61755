import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { integerText, parseJson } from "../../../engine/server/json.ts";

describe("the place of an error in JSON", () => {
  const cases: readonly (readonly [text: string, says: string])[] = [
    ["", "line 1, column 1 (offset 0): expected a value, found the end of the text"],
    ["[1,]", 'line 1, column 4 (offset 3): expected a value, found "]"'],
    ['{"a":1,}', 'line 1, column 8 (offset 7): expected a name in double quotes, found "}"'],
    ['{\n  "a" 1}', 'line 2, column 7 (offset 8): expected ":", found "1"'],
    ["{a: 1}", 'line 1, column 2 (offset 1): expected a name in double quotes or "}", found "a"'],
    ["{'a': 1}", 'expected a name in double quotes or "}", found "\'"'],
    ['["a" "b"]', 'line 1, column 6 (offset 5): expected "," or "]", found "\\""'],
    ['{"a": 1 "b": 2}', 'expected "," or "}"'],
    [
      '["\n"]',
      'line 1, column 3 (offset 2): expected no raw control character in a string, found "\\n"',
    ],
    ['["\\x"]', 'expected an escape that JSON knows, found "\\\\"'],
    ['["abc', "expected the end of a string, found the end of the text"],
    ["[1] 2", 'line 1, column 5 (offset 4): expected the end of the text, found "2"'],
    ["[01]", 'line 1, column 3 (offset 2): expected "," or "]", found "1"'],
    ["[NaN]", 'expected a value or "]", found "N"'],
    ["[+1]", 'expected a value or "]", found "+"'],
    ["[1.]", 'line 1, column 3 (offset 2): expected "," or "]", found "."'],
  ];
  test.each(cases)("%p", (text, says) => {
    expect(() => parseJson(text)).toThrow(says);
  });

  test("is found however deep it lies", () => {
    expect(() => parseJson("[".repeat(200_000))).toThrow("(offset 200000)");
  });

  test("is found for every text that JSON.parse refuses", () => {
    const pieces = fc.constantFrom(
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      '"',
      "\\",
      "1",
      "-",
      "0",
      ".",
      "e",
      "true",
      "nul",
      " ",
      "\n",
      '"a"',
      "\u0001",
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
        const text = parts.join("");
        let valid = true;
        try {
          JSON.parse(text);
        } catch {
          valid = false;
        }
        if (valid) expect(parseJson(text)).toEqual(JSON.parse(text));
        else expect(() => parseJson(text)).toThrow("line ");
      }),
      { seed: 3, numRuns: 3000 },
    );
  });
});

describe("integerText", () => {
  test("gives the digits as written, at the top level only", () => {
    expect(integerText('{"seed": 18446744073709551615}', "seed")).toBe("18446744073709551615");
    expect(integerText('{"a": {"seed": 1}, "seed": -9223372036854775808}', "seed")).toBe(
      "-9223372036854775808",
    );
    expect(integerText('{"": {"": {"seed": 7}}, "seed": 99999999999999999}', "seed")).toBe(
      "99999999999999999",
    );
    expect(integerText('{"seed": 1, "seed": 99999999999999999}', "seed")).toBe("99999999999999999");
  });
  test("gives nothing for other numbers", () => {
    expect(integerText('{"seed": 1e30}', "seed")).toBeUndefined();
    expect(integerText('{"a": {"seed": 1}}', "seed")).toBeUndefined();
  });
});
