import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { Backlog } from "../../../connectors/backlog.ts";
import { propertyRuns } from "../../support/property-runs.ts";

test("keeps what is added in order, until it is dropped from the front", () => {
  const step = fc.oneof(
    fc.record({ add: fc.nat({ max: 3_000 }) }),
    fc.record({ drop: fc.nat({ max: 3_000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const backlog = new Backlog();
      let model: number[] = [];
      let next = 1;
      for (const one of steps) {
        if ("add" in one) {
          const ids = Array.from({ length: one.add }, () => next++);
          backlog.add(ids);
          model.push(...ids);
        } else {
          const count = Math.min(one.drop, model.length);
          expect(backlog.first(count)).toEqual(model.slice(0, count));
          backlog.drop(count);
          model = model.slice(count);
        }
        expect(backlog.size).toBe(model.length);
        expect(backlog.first(3)).toEqual(model.slice(0, 3));
      }
      expect(backlog.first(Infinity)).toEqual(model);
      backlog.clear();
      expect([backlog.size, backlog.first(1)]).toEqual([0, []]);
    }),
    propertyRuns(100),
  );
});

test("takes as many blocks as the largest device has", () => {
  const backlog = new Backlog();
  const ids = Array.from({ length: 500_000 }, (_, i) => i + 1);
  backlog.add(ids);
  const copy = new Backlog();
  copy.add(backlog.first(Infinity));
  expect([copy.size, copy.first(1)]).toEqual([500_000, [1]]);
});
