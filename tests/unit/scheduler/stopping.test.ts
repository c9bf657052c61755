/** What ends a request, whatever else the device has picked for it. */

import { describe, expect, test } from "bun:test";
import { makeRequest, promptOf } from "../../support/scheduler-world.ts";
import { ScriptedWorld } from "../../support/scripted-world.ts";

const ROOMY = { maxNumSeqs: 4, maxNumBatchedTokens: 64, blockSize: 16, numBlocks: 100 };
const DRAFTS = { ...ROOMY, speculative: "ngram", speculativeNgram: [1, 2] } as const;
const EOS = 49;

/** A request whose first pick, 1, is followed by drafts 42 and 12. */
function drafting(world: ScriptedWorld, handle: number, sampling: object): void {
  world.add(handle, makeRequest(handle, [1, 42, 12, 3], { maxTokens: 10, ...sampling }));
}

describe("the end of a request", () => {
  test("EOS ends one request and not the other in the step", () => {
    const world = new ScriptedWorld(ROOMY);
    for (const handle of [1, 2])
      world.add(handle, makeRequest(handle, [handle], { maxTokens: 10, stopTokenIds: [EOS] }));
    world.schedule();
    world.commit({ picks: { 1: [EOS], 2: [10] } });
    expect(world.received.get(1)!.finish).toMatchObject({
      reason: "stop",
      stopReason: EOS,
      usage: { completionTokens: 1 },
    });
    expect(world.received.get(1)!.tokens).toEqual([]);
    expect(world.received.get(2)!).toMatchObject({ tokens: [10], finish: undefined });
    expect([...world.schedule().keys()]).toEqual([2]);
  });

  test("tokens that a row picked after the stop id are dropped", () => {
    const world = new ScriptedWorld(DRAFTS);
    drafting(world, 1, { stopTokenIds: [42, 43] });
    world.schedule();
    world.commit({ picks: { 1: [1] } });
    expect(world.schedule().get(1)).toBeGreaterThan(1);
    world.commit({ picks: { 1: [42, 12] } });
    expect(world.received.get(1)!).toMatchObject({
      tokens: [1],
      finish: { reason: "stop", stopReason: 42, usage: { completionTokens: 2 } },
    });
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("a row picks no more than max_tokens allows, and its last pick ends the request", () => {
    const world = new ScriptedWorld(DRAFTS);
    drafting(world, 1, { maxTokens: 3 });
    world.schedule();
    world.commit({ picks: { 1: [1] } });
    // One draft only: two tokens are left to pick.
    expect(world.schedule().get(1)).toBe(2);
    world.commit({ picks: { 1: [42, 12] } });
    expect(world.received.get(1)!).toMatchObject({
      tokens: [1, 42, 12],
      finish: { reason: "length", usage: { completionTokens: 3 } },
    });
  });

  test("EOS that is to be ignored is a token like any other", () => {
    const world = new ScriptedWorld(ROOMY);
    world.add(1, makeRequest(1, [1], { maxTokens: 3 }));
    world.schedule();
    world.commit({ picks: { 1: [EOS] } });
    world.schedule();
    world.commit({ picks: { 1: [10] } });
    expect(world.received.get(1)!).toMatchObject({ tokens: [EOS, 10], finish: undefined });
  });

  test.each([1, 2, 3, 5])(
    "two requests with max_tokens of %p compute prompt and max_tokens - 1 tokens, two steps ahead",
    (maxTokens) => {
      const world = new ScriptedWorld(ROOMY);
      world.add(1, makeRequest(1, promptOf(10, 1, 50), { maxTokens }));
      let numTokens = sum(world.schedule());
      world.add(2, makeRequest(2, promptOf(10, 2, 50), { maxTokens }));
      for (const rows of world.drain()) numTokens += sum(rows);
      expect(numTokens).toBe(2 * (10 + maxTokens - 1));
      for (const handle of [1, 2])
        expect(world.received.get(handle)!.tokens.length).toBe(maxTokens);
    },
  );

  test("ten requests that are aborted one a step got a token for each step before", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxNumSeqs: 10, maxNumBatchedTokens: 200 });
    for (let handle = 0; handle < 10; handle++)
      world.add(handle, makeRequest(handle, promptOf(10, handle, 50), { maxTokens: 20 }));
    world.schedule();
    world.schedule();
    const order = [0, 8, 3, 1, 6, 4, 2, 5, 7, 9];
    for (const handle of order) {
      world.abort(handle);
      world.commit();
      world.schedule();
    }
    while (world.numInFlight > 0) world.commit();
    for (const [before, handle] of order.entries()) {
      expect(world.received.get(handle)!.tokens.length).toBe(before);
      expect(world.received.get(handle)!.finish?.reason).toBe("abort");
    }
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("requests that end as they wait leave the queue one by one", () => {
    const world = new ScriptedWorld(ROOMY);
    for (let handle = 0; handle < 10; handle++)
      world.add(handle, makeRequest(handle, promptOf(10, handle, 50)));
    for (let handle = 0; handle < 10; handle++) {
      expect(world.scheduler.takeStats().waiting).toBe(10 - handle);
      world.abort(handle);
      expect(world.scheduler.numUnfinished).toBe(9 - handle);
    }
    expect(world.schedule().size).toBe(0);
  });

  test("when all have ended nothing is held and every block is free", () => {
    const world = new ScriptedWorld(ROOMY);
    for (let handle = 0; handle < 5; handle++)
      world.add(handle, makeRequest(handle, promptOf(10, handle, 50), { maxTokens: 10 }));
    world.drain();
    const { pool } = world.scheduler;
    expect(pool.numFree).toBe(100);
    for (const id of pool.freeIds()) expect(pool.references(id)).toBe(0);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
  });
});

function sum(rows: ReadonlyMap<number, number>): number {
  return [...rows.values()].reduce((a, b) => a + b, 0);
}
