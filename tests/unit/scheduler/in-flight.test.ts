/** Steps that are submitted and not committed: what they hold, and what may be decided meanwhile. */

import { describe, expect, test } from "bun:test";
import { makeRequest, promptOf, requestId, World } from "../../support/scheduler-world.ts";
import { ScriptedWorld } from "../../support/scripted-world.ts";

const ROOMY = { maxNumSeqs: 8, maxNumBatchedTokens: 100, blockSize: 16, numBlocks: 100 };
const STOP = 42;

/** One request of 33 tokens, which are 3 blocks, in so many submitted steps. */
function submitted(numSteps: number, maxTokens = 10): ScriptedWorld {
  const world = new ScriptedWorld(ROOMY);
  world.add(1, makeRequest(1, promptOf(33, 1, 50), { maxTokens, stopTokenIds: [STOP] }));
  for (let step = 0; step < numSteps; step++)
    expect(world.schedule().get(1)).toBe(step === 0 ? 33 : 1);
  expect(world.scheduler.pool.numUsed).toBe(3);
  return world;
}

describe("I26: blocks are given back", () => {
  test("at the commit that ends the request when no later step has it", () => {
    const world = submitted(1);
    world.commit({ picks: { 1: [STOP] } });
    expect(world.received.get(1)!.finish?.reason).toBe("stop");
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("of a request that stopped, once the step behind has committed", () => {
    const world = submitted(2);
    world.commit({ picks: { 1: [STOP] } });
    expect(world.received.get(1)!.finish?.reason).toBe("stop");
    expect(world.scheduler.pool.numUsed).toBe(3);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("of one aborted in two steps, when the second has committed", () => {
    const world = submitted(2);
    world.abort(1);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(3);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("of one aborted in three steps, when the newest has committed and not before", () => {
    const world = submitted(3);
    world.abort(1);
    for (let step = 0; step < 2; step++) {
      world.commit();
      expect(world.scheduler.pool.numUsed).toBe(3);
    }
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("at once when max_tokens ends it, though another request's step is in flight", () => {
    const world = new ScriptedWorld(ROOMY);
    world.add(1, makeRequest(1, promptOf(33, 1, 50), { maxTokens: 1 }));
    world.add(2, makeRequest(2, promptOf(33, 2, 50), { maxTokens: 100 }));
    expect([...world.schedule().keys()]).toEqual([1, 2]);
    expect([...world.schedule().keys()]).toEqual([2]);
    const before = world.scheduler.pool.numFree;
    world.commit();
    expect(world.received.get(1)!.finish?.reason).toBe("length");
    expect(world.numInFlight).toBe(1);
    expect(world.scheduler.pool.numFree).toBe(before + 3);
  });

  test("of one aborted in the middle of its prompt, when the chunk has committed", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxPrefillTokens: 16 });
    world.add(1, makeRequest(1, promptOf(33, 1, 50), { maxTokens: 5 }));
    expect(world.schedule().get(1)).toBe(16);
    world.abort(1);
    expect(world.scheduler.pool.numUsed).toBe(1);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("of two requests that stopped in one step, with the same later commit", () => {
    const world = new ScriptedWorld(ROOMY);
    for (const handle of [1, 2])
      world.add(
        handle,
        makeRequest(handle, promptOf(33, handle, 50), { maxTokens: 5, stopTokenIds: [STOP] }),
      );
    world.schedule();
    world.schedule();
    world.commit({ picks: { 1: [STOP], 2: [STOP] } });
    expect(world.scheduler.pool.numUsed).toBe(6);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("of two requests with different last steps, in the order of those", () => {
    const world = new ScriptedWorld(ROOMY);
    world.add(1, makeRequest(1, promptOf(33, 1, 50), { maxTokens: 2 }));
    world.add(2, makeRequest(2, promptOf(33, 2, 50), { maxTokens: 9 }));
    for (const handles of [[1, 2], [1, 2], [2]])
      expect([...world.schedule().keys()]).toEqual(handles);
    world.abort(2);
    world.abort(1);
    const used = [0, 1, 2].map(() => {
      world.commit();
      return world.scheduler.pool.numUsed;
    });
    expect(used).toEqual([6, 3, 0]);
  });

  test("of the source of a copy, when the step that copies has committed, though its owner has gone", () => {
    const world = new ScriptedWorld(ROOMY);
    world.add(1, makeRequest(1, promptOf(40, 1, 50), { maxTokens: 1 }));
    const more = { leader: requestId(1) };
    world.add(2, makeRequest(2, promptOf(40, 1, 50), { maxTokens: 4, choice: 1 }, more));
    expect([...world.schedule()]).toEqual([[1, 40]]);
    expect([...world.schedule()]).toEqual([[2, 1]]);
    expect(world.scheduler.pool.numUsed).toBe(4);
    world.commit();
    expect(world.received.get(1)!.finish?.reason).toBe("length");
    expect(world.scheduler.pool.numUsed).toBe(4);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(3);
  });
});

describe("preemption with steps in flight", () => {
  /** 10 blocks, two prompts of 5: the first decode finds none. */
  function full(): ScriptedWorld {
    const world = new ScriptedWorld({
      ...ROOMY,
      maxNumBatchedTokens: 160,
      numBlocks: 10,
      enablePrefixCaching: false,
    });
    for (const handle of [1, 2])
      world.add(handle, makeRequest(handle, promptOf(80, handle, 50), { maxTokens: 9 }));
    expect([...world.schedule().values()]).toEqual([80, 80]);
    return world;
  }

  test("the last one gives way, gets the token of its step, and its blocks are free after it", () => {
    const world = full();
    expect(world.schedule().size).toBe(0);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 1, preemptions: 1 });
    expect(world.scheduler.pool.numFree).toBe(0);
    world.commit({ picks: { 2: [42] } });
    expect(world.received.get(2)!.tokens).toEqual([42]);
    expect(world.scheduler.pool.numFree).toBe(5);
    expect([...world.schedule()]).toEqual([[1, 1]]);
    expect(world.scheduler.takeStats().preemptions).toBe(1);
  });

  test("it comes back with prompt and output, and gets every token once", () => {
    const world = full();
    world.schedule();
    world.commit();
    const steps = world.drain();
    expect(steps.find((rows) => (rows.get(2) ?? 0) > 1)!.get(2)).toBe(81);
    for (const handle of [1, 2]) {
      expect(world.received.get(handle)!.tokens.length).toBe(9);
      expect(world.received.get(handle)!.finish?.reason).toBe("length");
    }
  });

  test("one that was preempted and ends in its step does not come back", () => {
    const world = full();
    world.schedule();
    world.abort(2);
    expect(world.scheduler.pool.numFree).toBe(0);
    world.commit();
    expect(world.scheduler.pool.numFree).toBe(5);
    expect(world.scheduler.numUnfinished).toBe(1);
    expect(world.received.get(2)!.tokens).toEqual([]);
  });

  test("I24: while blocks are about to become free no waiting request takes what is free", () => {
    const world = new ScriptedWorld({
      ...ROOMY,
      maxPrefillTokens: 16,
      blockSize: 4,
      numBlocks: 11,
      schedulingPolicy: "priority",
    });
    for (const handle of [1, 2, 3])
      world.add(handle, makeRequest(handle, promptOf(3, handle, 50), {}, { priority: 5 }));
    world.schedule();
    world.add(4, makeRequest(4, promptOf(32, 4, 50), {}, { priority: 0 }));
    expect([...world.schedule()]).toEqual([[1, 1], [2, 1], [3, 1], [4, 16]]); // prettier-ignore
    world.add(5, makeRequest(5, [1], {}, { priority: 9 }));
    // The decodes take three of the four blocks that are left, request 4 wants four.
    expect([...world.schedule().keys()]).toEqual([1, 2, 3]);
    expect(world.scheduler.pool.numFree).toBe(1);
    expect(world.scheduler.takeStats().preemptions).toBe(2);
    for (let step = 0; step < 3; step++) world.commit();
    expect([...world.schedule()]).toEqual([[1, 1], [4, 16]]); // prettier-ignore
    world.drain();
    for (const handle of [1, 2, 3, 4, 5]) expect(world.received.get(handle)!.tokens.length).toBe(8);
  });

  test("blocks that only leaving requests share count as about to become free: nobody is preempted for them", () => {
    const world = new ScriptedWorld({
      ...ROOMY,
      maxPrefillTokens: 17,
      blockSize: 4,
      numBlocks: 17,
      schedulingPolicy: "priority",
    });
    const prefix = promptOf(16, 9, 50);
    world.add(9, makeRequest(9, prefix, { maxTokens: 1 }));
    world.drain();
    // Two share four blocks and have one each; three have one.
    for (const handle of [2, 3])
      world.add(handle, makeRequest(handle, [...prefix, handle], {}, { priority: 5 }));
    for (const handle of [4, 5, 6])
      world.add(handle, makeRequest(handle, promptOf(3, handle, 50), {}, { priority: 5 }));
    world.schedule();
    world.add(1, makeRequest(1, promptOf(32, 1, 50), {}, { priority: 0 }));
    expect(world.schedule().get(1)).toBe(17);
    world.abort(2);
    world.abort(3);
    // The decodes take three of the three blocks that are left, request 1 wants three.
    expect([...world.schedule().keys()]).toEqual([4, 5, 6]);
    expect(world.scheduler.pool.numFree).toBe(0);
    expect(world.scheduler.takeStats().preemptions).toBe(0);
    for (let step = 0; step < 2; step++) world.commit();
    expect(world.schedule().get(1)).toBe(15);
    world.drain();
  });

  test("I23: a decode in a step gives way to a prompt that goes before it, and keeps its row", async () => {
    const world = await World.create({
      maxNumSeqs: 4,
      maxNumBatchedTokens: 16,
      maxPrefillTokens: 4,
      blockSize: 4,
      numBlocks: 10,
      schedulingPolicy: "priority",
    });
    world.add(1, makeRequest(1, promptOf(8, 1, 50), { maxTokens: 20 }, { priority: 5 }));
    world.submit(1);
    await world.commit();
    world.add(2, makeRequest(2, promptOf(28, 2, 50), { maxTokens: 4 }, { priority: 0 }));
    while (world.scheduler.takeStats().preemptions === 0) {
      world.submit(1);
      if (world.scheduler.takeStats().preemptions === 0) await world.commit();
    }
    const before = world.received.get(1)!.tokens.length;
    expect(world.runner.seen.at(-1)!.counts).toEqual([1]);
    await world.commit();
    expect(world.received.get(1)!.tokens.length).toBe(before + 1);
    world.submit(1);
    expect(world.runner.seen.at(-1)!.counts).toEqual([4]);
    await world.end();
    for (const handle of [1, 2]) world.expectAsAlone(handle);
  });

  test.each([1, 2, 3, 5])(
    "with %p steps ahead a pool under pressure gives everyone its tokens",
    async (ahead) => {
      const world = await World.create({
        maxNumSeqs: 4,
        maxNumBatchedTokens: 32,
        blockSize: 4,
        numBlocks: 7,
      });
      for (let handle = 0; handle < 6; handle++)
        world.add(handle, makeRequest(handle, promptOf(6 + handle, handle, 50), { maxTokens: 12 }));
      while (world.submit(ahead) || world.runner.queued > 0) await world.commit();
      expect(world.scheduler.takeStats().preemptions).toBeGreaterThan(0);
      await world.end();
      for (let handle = 0; handle < 6; handle++) world.expectAsAlone(handle);
    },
  );
});

describe("scheduling ahead", () => {
  test("a prompt joins while another is computed, and that one decodes behind it", () => {
    for (const promptLogprobs of [-1, 5]) {
      const world = new ScriptedWorld({
        ...ROOMY,
        maxNumSeqs: 2,
        maxNumBatchedTokens: 1024,
        maxSamples: 1100,
      });
      const sampling = { maxTokens: 3, promptLogprobs };
      world.add(1, makeRequest(1, promptOf(512, 1, 50), sampling));
      expect([...world.schedule()]).toEqual([[1, 512]]);
      world.add(2, makeRequest(2, promptOf(511, 2, 50), sampling));
      expect([...world.schedule()]).toEqual([[1, 1], [2, 511]]); // prettier-ignore
      world.commit();
      expect([...world.schedule()]).toEqual([[1, 1], [2, 1]]); // prettier-ignore
    }
  });

  test("equal prompts that arrive together and later are computed once, from the step behind on", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxNumBatchedTokens: 1000 });
    const add = (handle: number): void =>
      world.add(handle, makeRequest(handle, promptOf(100, 1, 50), { maxTokens: 3 }));
    add(1);
    add(2);
    expect([...world.schedule()]).toEqual([[1, 100]]);
    expect([...world.schedule()]).toEqual([[1, 1], [2, 4]]); // prettier-ignore
    for (const handle of [3, 4, 5]) {
      add(handle);
      world.commit();
      expect(world.schedule().get(handle)).toBe(4);
    }
    world.drain();
    for (const handle of [2, 3, 4, 5])
      expect(world.received.get(handle)!.finish?.usage.cachedTokens).toBe(96);
  });

  test("the next turn of a talk computes what does not fill a block", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxNumBatchedTokens: 1000, numBlocks: 200 });
    for (let handle = 0; handle < 5; handle++)
      world.add(handle, makeRequest(handle, promptOf(100, handle, 50), { maxTokens: 200 }));
    world.drain();
    for (let handle = 0; handle < 5; handle++) {
      const { request, tokens } = world.received.get(handle)!;
      const talk = [...request.promptTokenIds, ...tokens];
      expect(talk.length).toBe(300);
      world.add(10 + handle, makeRequest(10 + handle, talk, { maxTokens: 200 }));
    }
    expect([...world.schedule().values()]).toEqual(Array(5).fill(300 % 16));
  });

  test("I27: an admission that failed for want of blocks is not counted, the one that came of it once", () => {
    const world = new ScriptedWorld({ ...ROOMY, numBlocks: 6 });
    world.add(1, makeRequest(1, promptOf(32, 1, 50), { maxTokens: 1 }));
    world.drain();
    world.add(2, makeRequest(2, promptOf(60, 2, 50), { maxTokens: 4 }));
    world.schedule();
    // A request counts with its first token: only then it is known what was computed for it.
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 32, prefixHits: 0 });
    world.add(3, makeRequest(3, promptOf(48, 1, 50), { maxTokens: 1 }));
    world.commit();
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 92, prefixHits: 0 });
    while (world.received.get(2)!.finish === undefined) {
      world.schedule();
      expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 92, waiting: 1 });
      world.commit();
    }
    world.drain();
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 92 + 48, prefixHits: 32 });
  });
});
