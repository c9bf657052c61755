/** Weights on the disk: given at once or when the page is stored, once, and to so many that wait at most. */

import { expect, test } from "bun:test";
import { DiskWeights } from "../../../../engine/connectors/tiers/disk-weights.ts";

function diskOf(...keys: readonly string[]): {
  readonly weights: DiskWeights;
  readonly there: Set<string>;
  readonly given: Map<string, number>;
} {
  const there = new Set(keys);
  const given = new Map<string, number>();
  const weights = new DiskWeights((some, weight) =>
    some.map((key) => there.has(key) && given.set(key, weight) !== undefined),
  );
  return { weights, there, given };
}

test("what is there gets its weight at once, and what is stored later then", () => {
  const { weights, there, given } = diskOf("a");
  weights.used(["a", "b"], 2);
  expect([...given]).toEqual([["a", 2]]);
  there.add("b").add("c");
  weights.stored(["c", "b"]);
  expect([...given]).toEqual([
    ["a", 2],
    ["b", 2],
  ]);
});

test("a page that was stored once gets the weight of its next use, not the last one's again", () => {
  const { weights, there, given } = diskOf();
  weights.used(["a"], 3);
  there.add("a");
  weights.stored(["a"]);
  given.clear();
  weights.stored(["a"]);
  expect(given.size).toBe(0);
  weights.used(["a"], 1);
  expect([...given]).toEqual([["a", 1]]);
});

test("a reset forgets what is waited for", () => {
  const { weights, there, given } = diskOf();
  weights.used(["a"], 1);
  weights.clear();
  there.add("a");
  weights.stored(["a"]);
  expect(given.size).toBe(0);
});

test("of more contents than are remembered those that were used first get no weight", () => {
  const { weights, there, given } = diskOf();
  const keys = Array.from({ length: 16_385 }, (_, i) => `k${i}`);
  weights.used(keys, 1);
  for (const key of keys) there.add(key);
  weights.stored(keys);
  expect(given.size).toBe(16_384);
  expect(given.has("k0")).toBe(false);
});
