import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { ChunkSizer } from "../../../engine/scheduler/chunk-sizer.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const CEILING = 2048;

/** Seeded numbers in [0, 1). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Microseconds of steps on a made-up machine. */
interface Machine {
  fixed: number;
  perDecode: number;
  perToken: number;
  /** Largest deviation of a step's time from these, as a part of it. */
  noise: number;
}

const LAPTOP: Machine = { fixed: 18_000, perDecode: 700, perToken: 300, noise: 0.05 };
const SERVER: Machine = { fixed: 9_000, perDecode: 40, perToken: 25, noise: 0.03 };

class Simulation {
  readonly sizer: ChunkSizer;
  readonly machine: Machine;
  readonly #random: () => number;

  constructor(tpotSlo: number, machine: Machine, seed = 1) {
    this.sizer = new ChunkSizer(tpotSlo);
    this.machine = { ...machine };
    this.#random = randomOf(seed);
  }

  /** Runs one step; answers its milliseconds. */
  step(decodes: number, promptTokens: number): number {
    const { fixed, perDecode, perToken, noise } = this.machine;
    const exact = fixed + perDecode * decodes + perToken * promptTokens;
    const micros = exact * (1 + noise * (2 * this.#random() - 1));
    this.sizer.observe({ decodes, promptTokens, micros });
    return micros / 1000;
  }

  /** Steps with as many prompt tokens as it allows. */
  mixed(decodes: number, count: number): number[] {
    return Array.from({ length: count }, () =>
      this.step(decodes, this.sizer.size(decodes, CEILING)),
    );
  }

  decodeOnly(decodes: number, count: number): void {
    for (let i = 0; i < count; i++) this.step(decodes, 0);
  }
}

describe("without an objective, or without decodes", () => {
  test("prompts get all there is", () => {
    const off = new Simulation(0, LAPTOP);
    off.decodeOnly(4, 10);
    off.mixed(4, 3);
    expect(off.sizer.size(4, CEILING)).toBe(CEILING);
    const on = new Simulation(50, LAPTOP);
    expect(on.sizer.size(0, CEILING)).toBe(CEILING);
    on.decodeOnly(4, 10);
    on.mixed(4, 3);
    expect(on.sizer.size(0, CEILING)).toBe(CEILING);
  });
});

describe("the first steps", () => {
  test("are careful until a step with decodes and one with prompt tokens have been seen", () => {
    const { sizer } = new Simulation(50, LAPTOP);
    expect(sizer.size(1, CEILING)).toBe(64);
    expect(sizer.size(1, 10)).toBe(10);
    const decoded = new Simulation(50, LAPTOP);
    decoded.decodeOnly(1, 5);
    expect(decoded.sizer.size(1, CEILING)).toBe(64);
    const prefilled = new Simulation(50, LAPTOP);
    prefilled.step(0, 512);
    expect(prefilled.sizer.size(1, CEILING)).toBe(64);
  });

  test("a prompt of few tokens teaches nothing about long ones", () => {
    const simulation = new Simulation(50, LAPTOP);
    simulation.step(0, 3);
    simulation.decodeOnly(1, 5);
    expect(simulation.sizer.size(1, CEILING)).toBe(64);
  });

  test("steps that took no time teach nothing", () => {
    const sizer = new ChunkSizer(50);
    for (const micros of [0, -1, Number.NaN]) {
      sizer.observe({ decodes: 2, promptTokens: 0, micros });
      sizer.observe({ decodes: 2, promptTokens: 100, micros });
    }
    expect(sizer.size(2, CEILING)).toBe(64);
  });

  test("a slow first step is forgotten at once", () => {
    const simulation = new Simulation(50, { ...LAPTOP, noise: 0 });
    simulation.machine.fixed *= 20;
    simulation.decodeOnly(1, 1);
    simulation.machine.fixed = LAPTOP.fixed;
    simulation.decodeOnly(1, 2);
    simulation.mixed(1, 6);
    expect(simulation.step(1, simulation.sizer.size(1, CEILING))).toBeGreaterThan(40);
  });
});

describe("after warm-up", () => {
  test.each([
    ["a laptop", LAPTOP, 50],
    ["a server", SERVER, 15],
  ])("steps of %s stay within the objective and use it", (_, machine, tpotSlo) => {
    const simulation = new Simulation(tpotSlo, machine);
    simulation.step(0, 1000);
    simulation.decodeOnly(4, 10);
    simulation.mixed(4, 8);
    const steps = simulation.mixed(4, 200);
    expect(Math.max(...steps)).toBeLessThanOrEqual(tpotSlo);
    expect(Math.min(...steps)).toBeGreaterThan(0.75 * tpotSlo);
  });

  test("also where no step ever had decodes alone", () => {
    const simulation = new Simulation(50, LAPTOP);
    simulation.mixed(8, 12);
    const steps = simulation.mixed(8, 100);
    expect(Math.max(...steps)).toBeLessThanOrEqual(50);
    expect(Math.min(...steps)).toBeGreaterThan(0.7 * 50);
  });

  test("more and fewer decodes are followed, from one step to the next", () => {
    const simulation = new Simulation(60, LAPTOP);
    for (let decodes = 1; decodes <= 16; decodes++) {
      simulation.decodeOnly(decodes, 6);
      simulation.mixed(decodes, 6);
    }
    for (const decodes of [16, 3, 12, 1, 16]) {
      const steps = simulation.mixed(decodes, 10);
      expect(Math.max(...steps)).toBeLessThanOrEqual(60);
      expect(steps.at(-1)).toBeGreaterThan(0.75 * 60);
      simulation.decodeOnly(decodes, 6);
    }
  });

  test("prompt tokens that become dearer with the context are followed within a few steps", () => {
    const simulation = new Simulation(50, LAPTOP);
    simulation.decodeOnly(2, 10);
    simulation.mixed(2, 10);
    simulation.machine.perToken *= 3;
    simulation.mixed(2, 7);
    expect(Math.max(...simulation.mixed(2, 50))).toBeLessThanOrEqual(50);
    simulation.machine.perToken /= 3;
    simulation.mixed(2, 20);
    expect(Math.min(...simulation.mixed(2, 50))).toBeGreaterThan(0.75 * 50);
  });

  test("a context that grows by each chunk breaks the objective in no step", () => {
    const simulation = new Simulation(50, LAPTOP);
    simulation.decodeOnly(2, 10);
    simulation.mixed(2, 10);
    let context = 0;
    for (let i = 0; i < 200; i++) {
      const tokens = simulation.sizer.size(2, CEILING);
      simulation.machine.perToken = LAPTOP.perToken * (1 + context / 2000);
      expect(simulation.step(2, tokens)).toBeLessThanOrEqual(50);
      context += tokens;
    }
    expect(context).toBeGreaterThan(3000);
  });

  test("a hiccup of the machine costs some tokens for a few steps", () => {
    for (const promptTokens of [0, 25]) {
      const simulation = new Simulation(50, LAPTOP);
      simulation.decodeOnly(2, 10);
      simulation.mixed(2, 20);
      const before = simulation.sizer.size(2, CEILING);
      const { sizer } = simulation;
      sizer.observe({ decodes: 2, promptTokens, micros: 450_000 });
      expect(sizer.size(2, CEILING)).toBeGreaterThan(before / 2);
      expect(Math.max(...simulation.mixed(2, 10))).toBeLessThanOrEqual(50);
      expect(sizer.size(2, CEILING)).toBeGreaterThan(0.85 * before);
    }
  });

  test("prompts never starve: 8 tokens, or what a quarter of the decodes' time gives", () => {
    const slow = new Simulation(10, { ...LAPTOP, perToken: 900, noise: 0 });
    slow.decodeOnly(4, 20);
    slow.mixed(4, 20);
    expect(slow.sizer.size(4, CEILING)).toBe(8);
    expect(slow.sizer.size(4, 5)).toBe(5);
    const fast = new Simulation(10, { ...LAPTOP, perToken: 20, noise: 0 });
    fast.decodeOnly(4, 20);
    fast.mixed(4, 60);
    // A quarter of what may be spent at most, 10 ms, at 20 µs a token.
    expect(fast.sizer.size(4, CEILING)).toBeGreaterThanOrEqual(100);
    expect(fast.sizer.size(4, CEILING)).toBeLessThanOrEqual(140);
  });
});

test("in a run of arrivals the 99th percentile of a decode's time is under twice the median", () => {
  for (const [machine, tpotSlo, rate] of [
    [LAPTOP, 40, 0.02],
    [SERVER, 17, 0.04],
  ] as const) {
    const simulation = new Simulation(tpotSlo, machine, 9);
    const random = randomOf(42);
    let pending = 0;
    const decodes: number[] = [];
    const gaps: number[] = [];
    for (let step = 0; step < 4000; step++) {
      if (random() < rate && decodes.length < 16) pending += 50 + Math.floor(600 * random());
      const running = decodes.length;
      const tokens = pending === 0 ? 0 : Math.min(pending, simulation.sizer.size(running, CEILING));
      if (running + tokens === 0) continue;
      const millis = simulation.step(running, tokens);
      if (step > 200) for (let i = 0; i < running; i++) gaps.push(millis);
      for (let i = decodes.length - 1; i >= 0; i--) {
        decodes[i]!--;
        if (decodes[i] === 0) decodes.splice(i, 1);
      }
      pending -= tokens;
      if (tokens > 0 && pending === 0) decodes.push(60 + Math.floor(200 * random()));
    }
    gaps.sort((a, b) => a - b);
    expect(gaps.length).toBeGreaterThan(3000);
    const percentile = (part: number): number => gaps[Math.floor(part * gaps.length)]!;
    expect(percentile(0.99)).toBeLessThan(2 * percentile(0.5));
    expect(percentile(0.99)).toBeLessThanOrEqual(tpotSlo);
  }
});

test("equal results give equal sizes; a size is a whole number from 1 to the ceiling, whatever was seen", () => {
  const sample = fc.record({
    decodes: fc.nat(300),
    promptTokens: fc.nat(5000),
    micros: fc.oneof(fc.integer({ min: -1, max: 10 ** 9 }), fc.double({ min: 0, max: 100 })),
  });
  fc.assert(
    fc.property(
      fc.array(sample, { maxLength: 40, size: "max" }),
      fc.double({ min: 0, max: 1000, noNaN: true }),
      fc.integer({ min: 1, max: 4096 }),
      (samples, tpotSlo, ceiling) => {
        const one = new ChunkSizer(tpotSlo);
        const two = new ChunkSizer(tpotSlo);
        for (const each of samples) {
          one.observe(each);
          two.observe(each);
          for (const decodes of [0, 1, 7, 256]) {
            const size = one.size(decodes, ceiling);
            expect(size).toBe(two.size(decodes, ceiling));
            expect(Number.isInteger(size)).toBe(true);
            expect(size).toBeGreaterThanOrEqual(1);
            expect(size).toBeLessThanOrEqual(ceiling);
          }
        }
      },
    ),
    propertyRuns(500),
  );
});

describe("what a prompt token surely costs", () => {
  test("is not known from the few that a cached prompt leaves, and is that of the first long step", () => {
    const sizer = new ChunkSizer(0);
    sizer.observe({ decodes: 0, promptTokens: 16, micros: 16_000 });
    expect([sizer.microsPerToken, sizer.surelyMicrosPerToken]).toEqual([1000, 0]);
    sizer.observe({ decodes: 0, promptTokens: 1000, micros: 100_000 });
    expect([sizer.microsPerToken, sizer.surelyMicrosPerToken]).toEqual([100, 100]);
    sizer.observe({ decodes: 0, promptTokens: 16, micros: 1600 });
    expect(sizer.surelyMicrosPerToken).toBe(100);
  });

  test("is at most what was guessed until a long step tells it", () => {
    const sizer = new ChunkSizer(0, 20);
    expect(sizer.microsPerToken).toBe(20);
    sizer.observe({ decodes: 0, promptTokens: 16, micros: 1600 });
    expect([sizer.microsPerToken, sizer.surelyMicrosPerToken]).toEqual([20, 0]);
    sizer.observe({ decodes: 0, promptTokens: 1000, micros: 50_000 });
    expect([sizer.microsPerToken, sizer.surelyMicrosPerToken]).toEqual([50, 50]);
    const dearGuess = new ChunkSizer(0, 500);
    dearGuess.observe({ decodes: 0, promptTokens: 16, micros: 1600 });
    expect(dearGuess.microsPerToken).toBe(100);
  });
});
