import { describe, expect, test } from "bun:test";
import {
  callsOf,
  interleave,
  type RunCall,
  wholeRounds,
} from "../../../cli/bench/ab/interleave.ts";

function order(numSides: number, rounds: number, warmUps = 0): string {
  const name = ({ side, warmUp }: RunCall): string => (warmUp ? "abc" : "ABC")[side] ?? "?";
  return callsOf({ numSides, rounds, warmUps }).map(name).join("");
}

describe("a session in turns", () => {
  test("goes A B B A, and back and forth with three sides", () => {
    expect(order(2, 1)).toBe("AB");
    expect(order(2, 5)).toBe("ABBAABBAAB");
    expect(order(3, 3)).toBe("ABCCBAABC");
  });

  test("warms each side up before, which changes no turn", () => {
    expect(order(2, 2, 2)).toBe("ababABBA");
    expect(order(2, 0, 0)).toBe("");
  });

  test("gives every side the same mean place, so that a steady drift cancels", () => {
    for (const numSides of [2, 3, 4]) {
      const calls = callsOf({ numSides, rounds: 6, warmUps: 0 });
      const meanPlace = (side: number): number => {
        const places = calls.flatMap((call, i) => (call.side === side ? i : []));
        return places.reduce((sum, place) => sum + place, 0) / places.length;
      };
      for (let side = 1; side < numSides; side++) expect(meanPlace(side)).toBe(meanPlace(0));
    }
  });

  test("runs one at a time and keeps the results of all but warm-ups, in order", async () => {
    let running = 0;
    const session = await interleave({
      numSides: 2,
      rounds: 2,
      warmUps: 1,
      runOnce: async ({ side, round, warmUp }) => {
        running += 1;
        expect(running).toBe(1);
        await Promise.resolve();
        running -= 1;
        return `${warmUp ? "warm " : ""}${side}.${round}`;
      },
    });
    expect(session).toEqual({
      runs: [
        { side: 0, round: 0, result: "0.0" },
        { side: 1, round: 0, result: "1.0" },
        { side: 1, round: 1, result: "1.1" },
        { side: 0, round: 1, result: "0.1" },
      ],
    });
  });

  test("that breaks keeps what it has and says why it ended", async () => {
    const broken = new Error("the server died");
    let calls = 0;
    const session = await interleave({
      numSides: 2,
      rounds: 3,
      warmUps: 0,
      runOnce: ({ side }) => (++calls > 3 ? Promise.reject(broken) : Promise.resolve(side)),
    });
    expect(session.runs.map(({ result }) => result)).toEqual([0, 1, 1]);
    expect(session.stopped).toBe(broken);
    expect(wholeRounds(session, 2).map(({ side, round }) => [side, round])).toEqual([
      [0, 0],
      [1, 0],
    ]);
  });

  test("ends before the next run when its signal aborts", async () => {
    const stop = new AbortController();
    const session = await interleave({
      numSides: 2,
      rounds: 3,
      warmUps: 0,
      signal: stop.signal,
      runOnce: ({ round }) => {
        if (round === 1) stop.abort();
        return Promise.resolve(round);
      },
    });
    expect(session.runs.map(({ result }) => result)).toEqual([0, 0, 1]);
    expect(session.stopped).toBe(stop.signal.reason);
  });
});
