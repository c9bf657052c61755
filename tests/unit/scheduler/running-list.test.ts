import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { type Listed, RunningList } from "../../../engine/scheduler/running-list.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

class Item implements Listed<Item> {
  next: Item | undefined;
  previous: Item | undefined;
  readonly number: number;
  readonly priority: number;

  constructor(number: number, priority = 0) {
    this.number = number;
    this.priority = priority;
  }
}

function listOf(items: Iterable<Item>): RunningList<Item> {
  const list = new RunningList<Item>();
  for (const one of items) list.insert(one);
  return list;
}

function forward(list: RunningList<Item>): number[] {
  const numbers: number[] = [];
  for (let one = list.first; one !== undefined; one = one.next) numbers.push(one.number);
  return numbers;
}

function backward(list: RunningList<Item>): number[] {
  const numbers: number[] = [];
  for (let one = list.last; one !== undefined; one = one.previous) numbers.push(one.number);
  return numbers;
}

describe("running list", () => {
  test("keeps scheduling order: priority first, then arrival", () => {
    const list = listOf([new Item(4), new Item(2), new Item(3, -1), new Item(1, 1), new Item(5)]);
    expect(forward(list)).toEqual([3, 2, 4, 5, 1]);
    expect(backward(list)).toEqual([1, 5, 4, 2, 3]);
    expect(list.length).toBe(5);
  });

  test("inserting twice or removing a stranger is an error that changes nothing", () => {
    const one = new Item(1);
    const list = listOf([one]);
    expect(() => list.insert(one)).toThrow("item 1 runs already");
    expect(() => list.remove(new Item(2))).toThrow("item 2 does not run");
    list.remove(one);
    expect(() => list.remove(one)).toThrow("item 1 does not run");
    expect(list.first).toBeUndefined();
    expect(list.last).toBeUndefined();
  });

  test.each([
    ["the current one", [3], [1, 2, 3, 4, 5]],
    ["an earlier one", [1], [1, 2, 3, 4, 5]],
    ["the next one", [4], [1, 2, 3, 5]],
    ["the last one", [5], [1, 2, 3, 4]],
    ["the current one, then the one behind it", [3, 4], [1, 2, 3, 5]],
    ["the one behind, then the current one", [4, 3], [1, 2, 3, 5]],
    ["all", [1, 2, 3, 4, 5], [1, 2, 3]],
  ])("a walk at item 3 that removes %s skips nobody", (_, removed, visited) => {
    const items = [1, 2, 3, 4, 5].map((number) => new Item(number));
    const list = listOf(items);
    const seen: number[] = [];
    for (let one = list.first; one !== undefined; one = list.after(one)) {
      seen.push(one.number);
      if (one.number === 3) for (const number of removed) list.remove(items[number - 1]!);
    }
    expect(seen).toEqual(visited);
  });

  test("one that left and came back before its turn is visited once", () => {
    const items = [1, 2, 3].map((number) => new Item(number));
    const list = listOf(items);
    const seen: number[] = [];
    for (let one = list.first; one !== undefined; one = list.after(one)) {
      seen.push(one.number);
      if (one.number !== 1) continue;
      for (const other of items) list.remove(other);
      for (const other of items) list.insert(other);
    }
    expect(seen).toEqual([1, 2, 3]);
  });

  test("any changes during a walk: in order, nobody who stayed is skipped, nobody who left is met", () => {
    const change = fc.record({ at: fc.nat(30), pick: fc.nat(30), insert: fc.boolean() });
    const items = fc.uniqueArray(
      fc.record({ number: fc.nat(200), priority: fc.integer({ min: -1, max: 1 }) }),
      { selector: ({ number }) => number, minLength: 1, maxLength: 20 },
    );
    fc.assert(
      fc.property(items, fc.array(change, { maxLength: 30, size: "max" }), (keys, changes) => {
        const all = keys.map(({ number, priority }) => new Item(number, priority));
        const inside = new Set(all.filter((_, i) => i % 3 !== 2));
        const list = listOf(inside);
        const stayed = new Set(inside);
        const seen: Item[] = [];
        for (let one = list.first; one !== undefined; one = list.after(one)) {
          expect(inside.has(one)).toBe(true);
          seen.push(one);
          for (const { pick, insert } of changes.filter(({ at }) => at === seen.length)) {
            const other = all[pick % all.length]!;
            if (insert === inside.has(other)) continue;
            if (insert) {
              list.insert(other);
              inside.add(other);
            } else {
              list.remove(other);
              inside.delete(other);
              if (!seen.includes(other)) stayed.delete(other);
            }
          }
          const order = [...inside].sort((a, b) => a.priority - b.priority || a.number - b.number);
          const numbers = order.map(({ number }) => number);
          expect(forward(list)).toEqual(numbers);
          expect(backward(list)).toEqual(numbers.toReversed());
          expect(list.length).toBe(inside.size);
          for (const each of all) expect(list.has(each)).toBe(inside.has(each));
        }
        const order = seen.toSorted((a, b) => a.priority - b.priority || a.number - b.number);
        expect(seen).toEqual(order);
        expect(new Set(seen).size).toBe(seen.length);
        for (const one of stayed) expect(seen.includes(one)).toBe(true);
      }),
      propertyRuns(1000),
    );
  });
});
