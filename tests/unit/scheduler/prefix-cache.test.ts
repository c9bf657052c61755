/** What requests share of what others have computed. */

import { describe, expect, test } from "bun:test";
import {
  FULL,
  makeRequest,
  promptOf,
  STATE,
  windowOf,
  World,
} from "../../support/scheduler-world.ts";
import { ScriptedWorld } from "../../support/scripted-world.ts";

const ROOMY = { maxNumSeqs: 8, maxNumBatchedTokens: 64, blockSize: 4, numBlocks: 100 };

/** Prompt tokens that steps computed. */
function computed(world: World): number {
  return world.runner.seen.reduce(
    (sum, { counts }) => sum + counts.filter((n) => n > 1).reduce((a, b) => a + b, 0),
    0,
  );
}

function cachedOf(world: World, handle: number): number | undefined {
  return world.received.get(handle)!.finish?.usage.cachedTokens;
}

describe("prefix cache", () => {
  test("whole blocks of an ended request are found again, and the last prompt token is computed", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50), { maxTokens: 3 }));
    await world.drain();
    world.add(2, makeRequest(2, promptOf(16, 1, 50), { maxTokens: 3 }));
    world.add(3, makeRequest(3, promptOf(17, 1, 50), { maxTokens: 3 }));
    await world.end();
    expect([1, 2, 3].map((handle) => cachedOf(world, handle))).toEqual([0, 12, 16]);
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 49, prefixHits: 28 });
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  });

  test("the answer of one turn is found by the next", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(10, 1, 50), { maxTokens: 11 }));
    await world.drain();
    const talk = [...promptOf(10, 1, 50), ...world.received.get(1)!.tokens];
    world.add(2, makeRequest(2, [...talk, 1, 2, 3]));
    await world.end();
    // 20 tokens have their KV: the last one was sampled and never computed.
    expect(cachedOf(world, 2)).toBe(20);
    world.expectAsAlone(2);
  });

  test("a request is told with its first token what was cached, and where that came from", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50), { maxTokens: 2 }));
    world.submit(1);
    expect((await world.commit()).cached).toEqual([]);
    await world.drain();
    world.add(2, makeRequest(2, promptOf(5, 9, 50), { maxTokens: 2 }));
    world.add(3, makeRequest(3, promptOf(16, 1, 50), { maxTokens: 2 }));
    world.submit(1);
    const { handles, cached } = await world.commit();
    expect([...handles]).toEqual([2, 3]);
    expect(cached).toMatchObject([
      { index: 1, numTokens: 12, receipt: { byTier: { device: 12 }, loadMs: 0 } },
    ]);
    world.submit(1);
    expect((await world.commit()).cached).toEqual([]);
    await world.end();
  });

  test("a last block that drafts have filled is found by the next turn", () => {
    const copying = [1, 42, 12, 3, 9, 8, 1, 42, 12, 3, 9, 8];
    const world = new ScriptedWorld({ ...ROOMY, speculative: "ngram", speculativeNgram: [1, 2] });
    world.add(1, makeRequest(1, copying, { maxTokens: 6 }));
    world.schedule();
    world.commit({ picks: { 1: [1] } });
    expect(world.schedule().get(1)).toBe(5);
    const picks = [42, 12, 3, 9, 8];
    world.commit({ picks: { 1: picks } });
    expect(world.received.get(1)!.finish?.reason).toBe("length");
    world.add(2, makeRequest(2, [...copying, 1, ...picks, 30, 31], { maxTokens: 1 }));
    world.drain();
    // 17 tokens of the answer's 18 have their KV.
    expect(world.received.get(2)!.finish?.usage.cachedTokens).toBe(16);
  });

  test("requests of one burst share what the first one computes", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 16 });
    for (let handle = 0; handle < 6; handle++)
      world.add(handle, makeRequest(handle, [...promptOf(40, 1, 50), handle], { maxTokens: 2 }));
    await world.end();
    expect(computed(world)).toBeLessThanOrEqual(41);
    for (let handle = 0; handle < 6; handle++) {
      world.expectAsAlone(handle);
      if (handle > 0) expect(cachedOf(world, handle)).toBe(40);
    }
  });

  test("a request that waits to share lets others go first", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 8 });
    world.add(1, makeRequest(1, promptOf(40, 1, 50), { maxTokens: 2 }));
    world.submit();
    world.add(2, makeRequest(2, [...promptOf(40, 1, 50), 7], { maxTokens: 2 }));
    world.add(3, makeRequest(3, promptOf(20, 2, 50), { maxTokens: 2 }));
    await world.end();
    expect(cachedOf(world, 2)).toBe(40);
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  });

  test("a request whose sharer is aborted computes on its own", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 8 });
    world.add(1, makeRequest(1, promptOf(40, 1, 50)));
    world.submit();
    world.add(2, makeRequest(2, promptOf(40, 1, 50)));
    await world.commit();
    world.submit();
    world.abort(1);
    await world.end();
    world.expectAsAlone(2);
  });

  test("I3: what a step fills is read by later steps only", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50)));
    world.add(2, makeRequest(2, promptOf(20, 1, 50)));
    world.submit(1);
    expect(world.runner.seen[0]!.counts).toEqual([16]);
    await world.end();
    expect(cachedOf(world, 2)).toBe(16);
    for (const handle of [1, 2]) world.expectAsAlone(handle);
  });

  test("I3: a failed step withdraws what it published, and who has read it is computed again", async () => {
    const world = await World.create(ROOMY);
    world.runner.failNextStep("chance");
    world.add(1, makeRequest(1, promptOf(16, 1, 50)));
    world.submit(1);
    world.add(2, makeRequest(2, promptOf(20, 1, 50)));
    world.submit(2);
    expect(world.runner.seen.length).toBe(2);
    await world.end();
    expect(world.received.get(1)!.finish?.reason).toBe("error");
    world.expectAsAlone(2);
    // What it had found was nothing: all of its prompt was computed.
    expect(cachedOf(world, 2)).toBe(0);
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 20, prefixHits: 0 });
  });

  test("what a request has computed itself and finds again after a preemption is not cached", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxPrefillTokens: 4, numBlocks: 10 });
    world.add(1, makeRequest(1, [1, 2, 3], { maxTokens: 14 }));
    world.add(2, makeRequest(2, promptOf(32, 2, 50), { maxTokens: 1 }));
    world.drain(1);
    const { cachedTokens } = world.received.get(2)!.finish!.usage;
    expect(world.scheduler.takeStats()).toMatchObject({ preemptions: 1, prefixHits: 0 });
    expect(cachedTokens).toBe(0);
  });

  test("I27: statistics count an admission once, however long it waited", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 1 });
    world.add(1, makeRequest(1, promptOf(9, 1, 50), { maxTokens: 9 }));
    world.add(2, makeRequest(2, promptOf(7, 2, 50), { maxTokens: 2 }));
    await world.end();
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 16, prefixHits: 0 });
  });

  test("I27: a request that is preempted counts its first admission only", async () => {
    const world = await World.create({ ...ROOMY, numBlocks: 6 });
    for (const handle of [1, 2])
      world.add(handle, makeRequest(handle, promptOf(8, handle, 50), { maxTokens: 12 }));
    await world.end();
    const stats = world.scheduler.takeStats();
    expect(stats.preemptions).toBeGreaterThan(0);
    expect(stats).toMatchObject({ prefixQueries: 16, prefixHits: 0 });
  });

  test.each([
    ["no salt and a salt", undefined, "a"],
    ["two salts", "a", "b"],
    ["salts that begin alike", "a", "aa"],
    ["a salt and one with a zero byte", "a", "a\0"],
  ] as const)("I29: requests of %s never share", async (_, first, second) => {
    const world = await World.create(ROOMY);
    const salted = (salt: string | undefined) => (salt === undefined ? {} : { cacheSalt: salt });
    world.add(1, makeRequest(1, promptOf(16, 1, 50), {}, salted(first)));
    await world.drain();
    world.add(2, makeRequest(2, promptOf(16, 1, 50), {}, salted(second)));
    world.add(3, makeRequest(3, promptOf(16, 1, 50), {}, salted(first)));
    await world.end();
    expect(cachedOf(world, 2)).toBe(0);
    expect(cachedOf(world, 3)).toBe(12);
  });

  test("I29: requests of two salts in one burst neither share nor wait for each other", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 16 });
    for (const [handle, cacheSalt] of [
      [1, "a"],
      [2, "b"],
      [3, "a"],
      [4, "b"],
    ] as const)
      // prettier-ignore
      world.add(handle, makeRequest(handle, promptOf(24, 1, 50), { maxTokens: 2 }, { cacheSalt }));
    await world.end();
    expect([1, 2, 3, 4].map((handle) => cachedOf(world, handle))).toEqual([0, 0, 20, 20]);
    // Request 2 begins in the step that ends the prompt of request 1.
    expect(world.runner.seen[1]!.counts).toEqual([8, 8]);
    for (const handle of [1, 2, 3, 4]) world.expectAsAlone(handle);
  });

  test("a request with prompt log-probabilities reads no cache and writes it", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50), { promptLogprobs: 0 }));
    await world.drain();
    world.add(2, makeRequest(2, promptOf(16, 1, 50), { promptLogprobs: 0 }));
    world.add(3, makeRequest(3, promptOf(16, 1, 50)));
    await world.end();
    expect([1, 2, 3].map((handle) => cachedOf(world, handle))).toEqual([0, 0, 12]);
    expect(world.received.get(1)!.prompt?.logprobs.length).toBe(15);
    expect(world.received.get(1)!.prompt).toEqual(world.received.get(2)!.prompt!);
    expect(world.received.get(3)!.prompt).toBeUndefined();
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  });

  test("reset drops everything, never refuses, and running requests go on without publishing", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(16, 1, 50), { maxTokens: 20 }));
    world.submit();
    await world.commit();
    const before = world.scheduler.kv.generation;
    expect(world.scheduler.resetPrefixCache()).toBe(before + 1);
    world.scheduler.checkIntegrity();
    world.add(2, makeRequest(2, promptOf(16, 1, 50), { maxTokens: 2 }));
    await world.drain();
    expect(cachedOf(world, 2)).toBe(0);
    const talk = [...promptOf(16, 1, 50), ...world.received.get(1)!.tokens];
    world.add(3, makeRequest(3, talk, { maxTokens: 2 }));
    await world.end();
    // What request 2 computed after the reset is there, what request 1 went on with is not.
    expect(cachedOf(world, 3)).toBe(16);
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  });

  test("switched off, nothing is found and nothing is kept", async () => {
    const world = await World.create({ ...ROOMY, enablePrefixCaching: false });
    for (const handle of [1, 2]) {
      world.add(handle, makeRequest(handle, promptOf(16, 1, 50)));
      await world.drain();
    }
    expect(cachedOf(world, 2)).toBe(0);
    expect(world.scheduler.takeStats()).toMatchObject({ prefixQueries: 0, prefixHits: 0 });
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test.each([
    ["a window", [FULL, windowOf(6)]],
    ["two windows", [windowOf(3), windowOf(9), FULL]],
    ["a state", [FULL, STATE]],
  ] as const)("with %s beside full attention a hit is valid for all groups", async (_, groups) => {
    const world = await World.create({ ...ROOMY, groups });
    world.add(1, makeRequest(1, promptOf(30, 1, 50), { maxTokens: 9 }));
    await world.drain();
    for (const [handle, length] of [
      [2, 30],
      [3, 20],
      [4, 40],
    ] as const)
      // prettier-ignore
      world.add(handle, makeRequest(handle, promptOf(length, 1, 50)));
    await world.end();
    for (const handle of [1, 2, 3, 4]) world.expectAsAlone(handle);
    expect(cachedOf(world, 2)).toBeGreaterThan(0);
  });
});
