import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { TokenRuns } from "../../../engine/scheduler/token-runs.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const run = fc.record({ start: fc.nat(40), length: fc.nat(12) });

test("runs in any order, over each other and between each other, count each position once", () => {
  fc.assert(
    fc.property(fc.array(run), (runs) => {
      const tokens = new TokenRuns();
      const positions = new Set<number>();
      for (const { start, length } of runs) {
        tokens.add(start, start + length);
        for (let i = 0; i < length; i++) positions.add(start + i);
        expect(tokens.size).toBe(positions.size);
      }
    }),
    propertyRuns(500),
  );
});
