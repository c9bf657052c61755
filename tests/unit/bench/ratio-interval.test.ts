import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  geometricMean,
  pairedInterval,
  type RatioInterval,
  type RunPair,
  unpairedInterval,
} from "../../../cli/bench/ab/ratio-interval.ts";
import { criticalT, tailOfT } from "../../../cli/bench/ab/student-t.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { NOISES, randomNumbers, simulatedPairs } from "../../support/simulated-runs.ts";
import vectors from "../../vectors/statistics/scipy-student-t.json" with { type: "json" };

const A = [100, 104, 98, 101, 99.5];
const B = [103, 109, 101, 107, 102];

/** A B, B A, A B, … */
function pairsOf(a: readonly number[], b: readonly number[]): RunPair[] {
  return a.map((value, i) => ({ a: value, b: b[i] ?? Number.NaN, aFirst: i % 2 === 0 }));
}

describe("Student's t", () => {
  for (const { df, critical, tail } of vectors.cases) {
    test(`with ${df} degrees of freedom is scipy's`, () => {
      for (const [chance, t] of Object.entries(critical))
        expect(criticalT(Number(chance), df) / t).toBeCloseTo(1, 9);
      for (const [t, chance] of Object.entries(tail)) {
        expect(tailOfT(Number(t), df) / chance).toBeCloseTo(1, 9);
        expect(tailOfT(-Number(t), df)).toBe(tailOfT(Number(t), df));
      }
    });
  }

  test("has all chance beyond 0", () => {
    expect(tailOfT(0, 3)).toBe(1);
  });
});

describe("an interval", () => {
  // References: scipy's ttest_rel and ttest_ind (Welch), numpy's least squares; on logarithms.
  test("of interleaved pairs takes the order out by least squares", () => {
    const found = pairedInterval(pairsOf(A, B));
    expect(Math.log(found?.ratio ?? 0)).toBeCloseTo(0.0402541600990968, 12);
    expect(Math.log(found?.low ?? 0)).toBeCloseTo(0.03299553470111371, 12);
    expect(Math.log(found?.high ?? 0)).toBeCloseTo(0.047512785497079886, 12);
    expect(found?.p).toBeCloseTo(0.0003965715759435653, 12);
    expect(found?.larger).toBe("b");
  });

  test("of fewer than four pairs is the paired t", () => {
    const found = pairedInterval(pairsOf(A.slice(0, 3), B.slice(0, 3)));
    expect(Math.log(found?.low ?? 0)).toBeCloseTo(0.01101852647581961, 12);
    expect(Math.log(found?.high ?? 0)).toBeCloseTo(0.060094022524181986, 12);
    expect(found?.p).toBeCloseTo(0.024773556342762865, 12);
  });

  test("of runs that did not take turns is Welch's", () => {
    const found = unpairedInterval(A, B);
    expect(Math.log(found?.low ?? 0)).toBeCloseTo(-0.003896555570645596, 12);
    expect(Math.log(found?.high ?? 0)).toBeCloseTo(0.07957347966679416, 12);
    expect(found?.p).toBeCloseTo(0.06925724095761217, 12);
    expect(found?.larger).toBe("none");
  });

  test("needs two runs a side", () => {
    expect(pairedInterval(pairsOf([1], [2]))).toBeUndefined();
    expect(unpairedInterval([1], [2, 3])).toBeUndefined();
    expect(pairedInterval(pairsOf([1, 1], [2, 3]))).toBeDefined();
    expect(unpairedInterval([1, 2], [2, 3])).toBeDefined();
  });

  test("of figures without noise is a point: 1 is no difference, anything else is one", () => {
    const same = pairedInterval(pairsOf([7, 7, 7, 7], [7, 7, 7, 7]));
    expect(same).toEqual({ ratio: 1, low: 1, high: 1, p: 1, larger: "none" });
    const half = unpairedInterval([8, 8], [4, 4]);
    expect(half).toMatchObject({ low: half?.ratio, high: half?.ratio, p: 0, larger: "a" });
    expect(half?.ratio).toBeCloseTo(0.5, 15);
  });

  test("of four pairs and more is not widened by a steady drift", () => {
    const width = (numPairs: number, drift: number): number => {
      const noise = { run: 0.01, drift, wander: 0 };
      const found = pairedInterval(simulatedPairs(randomNumbers(3), numPairs, noise));
      return Math.log(found?.high ?? 0) - Math.log(found?.low ?? 0);
    };
    for (const numPairs of [4, 5, 8])
      expect(width(numPairs, 0.05)).toBeCloseTo(width(numPairs, 0), 9);
    expect(width(3, 0.05)).toBeGreaterThan(2 * width(3, 0));
  });
});

describe("the other order of sides", () => {
  const positive = fc.double({ min: 1e-3, max: 1e6, noNaN: true });
  const swapped = { a: "b", b: "a", none: "none" } as const;

  function expectMirrored(one: RatioInterval | undefined, two: RatioInterval | undefined): void {
    if (one === undefined || two === undefined) throw new Error("no interval");
    expect(two.larger).toBe(swapped[one.larger]);
    expect(two.p).toBe(one.p);
    for (const [end, mirrored] of [
      [one.ratio, two.ratio],
      [one.low, two.high],
      [one.high, two.low],
    ] as const) {
      const product = end * mirrored;
      if (Number.isFinite(product) && product > 0) expect(product).toBeCloseTo(1, 9);
    }
  }

  test("mirrors the interval and swaps the verdict, for pairs in any order", () => {
    const pair = fc.record({ a: positive, b: positive, aFirst: fc.boolean() });
    fc.assert(
      fc.property(fc.array(pair, { minLength: 2, maxLength: 12 }), (pairs) => {
        const back = pairs.map(({ a, b, aFirst }) => ({ a: b, b: a, aFirst: !aFirst }));
        expectMirrored(pairedInterval(pairs), pairedInterval(back));
      }),
      propertyRuns(500),
    );
  });

  test("mirrors the interval and swaps the verdict, for runs that did not take turns", () => {
    const side = fc.array(positive, { minLength: 2, maxLength: 10 });
    fc.assert(
      fc.property(side, side, (a, b) => {
        expectMirrored(unpairedInterval(a, b), unpairedInterval(b, a));
      }),
      propertyRuns(500),
    );
  });
});

describe("simulated sessions", () => {
  const SESSIONS = 1000;

  /** How many of the sessions have an interval that holds the true ratio. */
  function held(
    sessions: number,
    next: (session: number) => { pairs: RunPair[]; ratio: number },
  ): number {
    let count = 0;
    for (let session = 0; session < sessions; session++) {
      const { pairs, ratio } = next(session);
      const found = pairedInterval(pairs);
      if (found !== undefined && found.low <= ratio && found.high >= ratio) count += 1;
    }
    return count / sessions;
  }

  test("A/A: of 1,000 with 5 to 10 pairs and all kinds of noise, 93 to 97 % hold 1", () => {
    const noises = Object.values(NOISES);
    const random = randomNumbers(1);
    const share = held(SESSIONS, (session) => {
      const noise = noises[session % noises.length];
      if (noise === undefined) throw new Error("no noise");
      return { pairs: simulatedPairs(random, 5 + (session % 6), noise), ratio: 1 };
    });
    expect(share).toBeGreaterThanOrEqual(0.93);
    expect(share).toBeLessThanOrEqual(0.97);
  });

  for (const [name, noise] of Object.entries(NOISES)) {
    // A run that is slowed by a fifth now and then makes the interval longer than it need be, never too short.
    const most = noise.disturbed === undefined ? 0.97 : 0.99;
    test(`A/A on a ${name}: 93 to ${most * 100} % hold 1`, () => {
      const random = randomNumbers(2);
      const share = held(SESSIONS, (session) => ({
        pairs: simulatedPairs(random, 5 + (session % 6), noise),
        ratio: 1,
      }));
      expect(share).toBeGreaterThanOrEqual(0.93);
      expect(share).toBeLessThanOrEqual(most);
    });
  }

  test("A/B: a difference of 5 % is held as often, and found nearly always where runs vary by 1 %", () => {
    const random = randomNumbers(3);
    let found = 0;
    const share = held(SESSIONS, () => {
      const pairs = simulatedPairs(random, 6, { run: 0.01, drift: 0.01, wander: 0 }, 1.05);
      if (pairedInterval(pairs)?.larger === "b") found += 1;
      return { pairs, ratio: 1.05 };
    });
    expect(share).toBeGreaterThanOrEqual(0.93);
    expect(share).toBeLessThanOrEqual(0.97);
    expect(found).toBeGreaterThan(0.99 * SESSIONS);
  });
});

describe("the geometric mean", () => {
  test("lies between the values, and is the value where all are equal", () => {
    expect(geometricMean([1, 4, 16])).toBeCloseTo(4, 12);
    fc.assert(
      fc.property(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), fc.nat(20), (value, more) => {
        expect(geometricMean(Array<number>(more + 1).fill(value))).toBe(value);
      }),
      propertyRuns(200),
    );
  });
});
