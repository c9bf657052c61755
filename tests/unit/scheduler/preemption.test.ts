/** Running out of blocks: who gives way, what is kept, how it goes on. */

import { describe, expect, test } from "bun:test";
import { FULL, makeRequest, promptOf, windowOf, World } from "../../support/scheduler-world.ts";

const TIGHT = { maxNumSeqs: 4, maxNumBatchedTokens: 32, blockSize: 4, vocabSize: 50 };

/** Handles in the order in which their first token came. */
function order(world: World): number[] {
  return [...world.received]
    .toSorted(([, a], [, b]) => a.firstTokenAt - b.firstTokenAt)
    .map(([handle]) => handle);
}

describe("preemption", () => {
  test("the last request in order gives way and is computed again, with the same tokens", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 6 });
    world.add(1, makeRequest(1, promptOf(8, 1, 50), { maxTokens: 12 }));
    world.add(2, makeRequest(2, promptOf(8, 2, 50), { maxTokens: 12 }));
    await world.drain();
    expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
    expect(world.received.get(2)!.firstTokenAt).toBeGreaterThanOrEqual(
      world.received.get(1)!.firstTokenAt,
    );
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("a preempted request still gets the tokens of the steps it was in", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 4 });
    world.add(1, makeRequest(1, promptOf(7, 1, 50), { maxTokens: 8 }));
    world.add(2, makeRequest(2, promptOf(7, 2, 50), { maxTokens: 8 }));
    // Both have two blocks, full after their first decode: the first request then takes the second one's.
    world.submit();
    await world.commit();
    world.submit();
    expect(world.scheduler.takeStats()).toMatchObject({ preemptions: 1, running: 1, waiting: 1 });
    const before = world.received.get(2)!.tokens.length;
    await world.commit();
    expect(world.received.get(2)!.tokens.length).toBe(before + 1);
    await world.drain();
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("a resumed request finds its own blocks in the cache", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 8 });
    world.add(1, makeRequest(1, promptOf(8, 1, 50), { maxTokens: 14 }));
    world.add(2, makeRequest(2, promptOf(16, 2, 50), { maxTokens: 6 }));
    await world.drain();
    expect(world.scheduler.takeStats().preemptions).toBe(1);
    const resumed = world.runner.seen.filter(({ counts, starts }) =>
      starts.some((start, row) => start > 0 && start < 20 && counts[row]! > 1),
    );
    expect(resumed.length).toBeGreaterThan(0);
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("the smallest pool that holds one request serves many, one after the other", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 5 });
    for (let handle = 1; handle <= 5; handle++)
      world.add(handle, makeRequest(handle, promptOf(12, handle, 50), { maxTokens: 9 }));
    await world.drain();
    expect(order(world)).toEqual([1, 2, 3, 4, 5]);
    for (let handle = 1; handle <= 5; handle++) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("the smallest pool that holds one request with a window serves it", async () => {
    const groups = [windowOf(6), FULL];
    const world = await World.create({ ...TIGHT, maxNumBatchedTokens: 4, groups, numBlocks: 16 });
    world.add(1, makeRequest(1, promptOf(30, 1, 50), { maxTokens: 12 }));
    await world.end();
    world.expectAsAlone(1);
  });

  test("I21: a head that cannot allocate never blocks a request behind it that holds blocks", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 8 });
    world.add(1, makeRequest(1, promptOf(8, 1, 50), { maxTokens: 16 }));
    world.add(2, makeRequest(2, promptOf(28, 2, 50), { maxTokens: 2 }));
    world.submit();
    const before = world.received.get(1)!.tokens.length;
    for (let step = 0; step < 5; step++) {
      await world.commit();
      world.submit();
    }
    expect(world.received.get(1)!.tokens.length).toBe(before + 5);
    expect(world.received.get(2)!.tokens.length).toBe(0);
    await world.end();
  });

  test("I22: a prompt is let in only if it fits beside what begun prompts still need", async () => {
    // The wedge of vLLM's reservation test: A takes 8 blocks, B 5, the pool has 10.
    const world = await World.create({ ...TIGHT, maxNumBatchedTokens: 8, numBlocks: 10 });
    world.add(1, makeRequest(1, promptOf(32, 1, 50), { maxTokens: 1 }));
    world.add(2, makeRequest(2, promptOf(20, 2, 50), { maxTokens: 1 }));
    world.submit();
    await world.commit();
    world.submit();
    expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 1, preemptions: 0 });
    await world.drain();
    expect(world.scheduler.takeStats().preemptions).toBe(0);
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("I22: a prompt whose middle is cached keeps what its gaps need, though its chunks leave budget", async () => {
    const world = await World.create({ ...TIGHT, maxNumBatchedTokens: 64, numBlocks: 10 });
    world.add(1, makeRequest(1, promptOf(32, 1, 50), { maxTokens: 1 }));
    await world.drain();
    // As if the first and the fifth block had been evicted alone.
    for (const id of [1, 5]) expect(world.scheduler.pool.unhash(id)).toBe(true);
    world.add(2, makeRequest(2, [...promptOf(32, 1, 50), ...promptOf(8, 2, 50)], { maxTokens: 1 }));
    world.add(3, makeRequest(3, promptOf(8, 3, 50), { maxTokens: 1 }));
    world.submit(1);
    // Request 2 computes its first block and goes on behind the next three; the last three free blocks are promised to it.
    expect(world.runner.seen.at(-1)!.counts).toEqual([4]);
    expect(world.scheduler.pool.numFree).toBe(3);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 1 });
    await world.drain();
    expect(world.scheduler.takeStats().preemptions).toBe(0);
    for (const handle of [2, 3]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("I24: blocks that become free go to those who run before anybody is let in", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 6 });
    for (const handle of [1, 2, 3])
      world.add(handle, makeRequest(handle, promptOf(8, handle, 50), { maxTokens: 9 }));
    await world.drain();
    // With room for two and a half, the third never gets in while one of the others waits for a block.
    expect(order(world)).toEqual([1, 2, 3]);
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test.each(["waiting", "prefilling", "decoding", "leaving"] as const)(
    "I25: abort of a %s request leaves nothing behind",
    async (when) => {
      const world = await World.create({ ...TIGHT, maxNumBatchedTokens: 8, numBlocks: 6 });
      world.add(1, makeRequest(1, promptOf(8, 1, 50), { maxTokens: 12 }));
      if (when !== "waiting") world.submit();
      if (when === "decoding" || when === "leaving") await world.commit();
      world.add(2, makeRequest(2, promptOf(8, 2, 50), { maxTokens: 12 }));
      if (when === "leaving") {
        while (world.scheduler.takeStats().preemptions === 0) {
          world.submit();
          await world.commit();
        }
        world.abort(2);
      } else {
        world.abort(1);
      }
      await world.drain();
      world.expectAsAlone(when === "leaving" ? 1 : 2);
      await world.runner.stop();
    },
  );

  test("I26: blocks of a step in flight are not handed out before it has committed", async () => {
    const world = await World.create({ ...TIGHT, numBlocks: 4 });
    world.add(1, makeRequest(1, promptOf(15, 1, 50), { maxTokens: 2 }));
    world.submit();
    expect(world.runner.numPending).toBe(2);
    world.abort(1);
    world.add(2, makeRequest(2, promptOf(15, 2, 50), { maxTokens: 2 }));
    await world.commit();
    expect(world.submit()).toBe(false);
    expect(world.scheduler.pool.numFree).toBe(0);
    await world.commit();
    expect(world.submit()).toBe(true);
    await world.end();
    world.expectAsAlone(2);
  });

  test("I26: blocks that left a window are freed by committed position, not by submitted", async () => {
    const world = await World.create({ ...TIGHT, groups: [windowOf(4)], numBlocks: 20 });
    world.add(1, makeRequest(1, promptOf(16, 1, 50), { maxTokens: 6 }));
    world.submit();
    expect(world.runner.numPending).toBe(2);
    expect(world.scheduler.pool.numUsed).toBe(5);
    await world.commit();
    // Positions 13 to 15 are still seen by what comes next.
    expect(world.scheduler.pool.numUsed).toBe(2);
    await world.end();
    world.expectAsAlone(1);
  });

  test("I30: the same requests and results give the same steps and tokens", async () => {
    const play = async (): Promise<unknown> => {
      const world = await World.create({ ...TIGHT, maxNumBatchedTokens: 12, numBlocks: 9 });
      for (let handle = 0; handle < 12; handle++) {
        const prompt = promptOf(3 + ((handle * 5) % 17), handle % 3, 50);
        world.add(handle, makeRequest(handle, prompt, { maxTokens: 3 + (handle % 6) }));
        if (world.submit()) await world.commit();
      }
      await world.end();
      const tokens = [...world.received.values()].map((received) => received.tokens);
      return { seen: world.runner.seen, tokens, free: world.scheduler.pool.freeIds() };
    };
    expect(await play()).toEqual(await play());
  });
});
