import { expect, jest, test } from "bun:test";
import { SlowLink } from "../../../../engine/connectors/tiers/slow-link.ts";

test("moves begin in order, each when one of its size would have ended", () => {
  jest.useFakeTimers();
  try {
    let now = 0;
    const link = new SlowLink(1000, () => now);
    const begun: string[] = [];
    const pass = (ms: number): void => {
      now += ms;
      jest.advanceTimersByTime(ms);
    };
    link.after(10, () => begun.push("a"));
    link.after(20, () => begun.push("b"));
    pass(9);
    expect(begun).toEqual([]);
    pass(1);
    expect(begun).toEqual(["a"]);
    pass(19);
    expect(begun).toEqual(["a"]);
    pass(1);
    expect(begun).toEqual(["a", "b"]);
    // What was not used is not kept.
    pass(1000);
    link.after(10, () => begun.push("c"));
    pass(9);
    expect(begun).toEqual(["a", "b"]);
    pass(1);
    expect(begun).toEqual(["a", "b", "c"]);
  } finally {
    jest.useRealTimers();
  }
});
