import { describe, expect, test } from "bun:test";
import { REAL_CLOCK } from "../../../cli/bench/load/clock.ts";

describe("the real clock", () => {
  test("does not go back", () => {
    const before = REAL_CLOCK.now();
    expect(REAL_CLOCK.now()).toBeGreaterThanOrEqual(before);
  });

  test("sleeps at least as long as it should", async () => {
    const before = REAL_CLOCK.now();
    await REAL_CLOCK.sleep(2);
    expect(REAL_CLOCK.now() - before).toBeGreaterThanOrEqual(2);
  });

  test("lets what has come be read in a sleep of nothing", async () => {
    let read = false;
    setImmediate(() => (read = true));
    await REAL_CLOCK.sleep(0);
    expect(read).toBe(true);
  });

  test("ends a sleep that nobody waits for any more, however long, and not before", async () => {
    for (const ms of [1000, 2 ** 31, Number.POSITIVE_INFINITY]) {
      const abort = new AbortController();
      let ended = false;
      const slept = REAL_CLOCK.sleep(ms, abort.signal).then(() => (ended = true));
      await REAL_CLOCK.sleep(0);
      expect(ended).toBe(false);
      abort.abort();
      await slept;
      await REAL_CLOCK.sleep(1000, abort.signal);
    }
  });
});
