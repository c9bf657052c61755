/** Scheduling order under the priority policy: lower numbers first, then arrival. */

import { describe, expect, test } from "bun:test";
import { makeRequest, promptOf, World } from "../../support/scheduler-world.ts";

const OPTIONS = { maxNumSeqs: 1, maxNumBatchedTokens: 32, blockSize: 4, numBlocks: 40 } as const;
const PRIORITY = { ...OPTIONS, schedulingPolicy: "priority" } as const;

async function firstTokens(
  world: World,
  requests: readonly (readonly [handle: number, priority: number])[],
): Promise<number[]> {
  for (const [handle, priority] of requests)
    world.add(handle, makeRequest(handle, promptOf(5, handle, 50), { maxTokens: 2 }, { priority }));
  await world.end();
  for (const [handle] of requests) world.expectAsAlone(handle);
  return [...world.received]
    .toSorted(([, a], [, b]) => a.firstTokenAt - b.firstTokenAt)
    .map(([handle]) => handle);
}

describe("priority", () => {
  test("lower numbers go first", async () => {
    const world = await World.create(PRIORITY);
    expect(await firstTokens(world, [[1, 2], [2, 0], [3, 1]])).toEqual([2, 3, 1]); // prettier-ignore
  });

  test("equal numbers go in order of arrival", async () => {
    const world = await World.create(PRIORITY);
    expect(await firstTokens(world, [[1, 5], [2, 5], [3, -1], [4, 5]])).toEqual([3, 1, 2, 4]); // prettier-ignore
  });

  test("first come, first served knows no priority", async () => {
    const world = await World.create(OPTIONS);
    expect(await firstTokens(world, [[1, 2], [2, 0], [3, 1]])).toEqual([1, 2, 3]); // prettier-ignore
  });

  test("a running request is not put out for a waiting one of higher priority", async () => {
    const world = await World.create(PRIORITY);
    world.add(1, makeRequest(1, promptOf(5, 1, 50), {}, { priority: 9 }));
    world.submit();
    world.add(2, makeRequest(2, promptOf(5, 2, 50), {}, { priority: 0 }));
    await world.end();
    expect(world.scheduler.takeStats().preemptions).toBe(0);
    expect(world.received.get(1)!.firstTokenAt).toBeLessThan(world.received.get(2)!.firstTokenAt);
  });

  test("I23: the victim is the lowest priority, then the latest arrival; none is preempted for a lower one", async () => {
    const world = await World.create({ ...PRIORITY, maxNumSeqs: 3, numBlocks: 7 });
    world.add(1, makeRequest(1, promptOf(7, 1, 50), { maxTokens: 12 }, { priority: 5 }));
    world.add(2, makeRequest(2, promptOf(7, 2, 50), { maxTokens: 12 }, { priority: 1 }));
    world.add(3, makeRequest(3, promptOf(7, 3, 50), { maxTokens: 12 }, { priority: 1 }));
    await world.drain();
    expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
    expect(world.finishOrder).toEqual([2, 3, 1]);
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("I23: preempting an earlier or a later entry skips nobody", async () => {
    const world = await World.create({ ...PRIORITY, maxNumSeqs: 4, numBlocks: 8 });
    for (const [handle, priority] of [
      [1, 3],
      [2, 2],
      [3, 1],
      [4, 0],
    ] as const)
      // prettier-ignore
      world.add(handle, makeRequest(handle, promptOf(7, handle, 50), { maxTokens: 10 }, { priority }));
    await world.drain();
    expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
    expect(world.finishOrder).toEqual([4, 3, 2, 1]);
    for (const handle of [1, 2, 3, 4]) world.expectAsAlone(handle);
    await world.runner.stop();
  });
});
