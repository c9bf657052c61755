import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { type Queued, WaitingQueue } from "../../../engine/scheduler/waiting-queue.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

function item(number: number, priority = 0): Queued {
  return { priority, number, queueIndex: -1 };
}

function numbersOf(queue: WaitingQueue<Queued>): number[] {
  return [...queue].map(({ number }) => number);
}

describe("waiting queue", () => {
  test("with equal priorities the order is that of arrival, also for one that comes back", () => {
    const queue = new WaitingQueue<Queued>();
    const items = [0, 1, 2, 3].map((number) => item(number));
    for (const one of items) queue.push(one);
    expect(queue.shift()).toBe(items[0]!);
    queue.push(items[0]!);
    expect(numbersOf(queue)).toEqual([0, 1, 2, 3]);
    expect(queue.first).toBe(items[0]!);
  });

  test("a lower priority goes first, whenever it arrived", () => {
    const queue = new WaitingQueue<Queued>();
    queue.push(item(0, 5));
    queue.push(item(1, -3));
    queue.push(item(2, 5));
    queue.push(item(3, 0));
    expect(numbersOf(queue)).toEqual([1, 3, 0, 2]);
  });

  test("an empty queue has no first item", () => {
    const queue = new WaitingQueue<Queued>();
    expect(queue.first).toBeUndefined();
    expect(queue.shift()).toBeUndefined();
    expect(queue.has(item(1))).toBe(false);
  });

  test("pushing an item twice or removing a stranger is an error that changes nothing", () => {
    const queue = new WaitingQueue<Queued>();
    const one = item(1);
    queue.push(one);
    expect(() => queue.push(one)).toThrow("item 1 waits already");
    expect(() => queue.remove(item(2))).toThrow("item 2 does not wait");
    expect(() => queue.remove({ ...item(3), queueIndex: 0 })).toThrow("item 3 does not wait");
    expect(numbersOf(queue)).toEqual([1]);
  });

  test("does what a sorted list does", () => {
    const command = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant("push" as const),
          priority: fc.integer({ min: -2, max: 2 }),
        }),
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("shift" as const) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant("remove" as const), pick: fc.nat() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("return" as const), pick: fc.nat() }) },
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 120, size: "max" }), (commands) => {
        const queue = new WaitingQueue<Queued>();
        const inside: Queued[] = [];
        const outside: Queued[] = [];
        let number = 0;
        for (const step of commands) {
          if (step.kind === "push") {
            const one = item(number++, step.priority);
            queue.push(one);
            inside.push(one);
          } else if (step.kind === "return" && outside.length > 0) {
            const [one] = outside.splice(step.pick % outside.length, 1);
            queue.push(one!);
            inside.push(one!);
          } else if (step.kind === "remove" && inside.length > 0) {
            const [one] = inside.splice(step.pick % inside.length, 1);
            queue.remove(one!);
            outside.push(one!);
          } else if (step.kind === "shift") {
            const expected = inside.shift();
            expect(queue.shift()).toBe(expected!);
            if (expected !== undefined) outside.push(expected);
          }
          inside.sort((a, b) => a.priority - b.priority || a.number - b.number);
          expect(queue.first).toBe(inside[0]!);
          expect(queue.length).toBe(inside.length);
          for (const one of inside) expect(queue.has(one)).toBe(true);
          for (const one of outside) expect(queue.has(one)).toBe(false);
        }
        expect(numbersOf(queue)).toEqual(inside.map((one) => one.number));
        for (const one of inside) expect(queue.shift()).toBe(one);
      }),
      propertyRuns(400),
    );
  });
});
