import { beforeAll, describe, expect, test } from "bun:test";
import { hashBlocks, hashEach, noneHash } from "../../../engine/runner/native.ts";
import { Scheduler } from "../../../engine/scheduler/scheduler.ts";
import {
  createStopChecker,
  expectedOf,
  makeRequest,
  promptOf,
  schedulerOptions,
  spell,
  World,
} from "../../support/scheduler-world.ts";

const ROOMY = { maxNumSeqs: 4, maxNumBatchedTokens: 32, blockSize: 4, numBlocks: 100 };

describe("scheduling", () => {
  test("a request alone: its prompt, then one token a step, then nothing", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(10, 1, 50), { maxTokens: 3 }));
    await world.drain();
    world.expectAsAlone(1);
    expect(world.runner.seen.map(({ starts, counts }) => [...starts, ...counts])).toEqual([
      [0, 10],
      [10, 1],
      [11, 1],
    ]);
    expect(world.scheduler.schedule()).toBeUndefined();
  });

  test("the decode of a prompt that is still computing is submitted behind it", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(10, 1, 50)));
    world.submit();
    expect(world.runner.numPending).toBe(2);
  });

  test("a long prompt is cut into chunks, and decodes are in every step meanwhile", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 8 });
    world.add(1, makeRequest(1, [3], { maxTokens: 20 }));
    world.submit();
    await world.commit();
    world.add(2, makeRequest(2, promptOf(30, 2, 50), { maxTokens: 4 }));
    await world.drain();
    const mixed = world.runner.seen.filter(({ counts }) => counts.length === 2 && counts[1]! > 1);
    expect(mixed.map(({ counts }) => counts)).toEqual([
      [1, 7],
      [1, 7],
      [1, 7],
      [1, 7],
      [1, 2],
    ]);
    world.expectAsAlone(1);
    world.expectAsAlone(2);
  });

  test("the chunk ceiling bounds prompt tokens of a step, not its decodes", async () => {
    const world = await World.create({ ...ROOMY, maxPrefillTokens: 3 });
    for (const handle of [1, 2]) world.add(handle, makeRequest(handle, promptOf(7, handle, 50)));
    await world.drain();
    expect(world.runner.seen.slice(0, 5).map(({ counts }) => counts)).toEqual([
      [3],
      [3],
      [1, 2],
      [1, 3],
      [1, 2],
    ]);
    world.expectAsAlone(1);
    world.expectAsAlone(2);
  });

  test("requests share a step up to max-num-seqs; the next one gets the seat that becomes free", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 2 });
    for (const handle of [1, 2, 3])
      world.add(handle, makeRequest(handle, [handle], { maxTokens: handle + 1 }));
    expect(world.scheduler.takeStats().waiting).toBe(3);
    world.submit();
    expect(world.scheduler.takeStats()).toMatchObject({ running: 2, waiting: 1 });
    await world.drain();
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
    expect(Math.max(...world.runner.seen.map(({ seats }) => seats.length))).toBe(2);
  });

  test("admission waits for blocks for the whole prompt, and nobody overtakes the head", async () => {
    const world = await World.create({ ...ROOMY, numBlocks: 5 });
    world.add(1, makeRequest(1, promptOf(12, 1, 50), { maxTokens: 5 }));
    world.add(2, makeRequest(2, promptOf(9, 2, 50), { maxTokens: 4 }));
    world.add(3, makeRequest(3, [1], { maxTokens: 2 }));
    world.submit();
    expect(world.scheduler.takeStats()).toMatchObject({ running: 1, waiting: 2, usedBlocks: 4 });
    await world.drain();
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  });

  test("blocks are taken as positions are reached", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(4, 1, 50), { maxTokens: 9 }));
    world.submit(1);
    expect(world.scheduler.pool.numUsed).toBe(1);
    await world.commit();
    world.submit(1);
    expect(world.scheduler.pool.numUsed).toBe(2);
    await world.drain();
  });

  test("a step of one token serves several requests in order", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 1 });
    for (const handle of [1, 2, 3])
      world.add(handle, makeRequest(handle, promptOf(3, handle, 50), { maxTokens: 3 }));
    await world.drain();
    for (const handle of [1, 2, 3]) world.expectAsAlone(handle);
  });

  test("statistics count each prompt once and each sampled token", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(10, 1, 50), { maxTokens: 3 }));
    world.add(2, makeRequest(2, promptOf(5, 2, 50), { maxTokens: 2 }));
    await world.drain();
    expect(world.scheduler.takeStats()).toEqual({
      running: 0,
      waiting: 0,
      usedBlocks: 0,
      totalBlocks: 100,
      preemptions: 0,
      promptTokens: 15,
      generationTokens: 5,
      steps: 3,
      prefixQueries: 15,
      prefixHits: 0,
      externalQueries: 0,
      externalHits: 0,
      loadedPromptTokens: {},
      savedMs: 0,
      evictedBlocks: 0,
      drafts: 0,
      draftTokens: 0,
      acceptedTokens: 0,
      stepTokens: [],
    });
  });
});

describe("the end of a request", () => {
  test("a stop id ends it, counts in usage and is not among its tokens; the surplus row is dropped", async () => {
    const world = await World.create(ROOMY);
    const prompt = promptOf(6, 3, 50);
    const free = expectedOf(makeRequest(0, prompt, { maxTokens: 8 }), world.definition).tokens;
    const stop = free[2]!;
    expect(free.indexOf(stop)).toBe(2);
    world.add(1, makeRequest(1, prompt, { maxTokens: 8, stopTokenIds: [stop] }));
    await world.drain();
    const { tokens, finish } = world.received.get(1)!;
    expect(tokens).toEqual(free.slice(0, 2));
    expect(finish).toMatchObject({
      reason: "stop",
      stopReason: stop,
      usage: { promptTokens: 6, completionTokens: 3, cachedTokens: 0 },
    });
    expect(world.commits).toBe(4);
  });

  test("a stop string ends it at the token that completes it, though the sampler has gone on", async () => {
    const world = await World.create(ROOMY);
    const prompt = promptOf(6, 4, 50);
    const free = expectedOf(makeRequest(0, prompt, { maxTokens: 8 }), world.definition).tokens;
    const stop = spell(free.slice(2, 4));
    world.add(1, makeRequest(1, prompt, { maxTokens: 8, stop: [stop] }));
    await world.drain();
    const { tokens, finish } = world.received.get(1)!;
    expect(tokens).toEqual(free.slice(0, 4));
    expect(finish).toMatchObject({
      reason: "stop",
      stopReason: stop,
      usage: { completionTokens: 4 },
    });
  });

  test("blocks and seat of a request in a submitted step are kept until that step has committed", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 1 });
    const prompt = promptOf(6, 3, 50);
    const [first] = expectedOf(makeRequest(0, prompt), world.definition).tokens;
    world.add(1, makeRequest(1, prompt, { stopTokenIds: [first!] }));
    world.add(2, makeRequest(2, [1, 2]));
    world.submit();
    await world.commit();
    expect(world.received.get(1)!.finish?.reason).toBe("stop");
    expect(world.scheduler.pool.numUsed).toBe(2);
    expect(world.scheduler.schedule()).toBeUndefined();
    await world.commit();
    expect(world.scheduler.pool.numUsed).toBe(0);
    await world.drain();
    world.expectAsAlone(2);
  });

  test("max_tokens of 1 takes one step", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(6, 3, 50), { maxTokens: 1 }));
    await world.drain();
    world.expectAsAlone(1);
    expect(world.commits).toBe(1);
  });

  test("the step that reaches max_tokens leaves no surplus row behind", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, [1], { maxTokens: 2 }));
    world.submit();
    await world.commit();
    expect(world.submit()).toBe(false);
    await world.commit();
    expect(world.received.get(1)!.finish?.reason).toBe("length");
    expect(world.scheduler.pool.numUsed).toBe(0);
  });
});

describe("abort", () => {
  test("of a waiting request ends it at once", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 1 });
    world.add(1, makeRequest(1, [1]));
    world.add(2, makeRequest(2, [2]));
    world.submit();
    world.abort(2);
    expect(world.received.get(2)!.finish).toMatchObject({
      reason: "abort",
      usage: { promptTokens: 1, completionTokens: 0, cachedTokens: 0 },
    });
    await world.drain();
    world.expectAsAlone(1);
  });

  test("of a request in two submitted steps frees its blocks when the second has committed", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, promptOf(9, 1, 50)));
    world.submit();
    world.abort(1);
    expect(world.scheduler.pool.numUsed).toBe(3);
    expect(world.submit()).toBe(false);
    await world.commit();
    expect(world.scheduler.pool.numUsed).toBe(3);
    const last = await world.commit();
    expect(last.handles.length).toBe(0);
    expect(world.scheduler.pool.numUsed).toBe(0);
  });

  test("in the middle of a chunked prompt lets the next request in", async () => {
    const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 4, numBlocks: 10 });
    world.add(1, makeRequest(1, promptOf(30, 1, 50)));
    world.add(2, makeRequest(2, promptOf(30, 2, 50)));
    world.submit();
    await world.commit();
    world.abort(1);
    await world.drain();
    world.expectAsAlone(2);
  });

  test("of a request that has ended or never was changes nothing", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, [1], { maxTokens: 1 }));
    await world.drain();
    expect(world.scheduler.abort(1).handles.length).toBe(0);
    expect(world.scheduler.abort(77).handles.length).toBe(0);
  });
});

describe("a failed step", () => {
  test("fails the requests that were in it and no others", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 2 });
    for (const handle of [1, 2, 3])
      world.add(handle, makeRequest(handle, [handle], { maxTokens: 4 }));
    world.runner.failNextStep("a kernel fell over");
    world.submit();
    await world.commit();
    expect(world.received.get(1)!.finish).toMatchObject({
      reason: "error",
      error: { code: "internal", message: expect.stringContaining("a kernel fell over") },
    });
    expect(world.received.get(2)!.finish?.reason).toBe("error");
    await world.drain();
    world.expectAsAlone(3);
  });

  test("a result that belongs to another step is an error", async () => {
    const world = await World.create(ROOMY);
    world.add(1, makeRequest(1, [1]));
    world.submit();
    world.runner.finishStep();
    const result = await world.runner.next();
    expect(() => world.scheduler.commit({ ...result, stepId: 5 })).toThrow(
      "step 5 was committed, step 0 is the oldest submitted",
    );
  });
});

describe("refusals", () => {
  let world: World;

  beforeAll(async () => {
    world = await World.create({ ...ROOMY, numBlocks: 8, maxModelLen: 40 });
  });

  test.each([
    [0, 1, "invalid_request", "the prompt has no tokens"],
    [40, 1, "context_length_exceeded", "the prompt has 40 tokens; this model takes at most 39"],
    [30, 11, "context_length_exceeded", "41 together, at most 40 fit"],
    [30, 4, "context_length_exceeded", "9 KV blocks of 4 tokens, there are 8"],
    [3, 0, "invalid_request", "max_tokens is 0"],
    [3, 1.5, "invalid_request", "max_tokens is 1.5"],
  ] as const)(
    "a prompt of %p tokens with max_tokens %p is %s",
    (length, maxTokens, code, message) => {
      const request = makeRequest(1, promptOf(length, 1, 50), { maxTokens });
      expect(() => world.scheduler.add(1, request)).toThrow(message);
      expect(() => world.scheduler.add(1, request)).toThrow(expect.objectContaining({ code }));
      expect(world.scheduler.numUnfinished).toBe(0);
    },
  );

  test.each([[-1], [50]])("a prompt with token %p, outside the vocabulary, is refused", (token) => {
    expect(() => world.scheduler.add(1, makeRequest(1, [1, token]))).toThrow(
      `token 1 of the prompt is ${token}`,
    );
  });

  test.each([
    ["temperature is -1; allowed is 0 and more", { temperature: -1 }],
    ["temperature is NaN", { temperature: Number.NaN }],
    ["top_k is 1.5", { topK: 1.5 }],
    ["top_p is 0; allowed is above 0, up to 1", { topP: 0 }],
    ["min_p is 1.01", { minP: 1.01 }],
    ["seed is -1, 0", { seed: [-1, 0] as const }],
    ["choice is -1", { choice: -1 }],
    ["stop_token_ids is 50; allowed is 0 to 49", { stopTokenIds: [3, 50] }],
  ])("a sampling parameter out of range is refused: %s", (message, sampling) => {
    expect(() => world.scheduler.add(1, makeRequest(1, [1], sampling))).toThrow(message);
  });

  test("the largest request that fits is served", async () => {
    world.add(1, makeRequest(1, promptOf(30, 1, 50), { maxTokens: 3 }));
    await world.drain();
    world.expectAsAlone(1);
    const long = await World.create({ ...ROOMY, maxModelLen: 40 });
    long.add(1, makeRequest(1, promptOf(39, 1, 50), { maxTokens: 1 }));
    await long.drain();
    long.expectAsAlone(1);
  });

  test.each([
    [{ maxNumSeqs: 0 }, "maxNumSeqs is 0; allowed is 1 and more"],
    [{ maxNumBatchedTokens: 0.5 }, "maxNumBatchedTokens is 0.5"],
    [{ maxPrefillTokens: 0 }, "maxPrefillTokens is 0"],
    [{ maxSamples: 1 }, "maxSamples is 1; allowed is 2 and more"],
  ])("limits that are too small are refused by name: %p", (options, message) => {
    const tools = {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash("0"),
      now: () => 0,
    };
    expect(() => new Scheduler(schedulerOptions({ ...ROOMY, ...options }), tools)).toThrow(message);
  });
});
