import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { DeadlineQueue, type Timed } from "../../../engine/cache/deadline-queue.ts";
import { propertyRuns } from "../../support/property-runs.ts";

const command = fc.record({
  kind: fc.constantFrom("push", "push", "remove", "move", "shift"),
  pick: fc.nat(),
  at: fc.nat(8),
});

test("the next to end comes first, then the lower number, whatever was moved or left", () => {
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60, size: "max" }), (commands) => {
      const queue = new DeadlineQueue<Timed>();
      let items: Timed[] = [];
      for (const [number, { kind, pick, at }] of commands.entries()) {
        const item = items[pick % items.length];
        if (kind === "push") {
          const pushed = { expiresAt: at, number, place: -1 };
          items.push(pushed);
          queue.push(pushed);
        } else if (item !== undefined) {
          const left = kind === "remove" ? item : kind === "shift" ? queue.first : undefined;
          if (left === undefined) {
            queue.move(item, at);
          } else {
            queue.remove(left);
            expect(left.place).toBe(-1);
            items = items.filter((other) => other !== left);
          }
        }
        items.sort((a, b) => a.expiresAt - b.expiresAt || a.number - b.number);
        expect(queue.first).toBe(items[0] as Timed);
        expect(new Set(queue.items)).toEqual(new Set(items));
        for (const item of items) expect(queue.items[item.place]).toBe(item);
      }
    }),
    propertyRuns(300),
  );
});
