import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { EvictionWindow } from "../../../connectors/eviction-window.ts";

const STEPS = 256;
const SPARE = 2;
const BURSTS = 4;

function after(allocated: readonly number[], copySteps: number): number {
  const window = new EvictionWindow();
  for (const count of allocated) window.observe(count, copySteps);
  return window.blocks;
}

test("nothing is needed before the first step, and of steps that take nothing", () => {
  expect(new EvictionWindow().blocks).toBe(0);
  expect(after([0, 0, 0], 5)).toBe(0);
});

test("one large step is followed by others: it counts four times", () => {
  expect(after([32], 0)).toBe(BURSTS * 32);
});

test("steps that take the same for long need what a copy's time takes, and two steps more", () => {
  expect(after(Array<number>(300).fill(10), 30)).toBe(10 * (30 + SPARE));
  expect(after(Array<number>(300).fill(10), 29.5)).toBe(10 * (30 + SPARE));
});

test("a burst in each sixteenth step needs no more than the bursts that a copy's time holds", () => {
  const bursts = Array.from({ length: 640 }, (_, step) => (step % 16 === 0 ? 256 : 0));
  // 34 steps hold three bursts at most.
  expect(after(bursts, 32)).toBeLessThanOrEqual(BURSTS * 256);
  expect(after(bursts, 94)).toBeLessThanOrEqual(6 * 256);
  expect(after(bursts, 94)).toBeGreaterThan(5.5 * 256);
});

test("a copy that takes longer than the steps that are remembered counts as one that takes so many", () => {
  const steady = Array<number>(2 * STEPS).fill(3);
  expect(after(steady, STEPS - SPARE)).toBe(3 * STEPS);
  expect(after(steady, 1e9)).toBe(3 * STEPS);
  expect(after(steady, Infinity)).toBe(3 * STEPS);
});

test("what is needed falls slowly", () => {
  const busy = Array<number>(100).fill(20);
  const needed = after(busy, 10);
  expect(after([...busy, ...Array<number>(20).fill(0)], 10)).toBeGreaterThan(0.6 * needed);
  expect(after([...busy, ...Array<number>(1000).fill(0)], 10)).toBeLessThanOrEqual(1);
});

test("it is never less than what the last steps of a copy's time took, nor than four times the last step", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat({ max: 500 }), { minLength: 1, maxLength: 600 }),
      fc.double({ min: 0, max: 400, noNaN: true }),
      (allocated, copySteps) => {
        const steps = Math.min(Math.ceil(copySteps) + SPARE, STEPS);
        const taken = allocated.slice(-steps).reduce((sum, count) => sum + count, 0);
        const blocks = after(allocated, copySteps);
        expect(blocks).toBeGreaterThanOrEqual(taken);
        expect(blocks).toBeGreaterThanOrEqual(BURSTS * (allocated.at(-1) as number));
      },
    ),
  );
});
