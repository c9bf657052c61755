/** A reset of the prefix cache at any moment: it never refuses, and nobody's answer changes. */

import { describe, expect, test } from "bun:test";
import { makeRequest, promptOf, World } from "../../support/scheduler-world.ts";
import { ScriptedWorld } from "../../support/scripted-world.ts";

const ROOMY = { maxNumSeqs: 10, maxNumBatchedTokens: 64, blockSize: 4, numBlocks: 200 };

function cachedOf(world: World, handle: number): number | undefined {
  return world.received.get(handle)!.finish?.usage.cachedTokens;
}

describe("reset", () => {
  test("with requests running takes nobody's place, seat or blocks", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxNumBatchedTokens: 200 });
    for (let handle = 0; handle < 10; handle++)
      world.add(handle, makeRequest(handle, promptOf(10, handle, 50)));
    world.schedule();
    const used = world.scheduler.pool.numUsed;
    expect(world.scheduler.pool.numHashed).toBe(20);
    world.scheduler.resetPrefixCache();
    world.scheduler.checkIntegrity();
    expect(world.scheduler.pool.numHashed).toBe(0);
    expect(world.scheduler.pool.numUsed).toBe(used);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 10, waiting: 0, preemptions: 0 });
    expect([...world.schedule()]).toEqual(Array.from({ length: 10 }, (_, i) => [i, 1]));
  });

  test("with steps in flight: what they fill is not found afterwards, and no token is lost or given twice", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50), { maxTokens: 10 }));
    world.submit(2);
    world.scheduler.resetPrefixCache();
    world.add(2, makeRequest(2, promptOf(16, 1, 50), { maxTokens: 10 }));
    await world.commit();
    await world.commit();
    await world.drain();
    expect(cachedOf(world, 2)).toBe(0);
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("a request that waits to share what a running one computes goes on", async () => {
    const world = await World.create({ ...ROOMY, maxPrefillTokens: 8 });
    world.add(1, makeRequest(1, promptOf(40, 1, 50), { maxTokens: 4 }));
    world.submit();
    world.add(2, makeRequest(2, promptOf(40, 1, 50), { maxTokens: 4 }));
    await world.commit();
    world.submit();
    world.scheduler.resetPrefixCache();
    await world.end();
    expect(cachedOf(world, 2)).toBe(0);
    for (const handle of [1, 2]) world.expectAsAlone(handle);
  });

  test("I25: at each moment of a request, with two steps in flight, changes no answer and leaves nothing", async () => {
    for (let moment = 0; moment < 16; moment++) {
      const world = await World.create({ ...ROOMY, maxPrefillTokens: 8, numBlocks: 14 });
      for (const handle of [1, 2, 3])
        world.add(handle, makeRequest(handle, promptOf(20, handle % 2, 50), { maxTokens: 9 }));
      for (let step = 0; step < moment; step++) {
        world.submit();
        await world.commit();
      }
      world.submit();
      world.scheduler.resetPrefixCache();
      world.scheduler.checkIntegrity();
      await world.end();
      for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
    }
  });

  test("again and again under pressure, with steps in flight, changes no answer", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 4, numBlocks: 9 });
    for (let handle = 0; handle < 6; handle++)
      world.add(handle, makeRequest(handle, promptOf(9, handle % 2, 50), { maxTokens: 12 }));
    for (let step = 0; world.submit(3) || world.runner.queued > 0; step++) {
      if (step % 3 === 1) world.scheduler.resetPrefixCache();
      await world.commit();
    }
    expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
    await world.end();
    for (let handle = 0; handle < 6; handle++) world.expectAsAlone(handle);
  });

  test("lets no newcomer into a seat that is taken, whatever its priority", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxNumSeqs: 1, schedulingPolicy: "priority" });
    world.add(1, makeRequest(1, promptOf(4, 1, 50), { maxTokens: 4 }, { priority: 10 }));
    world.schedule();
    world.commit();
    world.scheduler.resetPrefixCache();
    world.add(2, makeRequest(2, promptOf(4, 2, 50), { maxTokens: 4 }, { priority: 0 }));
    expect([...world.schedule().keys()]).toEqual([1]);
    for (const rows of world.drain()) expect(rows.size).toBe(1);
  });

  test("of an idle cache drops all", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50)));
    await world.drain();
    world.scheduler.resetPrefixCache();
    expect(world.scheduler.pool.numHashed).toBe(0);
    world.add(2, makeRequest(2, promptOf(16, 1, 50)));
    await world.end();
    expect(cachedOf(world, 2)).toBe(0);
  });
});
