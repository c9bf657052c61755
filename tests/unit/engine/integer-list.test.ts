import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { parseIntegerList } from "../../../engine/integer-list.ts";

describe("lists of integers", () => {
  test("have every form that llama-bench takes", () => {
    expect(parseIntegerList("512")).toEqual([512]);
    expect(parseIntegerList("1,2,3")).toEqual([1, 2, 3]);
    expect(parseIntegerList("1-4")).toEqual([1, 2, 3, 4]);
    expect(parseIntegerList("128-512+128")).toEqual([128, 256, 384, 512]);
    expect(parseIntegerList("128-1024*2")).toEqual([128, 256, 512, 1024]);
    expect(parseIntegerList("0,1-3,8-40*3")).toEqual([0, 1, 2, 3, 8, 24]);
    expect(parseIntegerList(" 1 , 2")).toEqual([1, 2]);
    expect(parseIntegerList("1_000")).toEqual([1000]);
    expect(parseIntegerList("-1")).toEqual([-1]);
  });

  test("a range whose last number its steps pass by ends before it", () => {
    expect(parseIntegerList("100-250+100")).toEqual([100, 200]);
    expect(parseIntegerList("3-3")).toEqual([3]);
    expect(parseIntegerList("3-3*1")).toEqual([Number.NaN]);
  });

  test.each([
    "",
    ",",
    "1,",
    "a",
    "1.5",
    "1-",
    "-2-3",
    "4-2",
    "1-4+",
    "1-4+0",
    "1-4*1",
    "0-4*2",
    "1-2-3",
    "1+2",
    "9e9",
    "1-2000",
  ])("%p is refused", (text) => {
    expect(parseIntegerList(text).some(Number.isNaN)).toBe(true);
  });

  test("a range has at most 1000 numbers", () => {
    expect(parseIntegerList("1-1000")).toHaveLength(1000);
    expect(parseIntegerList("1-1001")).toEqual([Number.NaN]);
  });

  test("ranges of any step are what counting up gives", () => {
    const small = fc.integer({ min: 0, max: 300 });
    const step = fc.integer({ min: 1, max: 50 });
    fc.assert(
      fc.property(small, small, step, (first, length, step) => {
        const last = first + length;
        const expected = [];
        for (let number = first; number <= last; number += step) expected.push(number);
        expect(parseIntegerList(`${first}-${last}+${step}`)).toEqual(expected);
      }),
    );
  });
});
