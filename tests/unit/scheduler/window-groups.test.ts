/** Groups that see a window: what they hold while steps are in flight, and how much of them is let in. */

import { describe, expect, test } from "bun:test";
import { peakOfGroup } from "../../../engine/cache/block-group.ts";
import { FULL, makeRequest, promptOf, windowOf, World } from "../../support/scheduler-world.ts";
import { ScriptedWorld } from "../../support/scripted-world.ts";

/** Of a prompt of 100 tokens in blocks of 16 the first 5 blocks are behind a window of 16. */
const WINDOW = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 128,
  blockSize: 16,
  numBlocks: 50,
  groups: [windowOf(16)],
} as const;

function prompted(
  groups: typeof WINDOW.groups | [typeof FULL, ReturnType<typeof windowOf>] = WINDOW.groups,
): ScriptedWorld {
  const world = new ScriptedWorld({ ...WINDOW, groups });
  world.add(1, makeRequest(1, promptOf(100, 1, 50)));
  expect(world.schedule().get(1)).toBe(100);
  return world;
}

describe("I26: blocks behind the window", () => {
  test("are held until the step that reads them has committed, and freed once", () => {
    const world = prompted();
    const { pool } = world.scheduler;
    expect(world.schedule().get(1)).toBe(1);
    expect(pool.numUsed).toBe(7);
    world.commit();
    expect(pool.numUsed).toBe(2);
    world.schedule();
    world.commit();
    world.schedule();
    expect(pool.numUsed).toBe(2);
    world.drain();
    expect(pool.numUsed).toBe(0);
  });

  test("are those behind the committed position, though a step ahead would be past one more", () => {
    const world = new ScriptedWorld(WINDOW);
    world.add(1, makeRequest(1, promptOf(110, 1, 50)));
    world.schedule();
    world.schedule();
    // The decode of position 110 sees 95 to 110, the next one 96 to 111: block 5 ends at 95.
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(2);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(1);
  });

  test("are freed by the commit when one step is submitted at a time", () => {
    const world = prompted();
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(2);
    world.schedule();
    expect(world.scheduler.pool.numUsed).toBe(2);
  });

  test("of a group beside full attention are freed alone", () => {
    const world = prompted([FULL, windowOf(16)]);
    expect(world.scheduler.pool.numUsed).toBe(14);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(7 + 2);
  });

  test("of a request that was aborted stay until its last step, as all it holds", () => {
    const world = prompted();
    world.schedule();
    world.abort(1);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(7);
    world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
  });
});

describe("admission", () => {
  test("counts the window and what is in flight of it: 129 blocks for 1024 tokens of each, 193 for twice as many in flight", () => {
    expect(peakOfGroup(windowOf(1024), 16, 16384, 1024)).toBe(129);
    expect(peakOfGroup(windowOf(1024), 16, 16384, 2048)).toBe(193);
    expect(peakOfGroup(FULL, 16, 16384, 2048)).toBe(1024);
    expect(peakOfGroup(windowOf(1024), 16, 100, 2048)).toBe(7);
  });

  test("a prompt of 32 blocks is served by the 6 that its window and two steps of 32 tokens take", async () => {
    const world = await World.create({ ...WINDOW, maxNumBatchedTokens: 32, numBlocks: 6 });
    world.add(1, makeRequest(1, promptOf(512, 1, 50), { maxTokens: 40 }));
    let most = 0;
    while (world.submit() || world.runner.queued > 0) {
      most = Math.max(most, world.scheduler.pool.numUsed);
      await world.commit();
    }
    await world.end();
    expect(most).toBeLessThanOrEqual(6);
    expect(world.scheduler.takeStats().preemptions).toBe(0);
    world.expectAsAlone(1);
  });

  test("the same prompt beside full attention needs its blocks there, and one block fewer is refused by name", () => {
    const options = { ...WINDOW, maxNumBatchedTokens: 32, groups: [FULL, windowOf(16)] };
    const request = makeRequest(1, promptOf(512, 1, 50), { maxTokens: 1 });
    new ScriptedWorld({ ...options, numBlocks: 38 }).add(1, request);
    expect(() => new ScriptedWorld({ ...options, numBlocks: 37 }).add(1, request)).toThrow(
      "38 KV blocks of 16 tokens, there are 37",
    );
  });

  test("long prompts with windows are let in as long as their peaks fit, and the next one waits", () => {
    const world = new ScriptedWorld({ ...WINDOW, maxNumBatchedTokens: 32, numBlocks: 13 });
    for (const handle of [1, 2, 3])
      world.add(handle, makeRequest(handle, promptOf(300, handle, 50), { maxTokens: 2 }));
    const steps = world.drain();
    for (const handle of [1, 2, 3]) expect(world.received.get(handle)!.tokens.length).toBe(2);
    expect(world.scheduler.takeStats().preemptions).toBe(0);
    const firstOf = (handle: number): number => steps.findIndex((rows) => rows.has(handle));
    expect(firstOf(1)).toBeLessThan(firstOf(2));
    expect(firstOf(2)).toBeLessThan(firstOf(3));
  });
});
