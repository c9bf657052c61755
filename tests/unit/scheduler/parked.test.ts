/** Requests that wait, outside of the queue, for what another computes; and those that nobody waits for. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../../connectors/cpu-offload.ts";
import {
  makeRequest,
  promptOf,
  requestId,
  windowOf,
  World,
} from "../../support/scheduler-world.ts";
import { type Rows, ScriptedWorld } from "../../support/scripted-world.ts";

const ROOMY = { maxNumSeqs: 128, maxNumBatchedTokens: 512, blockSize: 16, numBlocks: 3000 };
const PROMPT = promptOf(320, 1, 50);

/** Schedules and commits until a request has a row; answers that step's rows and its number, from 1. */
function untilRow(world: ScriptedWorld, handle: number): [rows: Rows, step: number] {
  for (let step = 1; step < 1000; step++) {
    const rows = world.schedule();
    if (rows.has(handle)) return [rows, step];
    world.commit();
  }
  throw new Error(`request ${handle} has no row`);
}

/** A world in which every second block of `PROMPT` is in the cache: each chunk of it is one block. */
function striped(): ScriptedWorld {
  const world = new ScriptedWorld(ROOMY);
  world.add(0, makeRequest(0, PROMPT, { maxTokens: 1 }));
  world.drain();
  const { pool } = world.scheduler;
  for (let id = 1; id <= 19; id += 2) pool.unhash(id);
  return world;
}

describe("a crowd that waits for one prompt holds up nobody behind it", () => {
  test("of choices, however many there are", () => {
    const world = new ScriptedWorld({ ...ROOMY, maxSamples: 160, maxModelLen: 3000 });
    // Its prompt is scored, a few tokens a step, so that steps have room for others meanwhile.
    const prompt = promptOf(2000, 1, 50);
    world.add(0, makeRequest(0, prompt, { maxTokens: 2, promptLogprobs: 0 }));
    for (let handle = 1; handle < 100; handle++) {
      const leader = { leader: requestId(0) };
      world.add(handle, makeRequest(handle, prompt, { maxTokens: 2, choice: handle }, leader));
    }
    world.add(500, makeRequest(500, promptOf(20, 2, 50), { maxTokens: 2 }));
    expect(untilRow(world, 500)[1]).toBe(1);
    const steps = world.drain();
    // One token of the prompt for each choice, and one decode.
    for (let handle = 1; handle < 100; handle++)
      expect(steps.map((rows) => rows.get(handle) ?? 0).reduce((a, b) => a + b, 0)).toBe(2);
  });

  test("of requests that begin with it, however many there are; they compute nothing of it", () => {
    const world = striped();
    world.add(1, makeRequest(1, PROMPT, { maxTokens: 2 }));
    expect(world.schedule().get(1)).toBe(16);
    for (let handle = 2; handle < 102; handle++)
      world.add(handle, makeRequest(handle, [...PROMPT, handle % 50], { maxTokens: 1 }));
    world.add(500, makeRequest(500, promptOf(20, 2, 50), { maxTokens: 1 }));
    expect(untilRow(world, 500)[1]).toBe(1);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 2, waiting: 100 });
    world.drain();
    for (let handle = 2; handle < 102; handle++)
      expect(world.received.get(handle)!.finish?.usage.cachedTokens).toBe(320);
  });
});

describe("a request that waits for another's prompt", () => {
  test("goes on as soon as their common part is submitted, though the other has more", () => {
    const world = striped();
    world.add(1, makeRequest(1, PROMPT, { maxTokens: 2 }));
    world.schedule();
    world.add(2, makeRequest(2, [...PROMPT.slice(0, 96), 1, 2, 3], { maxTokens: 1 }));
    const [rows] = untilRow(world, 2);
    expect([...rows]).toEqual([[1, 16], [2, 3]]); // prettier-ignore
    world.drain();
    expect(world.received.get(2)!.finish?.usage.cachedTokens).toBe(96);
  });

  test.each(["the other is aborted", "it is aborted itself"])("ends well when %s", (which) => {
    const world = striped();
    world.add(1, makeRequest(1, PROMPT, { maxTokens: 2 }));
    world.schedule();
    world.add(2, makeRequest(2, PROMPT, { maxTokens: 1 }));
    world.schedule();
    expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 1 });
    const isOther = which === "the other is aborted";
    world.abort(isOther ? 1 : 2);
    expect(world.scheduler.takeStats()).toMatchObject(
      isOther ? { running: 0, waiting: 1 } : { running: 1, waiting: 0 },
    );
    world.drain();
    expect(world.received.get(isOther ? 2 : 1)!.finish?.reason).toBe("length");
  });

  test("waits while the other's blocks are loading, and computes nothing that the other will", async () => {
    const connector = new CpuOffload({ mode: "eager" });
    const world = await World.create({
      maxNumSeqs: 4,
      maxNumBatchedTokens: 64,
      blockSize: 4,
      numBlocks: 40,
      connectors: { list: [{ name: "cpu-offload", connector }], hostPages: 64 },
    });
    world.add(1, makeRequest(1, promptOf(24, 1, 50), { maxTokens: 1 }));
    await world.drain();
    const { pool } = world.scheduler;
    for (const id of pool.freeIds()) pool.unhash(id);
    const prompt = [...promptOf(24, 1, 50), ...promptOf(24, 2, 50)];
    for (const handle of [2, 3]) world.add(handle, makeRequest(handle, prompt, { maxTokens: 1 }));
    world.submit(1);
    expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 1 });
    await world.drain();
    for (const handle of [2, 3]) world.expectAsAlone(handle);
    expect([2, 3].map((handle) => world.computed.get(handle)!.size)).toEqual([24, 4]);
    await world.stop();
  });
});

describe("a prompt that is scored", () => {
  const SCORING = { ...ROOMY, maxNumSeqs: 4, maxSamples: 12, blockSize: 4 };
  const scored = makeRequest(1, PROMPT, { maxTokens: 2, promptLogprobs: 0 });

  test("takes a few tokens a step, and nobody with the same prompt waits for it", () => {
    const world = new ScriptedWorld(SCORING);
    world.add(1, scored);
    world.add(2, makeRequest(2, PROMPT, { maxTokens: 1 }));
    const rows = world.schedule();
    expect(rows.get(1)).toBeLessThan(12);
    expect(rows.get(2)).toBe(320);
    world.add(3, makeRequest(3, [...PROMPT, 1], { maxTokens: 1 }));
    expect(world.schedule().get(3)).toBe(1);
    world.drain();
  });

  test("is read by later steps only, behind a window too", async () => {
    const options = { maxNumSeqs: 2, maxNumBatchedTokens: 16, numBlocks: 20, blockSize: 1 };
    const world = await World.create({ ...options, groups: [windowOf(2)] });
    const prompt = PROMPT.slice(0, 4);
    world.add(1, makeRequest(1, prompt, { promptLogprobs: 0 }));
    world.add(2, makeRequest(2, [...prompt, 1]));
    world.submit(1);
    expect(world.runner.seen[0]).toMatchObject({ starts: [0, 0], counts: [4, 5] });
    await world.drain();
    for (const handle of [1, 2]) world.expectAsAlone(handle);
    await world.runner.stop();
  });

  test("leaves others the samples that they end their prompts with", () => {
    const world = new ScriptedWorld(SCORING);
    world.add(1, scored);
    world.schedule();
    for (const handle of [2, 3, 4])
      world.add(handle, makeRequest(handle, promptOf(10, handle, 50), { maxTokens: 1 }));
    expect([...world.schedule().values()].slice(1)).toEqual([10, 10, 10]);
    world.drain();
  });

  test("lets a request with its beginning in as soon as what it has filled makes that fit", () => {
    const world = new ScriptedWorld({ ...SCORING, numBlocks: 16 });
    const prompt = PROMPT.slice(0, 40);
    world.add(1, makeRequest(1, prompt, { maxTokens: 4, promptLogprobs: 0 }));
    world.schedule();
    // Of its eleven blocks six are free beside what the first one needs.
    world.add(2, makeRequest(2, [...prompt, 1], { maxTokens: 1 }));
    expect(world.schedule().has(2)).toBe(false);
    const [rows] = untilRow(world, 2);
    expect(rows.get(1)).toBeGreaterThan(1);
    world.drain();
  });
});
