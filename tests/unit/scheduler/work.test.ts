/** What a step costs, counted: it depends on the step and not on the size of the pool or on how many wait. */

import { describe, expect, test } from "bun:test";
import { FULL, makeRequest, promptOf, windowOf } from "../../support/scheduler-world.ts";
import { ScriptedWorld } from "../../support/scripted-world.ts";

const OPTIONS = { maxNumSeqs: 8, maxNumBatchedTokens: 64, blockSize: 4, maxModelLen: 2000 };

function create(numBlocks: number): ScriptedWorld {
  const groups = [FULL, windowOf(9)];
  return new ScriptedWorld({ ...OPTIONS, numBlocks, groups }, { checks: false });
}

/** Turns of the pool's loops in each call of a run with cache hits, windows, aborts and waiting requests. */
function turns(world: ScriptedWorld): number[] {
  const { pool } = world.scheduler;
  const counts: number[] = [];
  const counted = (call: () => unknown): void => {
    const before = pool.operations;
    call();
    counts.push(pool.operations - before);
  };
  for (let handle = 0; handle < 40; handle++) {
    const prompt = [...promptOf(40, handle % 5, 50), handle];
    world.add(handle, makeRequest(handle, prompt, { maxTokens: 5 + (handle % 30) }));
  }
  for (let step = 0; world.scheduler.numUnfinished > 0; step++) {
    let numRows = 0;
    counted(() => (numRows = world.schedule().size));
    if (step % 10 === 9) counted(() => world.abort(step));
    if (numRows === 0 || world.numInFlight > 1) counted(() => world.commit());
  }
  while (world.numInFlight > 0) counted(() => world.commit());
  return counts;
}

describe("the work of schedule and commit", () => {
  test("is no more in a pool a hundred times as large, call by call but for collisions of hashes", () => {
    const small = turns(create(1000));
    const large = turns(create(100_000));
    expect(large.length).toBe(small.length);
    const total = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);
    expect(total(small)).toBeGreaterThan(1000);
    expect(total(large)).toBeLessThanOrEqual(total(small));
    // A smaller map has more keys in a bucket: that is all the difference there may be.
    for (const [call, count] of large.entries())
      expect(count).toBeLessThanOrEqual(small[call]! + 2);
  });

  test("of a decode is bounded by its rows, in a full cache too", () => {
    const world = create(5000);
    const { pool } = world.scheduler;
    for (let handle = 0; handle < 100; handle++)
      world.add(handle, makeRequest(handle, promptOf(150, handle, 50), { maxTokens: 1 }));
    world.drain();
    expect(pool.numHashed).toBeGreaterThan(3000);
    for (let handle = 100; handle < 108; handle++)
      world.add(handle, makeRequest(handle, promptOf(8, handle, 50), { maxTokens: 60 }));
    // Nobody else gets in: they cost nothing but their place in the queue.
    for (let handle = 200; handle < 400; handle++)
      world.add(handle, makeRequest(handle, promptOf(150, handle, 50), { maxTokens: 1 }));
    world.schedule();
    world.commit();
    for (let step = 0; step < 50; step++) {
      const before = pool.operations;
      expect(world.schedule().size).toBe(8);
      world.commit();
      // For each row and group: a block handed out, given a hash, and one freed behind the window.
      expect(pool.operations - before).toBeLessThanOrEqual(8 * 2 * 6);
    }
  });

  test("does not grow with the prompt of a request that waits for room", () => {
    const most = [400, 8000].map((promptTokens) => {
      const world = new ScriptedWorld(
        { ...OPTIONS, maxNumBatchedTokens: 4096, numBlocks: 2400, maxModelLen: 10_000 },
        { checks: false },
      );
      const { pool } = world.scheduler;
      // Its whole prompt is in the cache, and in use by none.
      const prompt = promptOf(promptTokens, 3, 50);
      world.add(0, makeRequest(0, prompt, { maxTokens: 1 }));
      world.drain();
      world.add(1, makeRequest(1, promptOf(9200, 1, 50), { maxTokens: 80 }));
      while (world.scheduler.takeStats().generationTokens < 2) {
        world.schedule();
        world.commit();
      }
      world.add(2, makeRequest(2, [...prompt, ...prompt.slice(0, 1000)], { maxTokens: 1 }));
      world.schedule();
      world.commit();
      const counts: number[] = [];
      while (world.received.get(1)!.finish === undefined) {
        const before = pool.operations;
        expect(world.schedule().has(2)).toBe(false);
        world.commit();
        if (world.received.get(1)!.finish === undefined) counts.push(pool.operations - before);
      }
      expect(counts.length).toBeGreaterThan(70);
      expect(world.schedule().has(2)).toBe(true);
      return Math.max(...counts);
    });
    expect(most[0]).toBeLessThan(12);
    expect(most[1]).toBeLessThan(12);
  });
});
