/** Who gives way and who comes first under the priority policy, row by row, and in random loads. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";
import { makeRequest, promptOf } from "../../support/scheduler-world.ts";
import { type Rows, ScriptedWorld } from "../../support/scripted-world.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const OPTIONS = {
  maxNumSeqs: 8,
  maxNumBatchedTokens: 512,
  blockSize: 16,
  numBlocks: 100,
  schedulingPolicy: "priority",
} as const;

function add(
  world: ScriptedWorld,
  handle: number,
  priority: number,
  length: number,
  maxTokens = 40,
): void {
  world.add(handle, makeRequest(handle, promptOf(length, handle, 50), { maxTokens }, { priority }));
}

/** Handles in the order in which they first had a row. */
function serviceOrder(steps: readonly Rows[]): number[] {
  return [...new Set(steps.flatMap((rows) => [...rows.keys()]))];
}

describe("the waiting queue", () => {
  test("is served by priority, whatever the order of arrival, equal ones by arrival", () => {
    const world = new ScriptedWorld({ ...OPTIONS, maxNumSeqs: 1 });
    const priorities = [5, 1, 8, 3, 7, 2, 9, 4, 6, 0, 3, 5, 0];
    for (const [handle, priority] of priorities.entries()) add(world, handle, priority, 10, 2);
    const expected = [...priorities.keys()].toSorted(
      (a, b) => priorities[a]! - priorities[b]! || a - b,
    );
    expect(serviceOrder(world.drain())).toEqual(expected);
  });

  test("gives the seats there are to the first ones, and the next seat to the next", () => {
    const world = new ScriptedWorld({ ...OPTIONS, maxNumSeqs: 2 });
    for (const [handle, priority] of [
      [1, 5],
      [2, 1],
      [3, 3],
      [4, 0],
    ] as const)
      // prettier-ignore
      add(world, handle, priority, 10, 2);
    expect([...world.schedule().keys()]).toEqual([4, 2]);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 2, waiting: 2 });
    expect(serviceOrder(world.drain())).toEqual([4, 2, 3, 1]);
  });

  test("takes one that was preempted by its priority, before later ones of the same", () => {
    const world = new ScriptedWorld({ ...OPTIONS, numBlocks: 4 });
    add(world, 1, 1, 16, 30);
    add(world, 2, 1, 16, 30);
    world.schedule();
    world.commit();
    world.schedule();
    world.commit();
    add(world, 3, 1, 16, 30);
    add(world, 4, 0, 16, 30);
    const steps = world.drain(1);
    const preempted = steps.findIndex((rows) => !rows.has(2));
    expect(serviceOrder(steps.slice(preempted))).toEqual([1, 4, 2, 3]);
  });
});

describe("I23: the victim", () => {
  test("is the lowest priority, then the latest arrival of the lowest", () => {
    for (const [priorities, victim] of [
      [[5, 1, 1], 1],
      [[1, 1, 5], 3],
      [[2, 2, 2], 3],
      [[0, 3, 3], 3],
    ] as const) {
      // Three prompts of one full block each in three blocks and one more.
      const world = new ScriptedWorld({ ...OPTIONS, numBlocks: 5 });
      for (const [i, priority] of priorities.entries()) add(world, i + 1, priority, 16);
      expect(world.schedule().size).toBe(3);
      world.commit();
      // Two get a block, the last in order finds none and waits; a block later it gives way.
      const waiting = world.schedule();
      expect(waiting.has(victim)).toBe(false);
      expect(waiting.size).toBe(2);
      expect(world.scheduler.takeStats().preemptions).toBe(0);
      let rows: Rows = waiting;
      for (let step = 0; step < 16; step++) {
        world.commit();
        rows = world.schedule();
      }
      expect(rows.size).toBeGreaterThan(0);
      expect(rows.has(victim)).toBe(false);
      expect(world.scheduler.takeStats()).toMatchObject({ preemptions: 1, running: 2, waiting: 1 });
    }
  });

  test("leaves nobody out of the step in which it gives way", () => {
    // A holds 13 blocks, B and C one each; B's next token needs a second one.
    const world = new ScriptedWorld({ ...OPTIONS, numBlocks: 15 });
    for (const [handle, priority, length] of [
      [1, 9, 200],
      [2, 0, 15],
      [3, 1, 1],
    ] as const) {
      // prettier-ignore
      add(world, handle, priority, length);
      expect(world.schedule().get(handle)).toBe(length);
      world.commit();
    }
    expect([...world.schedule().keys()]).toEqual([2, 3]);
    expect(world.scheduler.takeStats().preemptions).toBe(1);
  });

  test("I24: gives its blocks to those who run: nobody is let in by the step in which it gives way", () => {
    const world = new ScriptedWorld({ ...OPTIONS, numBlocks: 15 });
    for (const [handle, priority, length] of [
      [1, 9, 200],
      [2, 0, 15],
      [3, 1, 1],
    ] as const) {
      // prettier-ignore
      add(world, handle, priority, length);
      world.schedule();
      world.commit();
    }
    add(world, 4, 5, 1);
    expect([...world.schedule().keys()]).toEqual([2, 3]);
    expect(world.scheduler.pool.numFree).toBe(12);
    expect([...world.schedule().keys()]).toEqual([2, 3, 4]);
  });

  test("is nobody while there is room", () => {
    const world = new ScriptedWorld(OPTIONS);
    for (const handle of [1, 2, 3]) add(world, handle, 5, 30);
    world.schedule();
    for (const handle of [4, 5]) add(world, handle, 0, 30);
    expect(world.schedule().size).toBe(5);
    world.drain();
    expect(world.scheduler.takeStats().preemptions).toBe(0);
  });

  test("comes back when there is room, with prompt and output in one chunk, and loses nothing", () => {
    const world = new ScriptedWorld({ ...OPTIONS, numBlocks: 6, enablePrefixCaching: false });
    add(world, 1, 1, 30, 20);
    world.schedule();
    world.commit();
    add(world, 2, 0, 50, 20);
    const steps = world.drain(1);
    const gone = steps.findIndex((rows) => rows.has(2) && !rows.has(1));
    const back = steps.findIndex((rows, step) => step > gone && rows.has(1));
    expect(gone).toBeGreaterThan(0);
    // Tokens it had: the prompt, one of the first step, and one of each step until it gave way.
    expect(steps[back]!.get(1)).toBe(30 + 1 + gone);
    for (const handle of [1, 2]) expect(world.received.get(handle)!.tokens.length).toBe(20);
  });
});

test("I21: a request that runs goes on, though one that goes before it waits for blocks", () => {
  const world = new ScriptedWorld({ ...OPTIONS, numBlocks: 6 });
  add(world, 1, 5, 40, 40);
  world.schedule();
  world.commit();
  add(world, 2, 0, 90, 2);
  for (let step = 0; step < 38; step++) {
    expect([...world.schedule()]).toEqual([[1, 1]]);
    world.commit();
  }
  expect(serviceOrder(world.drain())).toEqual([1, 2]);
});

interface Load {
  readonly numBlocks: number;
  readonly maxNumSeqs: number;
  readonly maxPrompt: number;
  readonly maxOutput: number;
  readonly drafts: number;
  readonly cache: boolean;
  readonly ahead: number;
  readonly arrivals: readonly {
    readonly priority: number;
    readonly prompt: number;
    readonly output: number;
    readonly token: number;
  }[];
}

const arrival = (maxPrompt: number, maxOutput: number): fc.Arbitrary<Load["arrivals"][number]> =>
  fc.record({
    priority: fc.integer({ min: -3, max: 3 }),
    prompt: fc.integer({ min: 1, max: maxPrompt }),
    output: fc.integer({ min: 1, max: maxOutput }),
    token: fc.nat(49),
  });

/** Two profiles: long prompts in a large pool, long outputs in one that holds few of them. */
const load: fc.Arbitrary<Load> = fc
  .constantFrom(
    { maxPrompt: 300, maxOutput: 30, maxNumSeqs: 16, numBlocks: 600 },
    { maxPrompt: 30, maxOutput: 120, maxNumSeqs: 24, numBlocks: 40 },
  )
  .chain((profile) =>
    fc.record({
      ...(Object.fromEntries(
        Object.entries(profile).map(([name, value]) => [name, fc.constant(value)]),
      ) as Record<keyof typeof profile, fc.Arbitrary<number>>),
      drafts: fc.constantFrom(0, 1, 5),
      cache: fc.boolean(),
      ahead: fc.constantFrom(1, 2),
      arrivals: fc.array(arrival(profile.maxPrompt, profile.maxOutput), {
        minLength: 10,
        maxLength: 40,
        size: "max",
      }),
    }),
  );

test("I23: in random loads steps keep their limits, and whoever is left out goes after all who decode", () => {
  let preemptions = 0;
  fc.assert(
    fc.property(load, ({ arrivals, drafts, cache, ahead, ...limits }) => {
      const world = new ScriptedWorld({
        ...OPTIONS,
        ...limits,
        maxNumBatchedTokens: 64,
        maxSamples: 64,
        enablePrefixCaching: cache,
        ...(drafts === 0 ? {} : { speculative: "ngram", speculativeTokens: drafts }),
      });
      let before: Rows = new Map();
      let next = 0;
      for (;;) {
        if (world.scheduler.takeStats().waiting === 0 && next < arrivals.length) {
          const { priority, prompt, output, token } = arrivals[next]!;
          const tokens = Array.from({ length: prompt }, (_, i) => (token + (i % 7)) % 50);
          world.add(next, makeRequest(next, tokens, { maxTokens: output }, { priority }));
          next++;
        }
        const rows = world.schedule();
        expect(rows.size).toBeLessThanOrEqual(limits.maxNumSeqs);
        expect([...rows.values()].reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(64);
        if (ahead === 1) expectLeftOutLast(world, before, rows);
        before = rows;
        while (world.numInFlight >= (rows.size === 0 ? 1 : ahead)) world.commit();
        if (rows.size === 0 && next === arrivals.length && world.scheduler.numUnfinished === 0)
          break;
      }
      preemptions += world.scheduler.takeStats().preemptions;
      for (const { request, tokens, finish } of world.received.values()) {
        expect(finish?.reason).toBe("length");
        expect(tokens.length).toBe(request.sampling.maxTokens);
      }
      expect(world.scheduler.pool.numUsed).toBe(0);
    }),
    propertyRuns(60),
  );
  expect(preemptions).toBeGreaterThan(100);
});

/** Of those that decode and were in the step before: nobody is left out before one who is not. */
function expectLeftOutLast(world: ScriptedWorld, before: Rows, rows: Rows): void {
  const decoding = [...before.keys()].filter((handle) => {
    const { tokens, finish } = world.received.get(handle)!;
    return tokens.length > 1 && finish === undefined;
  });
  const priorityOf = (handle: number): number => world.received.get(handle)!.request.priority;
  const inOrder = decoding.toSorted((a, b) => priorityOf(a) - priorityOf(b) || a - b);
  const stays = inOrder.map((handle) => rows.has(handle));
  expect(stays.lastIndexOf(true)).toBeLessThan(
    stays.includes(false) ? stays.indexOf(false) : Infinity,
  );
}
