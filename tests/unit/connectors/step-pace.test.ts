import { expect, test } from "bun:test";
import { StepPace } from "../../../connectors/step-pace.ts";

test("learns the time between steps and their tokens, not the time in which nothing was computed", () => {
  const pace = new StepPace();
  expect([pace.ms, pace.tokens]).toEqual([0, 0]);
  pace.observe(8, 100);
  expect(pace.ms).toBe(0);
  for (let step = 1; step <= 200; step++) pace.observe(8, 100 + 20 * step);
  expect(pace.ms).toBeCloseTo(20, 3);
  expect(pace.tokens).toBeCloseTo(8, 3);
  pace.rested();
  pace.observe(8, 1e6);
  expect(pace.ms).toBeCloseTo(20, 3);
});
