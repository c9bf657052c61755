/** An engine that runs for weeks takes more steps than 31 bits count. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../../connectors/cpu-offload.ts";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { makeRequest, promptOf, World } from "../../support/scheduler-world.ts";

const ROOMY = { maxNumSeqs: 4, maxNumBatchedTokens: 16, blockSize: 4, numBlocks: 60 };

describe.each([
  [31, 2 ** 31],
  [32, 2 ** 32],
  [33, 2 ** 33],
])("step ids of more than %p bits", (_, limit) => {
  test("mean the same on the native side, and in the cache", async () => {
    const world = await World.create({ ...ROOMY, firstStepId: limit - 4 });
    for (let round = 0; round < 3; round++) {
      for (const salt of [1, 2, 1]) {
        const handle = world.received.size;
        world.add(handle, makeRequest(handle, [...promptOf(30, salt, 50), handle]));
      }
      await world.drain();
    }
    const handles = [...world.received.keys()];
    for (const handle of handles) world.expectAsAlone(handle);
    const cached = handles.map((handle) => world.received.get(handle)!.finish!.usage.cachedTokens);
    expect(cached).toEqual([0, 0, 28, 28, 28, 28, 28, 28, 28]);
    expect(world.commits).toBeGreaterThan(20);
    await world.runner.stop();
  });

  test("are withdrawn by a failed step from that one on", async () => {
    for (let before = 0; before < 4; before++) {
      const world = await World.create({ ...ROOMY, firstStepId: limit - before });
      const prompt = promptOf(40, 1, 50);
      world.add(1, makeRequest(1, prompt, { maxTokens: 1 }));
      world.submit(1);
      await world.commit();
      world.runner.failNextStep("chance");
      world.submit(2);
      await world.commit();
      expect(world.received.get(1)!.finish?.reason).toBe("error");
      await world.drain();
      // The blocks of the step before it stay.
      world.add(2, makeRequest(2, prompt, { maxTokens: 1 }));
      await world.drain();
      world.expectAsAlone(2);
      expect(world.received.get(2)!.finish!.usage.cachedTokens).toBe(16);
      await world.runner.stop();
    }
  });
});

test("transfers wait for steps across the limit", async () => {
  const connector = new CpuOffload({ mode: "eager" });
  const world = await World.create({
    ...ROOMY,
    numBlocks: 12,
    firstStepId: 2 ** 31 - 6,
    connectors: { list: [{ name: "cpu-offload", connector }], hostPages: 64 },
  });
  for (const [handle, salt] of [1, 2, 3, 1, 2, 3].entries()) {
    world.add(handle, makeRequest(handle, promptOf(24, salt, 50), { maxTokens: 4 }));
    await world.drain();
    world.expectAsAlone(handle);
  }
  expect(world.desk!.numLoads).toBeGreaterThan(1);
  expect(world.commits).toBeGreaterThan(10);
  await world.stop();
});

test("a block remembers any of them", () => {
  const pool = new BlockPool(2);
  const ids = new Int32Array(1);
  for (const step of [-1, 0, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 45 + 3]) {
    expect(pool.allocate(1, ids, 0)).toBe(true);
    pool.insert(1, Int32Array.of(step % 7, 2, 3, 4, 5, 6, 7, 8), 0, 0, step);
    expect(pool.publishedStep(1)).toBe(step);
    pool.free(ids, 1);
  }
});
