/** Blocks that look free for the taking and are not: promised to a prompt that has begun, or seen by a submitted step. */

import { expect, test } from "bun:test";
import { makeRequest, promptOf, windowOf, World } from "../../support/scheduler-world.ts";

const ROOMY = { maxNumSeqs: 4, maxNumBatchedTokens: 8, blockSize: 4 };

test("I22: a prompt that goes on behind a cached block keeps what it still needs, though the step has room for others", async () => {
  const world = await World.create({ ...ROOMY, numBlocks: 10 });
  const prompt = promptOf(32, 1, 50);
  world.add(1, makeRequest(1, prompt, { maxTokens: 1 }));
  await world.drain();
  // Of its 8 blocks only the second stays in the cache, so that the next chunk ends there.
  const { pool } = world.scheduler;
  const kept = pool.freeIds().filter((id) => pool.isHashed(id) && id !== 2);
  for (const id of kept) pool.unhash(id);
  world.add(2, makeRequest(2, prompt, { maxTokens: 1 }));
  world.add(3, makeRequest(3, promptOf(20, 2, 50), { maxTokens: 1 }));
  world.submit(1);
  expect(world.runner.seen.at(-1)).toMatchObject({ starts: [0], counts: [4] });
  expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 1 });
  await world.drain();
  expect(world.scheduler.takeStats().preemptions).toBe(0);
  for (const handle of [2, 3]) world.expectAsAlone(handle);
  await world.runner.stop();
});

test("I26: a block that only the submitted position has left behind stays until that is committed", async () => {
  const world = await World.create({
    ...ROOMY,
    maxNumBatchedTokens: 20,
    groups: [windowOf(4)],
    numBlocks: 20,
  });
  // Position 18 sees 15 to 18, position 19 sees the last two blocks' 16 to 19.
  world.add(1, makeRequest(1, promptOf(18, 1, 50), { maxTokens: 6 }));
  world.submit();
  expect(world.runner.numPending).toBe(2);
  await world.commit();
  expect(world.scheduler.pool.numUsed).toBe(2);
  await world.commit();
  expect(world.scheduler.pool.numUsed).toBe(1);
  await world.end();
  world.expectAsAlone(1);
});
