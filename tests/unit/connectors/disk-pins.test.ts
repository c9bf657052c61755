/** What is pinned on the disk: there at once or when it is stored, and until the last of its pins ends. */

import { expect, test } from "bun:test";
import { DiskPins } from "../../../engine/connectors/disk-pins.ts";
import type { Pin } from "../../../engine/connectors/retained.ts";

const pinOf = (id: string, keys: readonly string[], endsAt: number): Pin => ({
  ...{ id, owner: "", keys, endsAt },
  numTokens: keys.length,
});

/** A disk that has some pages, at 1,000 s of the epoch and 0 ms of the clock. */
function diskOf(...keys: readonly string[]): {
  readonly pins: DiskPins;
  readonly there: Set<string>;
  readonly until: Map<string, number>;
  now: number;
} {
  const there = new Set(keys);
  const until = new Map<string, number>();
  const disk = {
    pin: (some: readonly string[], seconds: number): boolean[] =>
      some.map((key) => there.has(key) && until.set(key, seconds) !== undefined),
    unpin: (some: readonly string[]): number => some.filter((key) => until.delete(key)).length,
  };
  const world = { there, until, now: 0, pins: undefined as unknown as DiskPins };
  world.pins = new DiskPins(
    disk,
    () => world.now,
    () => 1_000_000 + world.now,
  );
  return world;
}

test("what is there is pinned at once, and what is stored later then", () => {
  const { pins, there, until } = diskOf("a");
  pins.add(pinOf("one", ["a", "b"], 5000));
  expect([...until]).toEqual([["a", 1005]]);
  there.add("b").add("c");
  pins.stored(["b", "c"]);
  expect([...until]).toEqual([
    ["a", 1005],
    ["b", 1005],
  ]);
});

test("what several pins name is kept to the last end, and goes with the last of them", () => {
  const { pins, until } = diskOf("a", "b");
  pins.add(pinOf("one", ["a", "b"], 9000));
  pins.add(pinOf("two", ["b"], 5000));
  expect([...until.values()]).toEqual([1009, 1009]);
  pins.remove("one", "someone else");
  pins.remove("one", "");
  expect([...until.keys()]).toEqual(["b"]);
  pins.remove("two", "");
  expect([...until.keys()]).toEqual([]);
});

test("a pin that has ended is not given to what is stored afterwards", () => {
  const world = diskOf("a");
  world.pins.add(pinOf("one", ["a", "b"], 5000));
  world.now = 5000;
  world.there.add("b");
  world.pins.stored(["b"]);
  expect(world.until.has("b")).toBe(false);
});

test("what the disk keeps is what it has said that it does, as long as somebody wants it to", () => {
  const world = diskOf("a", "b");
  const { pins, there, until } = world;
  const kept = (): string => ["a", "b", "c"].filter((key) => pins.isKept(key)).join("");
  pins.add(pinOf("one", ["a", "c"], 5000));
  expect(kept()).toBe("a");
  there.add("c");
  pins.stored(["c"]);
  expect(kept()).toBe("ac");
  // In its place one of other content: what nobody names any more is let go.
  pins.add(pinOf("one", ["b", "c"], 5000));
  expect([kept(), [...until.keys()].toSorted().join("")]).toEqual(["bc", "bc"]);
  world.now = 5000;
  expect(kept()).toBe("");
});
