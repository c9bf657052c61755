import { expect, test } from "bun:test";
import { makeRequest, promptOf, World } from "../../support/scheduler-world.ts";

test("a request that was preempted takes no step past max_tokens, like one that was not", async () => {
  const promptTokens = 8;
  const maxTokens = 13;
  const world = await World.create({
    maxNumSeqs: 4,
    maxNumBatchedTokens: 32,
    blockSize: 4,
    numBlocks: 8,
    // The last token is picked and never computed: no position from here on exists.
    maxModelLen: promptTokens + maxTokens,
  });
  for (const handle of [1, 2, 3])
    world.add(handle, makeRequest(handle, promptOf(promptTokens, handle, 50), { maxTokens }));
  await world.drain();
  expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
  const ends = world.runner.seen.flatMap(({ starts, counts }) =>
    starts.map((start, row) => start + counts[row]!),
  );
  expect(Math.max(...ends)).toBe(promptTokens + maxTokens - 1);
  for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  await world.runner.stop();
});
