import { describe, expect, test } from "bun:test";
import { UnreachableError } from "../../../cli/bench/http/failure.ts";
import { type Phase, Watchdog, type Watched } from "../../../cli/bench/http/watchdog.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const PATIENCE = { connectMs: 1000, firstChunkMs: 5000, stallMs: 2000 };

function watched(phase: Phase, numChunks = 0): Watched {
  return { address: "http://h:1", abort: new AbortController(), phase, since: 0, numChunks };
}

describe("the watchdog", () => {
  test("ends what is silent for longer than its phase may be, and says why", async () => {
    const cases = [
      ["connecting", 1000, "cannot connect to http://h:1 within 1 s"],
      ["waiting", 5000, "no output came within 5 s"],
      ["streaming", 2000, "stalled: nothing came for 2 s after 7 chunks"],
    ] as const;
    for (const [phase, limit, says] of cases) {
      const clock = new VirtualClock();
      const dog = new Watchdog(clock, PATIENCE);
      const one = watched(phase, 7);
      dog.watch(one);
      await clock.advance(limit - 1);
      expect(one.abort.signal.aborted).toBe(false);
      await clock.advance(101);
      expect((one.abort.signal.reason as Error).message).toBe(says);
      expect(one.abort.signal.reason instanceof UnreachableError).toBe(phase === "connecting");
    }
  });

  test("counts from the last piece that came", async () => {
    const clock = new VirtualClock();
    const dog = new Watchdog(clock, PATIENCE);
    const one = watched("streaming");
    dog.watch(one);
    for (let i = 0; i < 5; i++) {
      await clock.advance(1500);
      one.since = clock.now();
    }
    expect(one.abort.signal.aborted).toBe(false);
  });

  test("sleeps only while there is something to watch", async () => {
    const clock = new VirtualClock();
    const dog = new Watchdog(clock, PATIENCE);
    const [one, two] = [watched("waiting"), watched("waiting")];
    expect(clock.sleeping).toBe(0);
    dog.watch(one);
    dog.watch(two);
    expect(clock.sleeping).toBe(1);
    dog.unwatch(one);
    expect(clock.sleeping).toBe(1);
    dog.unwatch(two);
    expect(clock.sleeping).toBe(0);
    dog.watch(one);
    await clock.advance(5100);
    expect([one, two].map(({ abort }) => abort.signal.aborted)).toEqual([true, false]);
  });
});
