/** What a step has room for: tokens, samples, seats, time. */

import { describe, expect, test } from "bun:test";
import { makeRequest, promptOf } from "../../support/scheduler-world.ts";
import { type Rows, ScriptedWorld } from "../../support/scripted-world.ts";

const ROOMY = { maxNumSeqs: 16, maxNumBatchedTokens: 1024, blockSize: 16, numBlocks: 1000 };
/** After the pick of 1 drafts of 42 and more follow. */
const COPYING = [1, 42, 12, 3, 9, 8, 1, 42, 12, 3, 9, 8, 5];
const NGRAM = { ...ROOMY, speculative: "ngram", speculativeNgram: [1, 2] } as const;

describe("the token budget", () => {
  test("takes all prompts that fit in one step, in order of arrival", () => {
    for (const sampling of [{}, { promptLogprobs: 5 }]) {
      const world = new ScriptedWorld({ ...ROOMY, maxSamples: 1024 });
      for (let handle = 0; handle < 10; handle++)
        world.add(handle, makeRequest(handle, promptOf(10 + handle, handle, 50), sampling));
      expect([...world.schedule()]).toEqual(Array.from({ length: 10 }, (_, i) => [i, 10 + i]));
      expect(world.scheduler.takeStats()).toMatchObject({ running: 10, waiting: 0 });
    }
  });

  test.each([true, false])(
    "long prompts share it in order, cache %p: what the first leaves the second gets",
    (enablePrefixCaching) => {
      const world = new ScriptedWorld({ ...ROOMY, enablePrefixCaching });
      for (const handle of [1, 2, 3])
        world.add(handle, makeRequest(handle, promptOf(800, handle, 50)));
      expect([...world.schedule()]).toEqual([[1, 800], [2, 224]]); // prettier-ignore
      world.commit();
      expect([...world.schedule()]).toEqual([[1, 1], [2, 576], [3, 447]]); // prettier-ignore
      world.commit();
      expect([...world.schedule()]).toEqual([[1, 1], [2, 1], [3, 353]]); // prettier-ignore
    },
  );

  test("is never left to a short request before a long one that arrived earlier", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxNumSeqs: 3 });
    for (const [handle, length] of [
      [1, 800],
      [2, 800],
      [3, 10],
      [4, 10],
    ] as const)
      // prettier-ignore
      world.add(handle, makeRequest(handle, promptOf(length, handle, 50)));
    expect([...world.schedule()]).toEqual([[1, 800], [2, 224]]); // prettier-ignore
    expect([...world.schedule()]).toEqual([[1, 1], [2, 576], [3, 10]]); // prettier-ignore
    expect(world.schedule().has(4)).toBe(false);
  });

  test("is never overspent, and neither are samples and seats", () => {
    const world = new ScriptedWorld({
      ...NGRAM,
      maxNumSeqs: 5,
      maxNumBatchedTokens: 7,
      maxSamples: 6,
    });
    for (let handle = 0; handle < 9; handle++) {
      const sampling = { maxTokens: 12, promptLogprobs: handle % 3 === 0 ? 0 : -1 };
      world.add(handle, makeRequest(handle, COPYING.slice(0, 4 + handle), sampling));
    }
    for (const rows of world.drain()) {
      expect(rows.size).toBeLessThanOrEqual(5);
      expect(sum(rows)).toBeLessThanOrEqual(7);
    }
    for (const { tokens } of world.received.values()) expect(tokens.length).toBe(12);
  });
});

describe("drafts", () => {
  test("never stand behind a chunk of a prompt", () => {
    const world = new ScriptedWorld({ ...NGRAM, maxNumBatchedTokens: 50 });
    const prompt = Array.from({ length: 80 }, (_, i) => COPYING[i % 6]!);
    world.add(1, makeRequest(1, prompt, { maxTokens: 9 }));
    expect(world.schedule().get(1)).toBe(50);
    world.commit();
    expect(world.schedule().get(1)).toBe(30);
    world.commit({ picks: { 1: [1] } });
    expect(world.schedule().get(1)).toBeGreaterThan(1);
  });

  test("in flight hold up nobody else: a request that cannot draft decodes two steps ahead", () => {
    const world = new ScriptedWorld({ ...NGRAM, speculativeNgram: [2, 2] });
    world.add(1, makeRequest(1, COPYING.slice(0, 12), { maxTokens: 30 }));
    world.add(2, makeRequest(2, [20, 21, 22, 23], { maxTokens: 30 }));
    world.schedule();
    world.commit({ picks: { 1: [1], 2: [24] } });
    const drafted = world.schedule();
    expect(drafted.get(1)).toBeGreaterThan(1);
    expect(drafted.get(2)).toBe(1);
    // No pair that ends in a token that never occurred has occurred.
    expect([...world.schedule()]).toEqual([[2, 1]]); // prettier-ignore
    expect(world.numInFlight).toBe(2);
  });

  test("that were wrong make a request fall silent, and it decodes two steps ahead again", () => {
    const world = new ScriptedWorld(NGRAM);
    world.add(1, makeRequest(1, [1, 1, 1, 1], { maxTokens: 60 }));
    world.schedule();
    let step = 0;
    const isAhead: boolean[] = [];
    for (; step < 12; step++) {
      // A draft of ones follows each 1, and the device never picks a second.
      world.commit({ picks: { 1: [step % 2 === 0 ? 1 : 9] } });
      world.schedule();
      isAhead.push(world.schedule().size > 0);
      if (isAhead.at(-1) === true) break;
    }
    expect(isAhead[0]).toBe(false);
    expect(isAhead.at(-1)).toBe(true);
    expect(world.numInFlight).toBe(2);
  });

  test("take no block that another request would have to give up for them", () => {
    const world = new ScriptedWorld({ ...NGRAM, blockSize: 4, numBlocks: 4, maxModelLen: 16 });
    world.add(1, makeRequest(1, [1, 2, 1, 2, 1, 2], { maxTokens: 9 }));
    world.add(2, makeRequest(2, [5, 6, 7, 8, 9, 10, 11], { maxTokens: 2 }));
    expect(world.schedule().size).toBe(2);
    world.commit({ picks: { 1: [1], 2: [12] } });
    expect(world.scheduler.pool.numFree).toBe(0);
    // A draft reaches into a third block.
    expect([...world.schedule()]).toEqual([[1, 1], [2, 1]]); // prettier-ignore
    expect(world.scheduler.takeStats()).toMatchObject({ preemptions: 0, running: 2 });
    world.drain();
  });

  test("get what the next tokens of all requests leave", () => {
    const world = new ScriptedWorld({ ...NGRAM, maxNumBatchedTokens: 64 });
    for (let handle = 0; handle < 4; handle++)
      world.add(handle, makeRequest(handle, [...COPYING, handle], { maxTokens: 9 }));
    const picks = { 0: [1], 1: [1], 2: [1], 3: [1] };
    world.schedule();
    world.commit({ picks });
    const roomy = world.schedule();
    expect([...roomy.values()].every((count) => count > 1)).toBe(true);

    const tight = new ScriptedWorld({ ...NGRAM, maxNumBatchedTokens: 9 });
    for (let handle = 0; handle < 4; handle++)
      tight.add(handle, makeRequest(handle, [1, 42], { maxTokens: 30 }));
    expect(tight.schedule().size).toBe(4);
    tight.commit({ picks });
    const rows = tight.schedule();
    expect([...rows.keys()]).toEqual([0, 1, 2, 3]);
    expect(sum(rows)).toBeGreaterThan(4);
    expect(sum(rows)).toBeLessThanOrEqual(9);
  });

  test.each([
    ["all right", [42, 12, 3, 9, 8], 4],
    ["right at first", [42, 12, 7], 2],
    ["wrong at once", [7], 0],
  ] as const)("that are %s are counted as such", (_, picks, accepted) => {
    const world = new ScriptedWorld(NGRAM);
    world.add(1, makeRequest(1, COPYING, { maxTokens: 30 }));
    world.schedule();
    world.commit({ picks: { 1: [1] } });
    const drafted = world.schedule().get(1)! - 1;
    const some = picks.slice(0, drafted + 1);
    world.commit({ picks: { 1: some } });
    expect(world.scheduler.takeStats()).toMatchObject({
      drafts: 1,
      draftTokens: drafted,
      acceptedTokens: Math.min(accepted, drafted),
    });
    expect(world.received.get(1)!.tokens).toEqual([1, ...some]);
  });

  test("whose row picked nothing at all end the request by name and count for nothing", () => {
    const world = new ScriptedWorld(NGRAM);
    world.add(1, makeRequest(1, COPYING, { maxTokens: 30 }));
    world.schedule();
    world.commit({ picks: { 1: [1] } });
    world.schedule();
    world.commit({ picks: { 1: [] } });
    expect(world.received.get(1)!.finish).toMatchObject({
      reason: "error",
      error: { message: "step 1 sampled nothing for request request-1" },
    });
    expect(world.scheduler.takeStats()).toMatchObject({ acceptedTokens: 0, draftTokens: 0 });
    expect(world.scheduler.pool.numUsed).toBe(0);
  });
});

describe("free blocks", () => {
  test("leave each running request its next one: a prompt that would take those waits", () => {
    // Two running requests: of 20 free blocks each takes one in this step, and one more is left to each.
    for (const [promptTokens, isLetIn] of [
      [256, true],
      [257, false],
    ] as const) {
      const world = new ScriptedWorld({ ...ROOMY, numBlocks: 40 });
      for (const handle of [1, 2])
        world.add(handle, makeRequest(handle, promptOf(160, handle, 50), { maxTokens: 30 }));
      world.schedule();
      world.commit();
      expect(world.scheduler.pool.numFree).toBe(20);
      world.add(3, makeRequest(3, promptOf(promptTokens, 3, 50), { maxTokens: 1 }));
      expect(world.schedule().has(3)).toBe(isLetIn);
    }
  });
});

describe("the time a step may take", () => {
  /** Prompt tokens beside one decode when a step takes `fixed + perToken · promptTokens` microseconds. */
  function chunks(tpotSlo: number, perToken: number): number[] {
    const world = new ScriptedWorld({ ...ROOMY, maxNumBatchedTokens: 512, tpotSlo });
    world.add(1, makeRequest(1, [1], { maxTokens: 200 }));
    const sizes: number[] = [];
    for (let step = 0; step < 160; step++) {
      if (step === 5) world.add(2, makeRequest(2, promptOf(999, 2, 50), { maxTokens: 1 }));
      const rows = world.schedule();
      const size = rows.get(2) ?? 0;
      if (size > 0) {
        sizes.push(size);
        expect(rows.get(1)).toBe(1);
      }
      world.commit({ micros: 1000 + perToken * size });
      if (world.received.get(2)?.finish !== undefined) break;
    }
    expect(sum(new Map(sizes.entries()))).toBe(999);
    return sizes;
  }

  test("is all the prompts' when there is no objective", () => {
    expect(chunks(0, 100)).toEqual([511, 488]);
  });

  test("bounds chunks beside decodes by what prompt tokens have cost, the dearer the smaller", () => {
    const cheap = chunks(10, 50).slice(2, -1);
    const dear = chunks(10, 200).slice(2, -1);
    expect(cheap.length).toBeGreaterThan(2);
    expect(dear.length).toBeGreaterThan(10);
    for (const size of cheap) expect(1000 + 50 * size).toBeLessThanOrEqual(10_000);
    for (const size of dear) expect(1000 + 200 * size).toBeLessThanOrEqual(10_000);
    expect(Math.min(...cheap)).toBeGreaterThan(2 * Math.max(...dear));
  });

  /**
   * Milliseconds between the tokens of a stream that copies, while a long prompt is computed, on a device that takes a millisecond
   * a step and `perToken` microseconds for each prompt token and draft. Two steps are submitted at a time.
   */
  function gaps(
    speculative: "none" | "ngram",
    tpotSlo: number,
    perToken: number,
  ): { milliseconds: number[]; drafted: number } {
    const options = { speculativeTokens: 8, speculativeNgram: [1, 2], maxModelLen: 5000 };
    const world = new ScriptedWorld({ ...ROOMY, ...options, speculative, tpotSlo });
    const loop = Array.from({ length: 60 }, (_, i) => i % 6);
    world.add(1, makeRequest(1, loop, { maxTokens: 3000 }));
    const steps: Rows[] = [];
    const milliseconds: number[] = [];
    let [picked, clock, last] = [0, 0, 0];
    for (let step = 0; world.received.get(2)?.finish === undefined; step++) {
      if (step === 20) world.add(2, makeRequest(2, promptOf(4000, 2, 50), { maxTokens: 1 }));
      while (steps.length < 2) {
        const rows = world.schedule();
        if (rows.size === 0) break;
        steps.push(rows);
      }
      const rows = steps.shift()!;
      // Its prompt is one row; every other row of it is a token with drafts behind it.
      const numTokens = rows.get(1) ?? 0;
      const numPicks = step === 0 ? 1 : numTokens;
      const picks = Array.from({ length: numPicks }, () => picked++ % 6);
      const micros = 1000 + perToken * ((rows.get(2) ?? 0) + Math.max(0, numTokens - 1));
      clock += micros / 1000;
      world.commit({ picks: { 1: picks }, micros });
      if (numPicks === 0) continue;
      if (step > 20) milliseconds.push(clock - last);
      last = clock;
    }
    return { milliseconds, drafted: world.scheduler.takeStats().draftTokens };
  }

  test("is kept beside a stream whose drafts are in flight, which has a row in every other step", () => {
    for (const speculative of ["none", "ngram"] as const) {
      for (const [tpotSlo, perToken] of [
        [10, 100],
        [20, 300],
      ] as const) {
        const { milliseconds, drafted } = gaps(speculative, tpotSlo, perToken);
        expect(drafted > 0).toBe(speculative === "ngram");
        expect(milliseconds.length).toBeGreaterThan(20);
        expect(Math.max(...milliseconds)).toBeLessThanOrEqual(tpotSlo);
      }
    }
  });

  test("never starves a prompt, however slow the device is", () => {
    const sizes = chunks(1, 5000);
    expect(sizes.length).toBeGreaterThan(30);
    for (const size of sizes.slice(0, -1)) expect(size).toBeGreaterThanOrEqual(8);
  });
});

function sum(rows: Rows): number {
  return [...rows.values()].reduce((a, b) => a + b, 0);
}
