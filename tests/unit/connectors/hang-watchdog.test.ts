import { describe, expect, test } from "bun:test";
import { HangWatchdog } from "../../../engine/connectors/hang-watchdog.ts";
import { createHookWord, HookTurn, readHookWord } from "../../../engine/connectors/hook-turn.ts";
import { type Hook, HOOKS } from "../../../engine/connectors/hooks.ts";

describe("whose turn it is", () => {
  test("is seen from another thread's side: which hook of which connector", () => {
    const word = createHookWord();
    const turn = new HookTurn(word);
    expect(readHookWord(word)).toBeUndefined();
    for (const hook of HOOKS) {
      for (const connector of [0, 1, 255]) {
        expect(turn.begin(connector, hook)).toBe(true);
        expect(readHookWord(word)).toMatchObject({ connector, hook });
        expect(turn.connector).toBe(connector);
        turn.end();
        expect(readHookWord(word)).toBeUndefined();
        expect(turn.connector).toBe(-1);
      }
    }
  });

  test("belongs to one: a second is refused and changes nothing", () => {
    const word = createHookWord();
    const turn = new HookTurn(word);
    turn.begin(1, "findBlocks");
    expect(turn.begin(2, "stats")).toBe(false);
    expect(readHookWord(word)).toMatchObject({ connector: 1, hook: "findBlocks" });
  });

  test("tells two calls apart, also of one hook and when they are counted around", () => {
    const word = createHookWord();
    const turn = new HookTurn(word);
    let last = -1;
    for (let i = 0; i < 2 ** 18 + 2; i++) {
      turn.begin(255, "shutdown");
      const { call = -1, connector, hook } = readHookWord(word) ?? {};
      turn.end();
      if (call === last || call <= 0 || connector !== 255 || hook !== "shutdown")
        throw new Error(`call ${i} is ${call} after ${last}`);
      last = call;
    }
  });
});

/** A watchdog of 1,000 ms whose clock and looks are the test's. */
class Watched {
  time = 0;
  awaited = true;
  /** Whether the thread answers. */
  answers = true;
  readonly hung: (readonly [connector: number, hook: Hook] | "silent")[] = [];
  readonly turn: HookTurn;
  readonly watchdog: HangWatchdog;

  constructor() {
    const word = createHookWord();
    this.turn = new HookTurn(word);
    this.watchdog = new HangWatchdog({
      word,
      timeoutMs: 1000,
      isAwaited: () => this.awaited,
      ping: () => true,
      onHang: ({ running }) =>
        this.hung.push(running === undefined ? "silent" : [running.connector, running.hook]),
      now: () => this.time,
    });
  }

  /** Looks, each `ms` after the one before. */
  look(times: number, ms = 100): void {
    for (let i = 0; i < times; i++) {
      this.time += ms;
      this.watchdog.look();
      if (this.answers) this.watchdog.heard();
    }
  }
}

describe("the watchdog", () => {
  test("names the connector and the hook that has run for the time-out, once", () => {
    const watched = new Watched();
    watched.turn.begin(3, "buildConnectorMeta");
    watched.look(10);
    expect(watched.hung).toEqual([]);
    watched.look(1);
    expect(watched.hung).toEqual([[3, "buildConnectorMeta"]]);
  });

  test("lets many calls of the same hook pass, each shorter", () => {
    const watched = new Watched();
    for (let i = 0; i < 100; i++) {
      watched.turn.begin(0, "findBlocks");
      watched.look(9);
      watched.turn.end();
      // It begins again before the next look.
    }
    expect(watched.hung).toEqual([]);
  });

  test("lets a call pass that ends just before the time-out", () => {
    const watched = new Watched();
    watched.turn.begin(0, "findBlocks");
    watched.look(10);
    watched.turn.end();
    watched.look(10);
    expect(watched.hung).toEqual([]);
  });

  test("does not count time in which its own thread did not run", () => {
    const watched = new Watched();
    watched.turn.begin(0, "findBlocks");
    watched.look(2);
    // The process was stopped for an hour: both threads were.
    watched.look(1, 3_600_000);
    expect(watched.hung).toEqual([]);
    watched.look(7);
    expect(watched.hung).toHaveLength(1);
  });

  test("sees a thread that answers nothing while no hook runs", () => {
    const watched = new Watched();
    watched.answers = false;
    watched.look(9);
    expect(watched.hung).toEqual([]);
    watched.look(1);
    expect(watched.hung).toEqual(["silent"]);
  });

  test("lets a thread be that answers late, again and again", () => {
    const watched = new Watched();
    watched.answers = false;
    for (let i = 0; i < 20; i++) {
      watched.look(9);
      watched.watchdog.heard();
    }
    expect(watched.hung).toEqual([]);
  });

  test("does not look while nobody waits, and begins anew when somebody does", () => {
    const watched = new Watched();
    watched.turn.begin(0, "findBlocks");
    watched.awaited = false;
    watched.look(100);
    expect(watched.hung).toEqual([]);
    watched.awaited = true;
    watched.watchdog.watch();
    watched.look(10);
    expect(watched.hung).toEqual([]);
    watched.look(1);
    expect(watched.hung).toHaveLength(1);
    watched.watchdog.stop();
  });
});
