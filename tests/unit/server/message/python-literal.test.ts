import { expect, test } from "bun:test";
import { jsonOfPython } from "../../../../engine/server/message/python-literal.ts";

test.each([
  ["1", 1],
  ["-1.5e3", -1500],
  ["+.5", 0.5],
  ["1.", 1],
  ["1_000", 1000],
  ["007", 7],
  ["True", true],
  ["False", false],
  ["None", null],
  ["'a\"b\\'c'", "a\"b'c"],
  ['"\\n\\x41\\u00e9\\q"', "\nAé\\q"],
  ["[1, 'a', (2, 3),]", [1, "a", [2, 3]]],
  ["{'a': {1: None}}", { a: { "1": null } }],
  [" [ ] ", []],
])("%s", (text, value) => {
  expect(JSON.parse(jsonOfPython(text) ?? "")).toEqual(value);
});

test.each(["", "x", "1 2", "'open", "[1", "{1}", "f(1)", "[".repeat(200), "{,}"])(
  "%s is no literal",
  (text) => {
    expect(jsonOfPython(text)).toBeUndefined();
  },
);
