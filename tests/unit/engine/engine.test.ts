import { describe, expect, test } from "bun:test";
import { Engine, type Publish } from "../../../engine/engine.ts";
import { MAX_AHEAD, ReadAhead, weightOf } from "../../../engine/read-ahead.ts";
import type { EngineStats, Finish } from "../../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../../engine/runner/native.ts";
import type { StepResult } from "../../../engine/scheduler/batch.ts";
import { Scheduler } from "../../../engine/scheduler/scheduler.ts";
import {
  answerOf,
  createStopChecker,
  expectedOf,
  FULL,
  makeRequest,
  promptOf,
  schedulerOptions,
} from "../../support/scheduler-world.ts";
import { WitnessRunner } from "../../support/witness-runner.ts";

const VOCABULARY = 50;
const DEFINITION = { vocabSize: VOCABULARY, groups: [FULL] };

/** A message of the engine. */
interface Published {
  readonly numRequests: number;
  readonly stats: EngineStats;
  /** Steps that were submitted at that moment. */
  readonly queued: number;
}

interface Bench {
  readonly engine: Engine;
  readonly runner: WitnessRunner;
  readonly scheduler: Scheduler;
  readonly tokens: Map<number, number[]>;
  readonly finishes: Map<number, Finish>;
  readonly published: Published[];
  /** Resolves when so many requests have ended. */
  readonly ended: (count: number) => Promise<void>;
}

async function bench(
  options: {
    readonly manual?: boolean;
    readonly maxNumSeqs?: number;
    readonly readAhead?: ReadAhead;
  } = {},
  change: (runner: WitnessRunner) => void = () => {},
): Promise<Bench> {
  const { maxNumSeqs = 4, manual = false, readAhead } = options;
  const scheduling = schedulerOptions({
    maxNumSeqs,
    maxNumBatchedTokens: 32,
    blockSize: 4,
    numBlocks: 64,
    maxModelLen: 200,
    vocabSize: VOCABULARY,
  });
  const scheduler = new Scheduler(scheduling, {
    createStopChecker,
    hashBlocks,
    hashEach,
    noneHash: noneHash("0"),
    now: () => 1,
  });
  const runner = await WitnessRunner.create({
    maxRows: maxNumSeqs,
    maxTokens: 32,
    maxSamples: scheduling.maxSamples,
    maxModelLen: 200,
    blockSize: 4,
    numBlocks: 65,
    groups: [FULL],
    vocabSize: VOCABULARY,
    manual,
  });
  change(runner);
  const tokens = new Map<number, number[]>();
  const finishes = new Map<number, Finish>();
  let waiting: { count: number; resolve: () => void } | undefined;
  const published: Published[] = [];
  const publish: Publish = (events, stats) => {
    readAhead?.sent(weightOf(events));
    published.push({ numRequests: events.handles.length, stats, queued: runner.queued });
    for (const [i, handle] of events.handles.entries()) {
      const news = events.tokenIds.subarray(events.tokenStart[i], events.tokenStart[i + 1]);
      tokens.set(handle, [...(tokens.get(handle) ?? []), ...news]);
    }
    for (const { index, finish } of events.finishes) finishes.set(events.handles[index]!, finish);
    if (waiting !== undefined && finishes.size >= waiting.count) waiting.resolve();
  };
  const engine = new Engine(scheduler, runner, publish, { readAhead });
  const ended = (count: number): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting = { count, resolve };
    if (finishes.size >= count) resolve();
    return promise;
  };
  return { engine, runner, scheduler, tokens, finishes, published, ended };
}

/** Lets other threads' messages in until something is so. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets everything that can go on without another thread go on. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

describe("engine", () => {
  test("serves requests that arrive while others run, each as if alone", async () => {
    const { engine, tokens, finishes, ended, scheduler } = await bench();
    const run = engine.run();
    const requests = Array.from({ length: 12 }, (_, i) =>
      makeRequest(i, promptOf(3 + i * 4, i, VOCABULARY), { maxTokens: 1 + (i % 7) }),
    );
    for (const [handle, request] of requests.entries()) {
      engine.add(handle, request);
      if (handle % 3 === 0) await settle();
    }
    await ended(12);
    for (const [handle, request] of requests.entries()) {
      const finish = finishes.get(handle);
      expect(answerOf({ tokens: tokens.get(handle)!, finish })).toEqual(
        expectedOf(request, DEFINITION),
      );
    }
    await engine.stop();
    await run;
    expect(scheduler.pool.numUsed).toBe(0);
  });

  test("keeps two steps submitted", async () => {
    const { engine, runner } = await bench({ manual: true });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1, 2, 3], { maxTokens: 6 }));
    expect(runner.queued).toBe(2);
    runner.finishStep();
    await until(() => runner.seen.length === 3);
    expect(runner.queued).toBe(2);
    await engine.stop();
    await run;
  });

  test("the device gets its next step before anybody reads about the last one", async () => {
    const { engine, published, ended } = await bench();
    const run = engine.run();
    engine.add(1, makeRequest(1, [1, 2, 3], { maxTokens: 6 }));
    await ended(1);
    const withTokens = published.filter(({ numRequests }) => numRequests > 0);
    // Five tokens follow the first: two steps are submitted while there are two more to compute.
    expect(withTokens.map(({ queued }) => queued)).toEqual([2, 2, 2, 2, 1, 0]);
    await engine.stop();
    await run;
  });

  test("waits while it is ahead of those who read, goes on as they take, and ends requests meanwhile", async () => {
    const readAhead = new ReadAhead();
    const { engine, runner, published, finishes, ended } = await bench({ readAhead });
    // As if so much had been sent already.
    readAhead.sent(MAX_AHEAD);
    const run = engine.run();
    for (const handle of [1, 2])
      engine.add(handle, makeRequest(handle, [handle], { maxTokens: 9 }));
    await until(() => published.some(({ numRequests }) => numRequests > 0));
    await settle();
    // No result is asked for.
    expect(runner.numPending).toBe(2);
    const numSteps = (): number => published.filter(({ numRequests }) => numRequests > 0).length;
    expect(numSteps()).toBe(1);
    engine.abort(2);
    expect(finishes.get(2)?.reason).toBe("abort");
    expect(numSteps()).toBe(2);
    readAhead.taken(MAX_AHEAD);
    await ended(2);
    expect(finishes.get(1)?.usage.completionTokens).toBe(9);
    await engine.stop();
    await run;
  });

  test("numbers are told as prompts come, wait and take blocks, before anybody has a token", async () => {
    const { engine, runner, published, finishes } = await bench({ manual: true });
    const run = engine.run();
    const told = (): Partial<EngineStats> => {
      const { running, waiting, usedBlocks } = published.at(-1)!.stats;
      return { running, waiting, usedBlocks };
    };
    engine.add(1, makeRequest(1, promptOf(100, 1, VOCABULARY)));
    expect(told()).toEqual({ running: 1, waiting: 0, usedBlocks: 16 });
    engine.add(2, makeRequest(2, promptOf(100, 2, VOCABULARY)));
    expect(told()).toEqual({ running: 1, waiting: 1, usedBlocks: 16 });
    for (const numbers of [
      { running: 1, waiting: 1, usedBlocks: 24 },
      { running: 2, waiting: 0, usedBlocks: 32 },
    ]) {
      runner.finishStep();
      const { length } = published;
      await until(() => published.length > length);
      expect(told()).toEqual(numbers);
    }
    expect(published.every(({ numRequests }) => numRequests === 0)).toBe(true);
    engine.abort(1);
    engine.abort(2);
    expect(finishes.size).toBe(2);
    await engine.stop();
    await run;
    // Nobody is told what is known.
    for (const [i, { numRequests, stats, queued }] of published.entries()) {
      const before = published[i - 1]?.stats;
      if (numRequests > 0 || queued === 0 || before === undefined) continue;
      const { running, waiting, usedBlocks } = stats;
      expect(before).not.toMatchObject({ running, waiting, usedBlocks });
    }
  });

  test("a step that changes no number is told to nobody", async () => {
    const { engine, runner, published } = await bench({ manual: true });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1], { maxTokens: 3 }));
    const { length } = published;
    engine.add(2, makeRequest(2, promptOf(40, 1, VOCABULARY)));
    engine.news();
    engine.news();
    expect(published.length).toBe(length + 1);
    await engine.stop();
    await run;
    expect(runner.stopped).toBe(true);
  });

  test("an idle engine makes no calls and wakes for the next request", async () => {
    const { engine, runner, ended } = await bench();
    const run = engine.run();
    await settle();
    expect(runner.calls).toBe(0);
    engine.add(1, makeRequest(1, [1], { maxTokens: 2 }));
    await ended(1);
    await settle();
    const { calls } = runner;
    await settle();
    expect(runner.calls).toBe(calls);
    engine.add(2, makeRequest(2, [2], { maxTokens: 2 }));
    await ended(2);
    expect(runner.calls).toBeGreaterThan(calls);
    await engine.stop();
    await run;
  });

  test("a failed step fails its requests and the engine serves on", async () => {
    const { engine, runner, tokens, finishes, ended } = await bench();
    const run = engine.run();
    runner.failNextStep("out of luck");
    engine.add(1, makeRequest(1, [1]));
    await ended(1);
    expect(finishes.get(1)).toMatchObject({
      reason: "error",
      error: { code: "internal", message: expect.stringContaining("out of luck") },
    });
    const request = makeRequest(2, [2, 3]);
    engine.add(2, request);
    await ended(2);
    expect(tokens.get(2)).toEqual([...expectedOf(request, DEFINITION).tokens]);
    await engine.stop();
    await run;
  });

  test("an abort is published at once and lets the next request in", async () => {
    const { engine, runner, tokens, finishes, ended } = await bench({
      manual: true,
      maxNumSeqs: 1,
    });
    const run = engine.run();
    const second = makeRequest(2, [2, 3], { maxTokens: 1 });
    engine.add(1, makeRequest(1, [1]));
    engine.add(2, second);
    engine.abort(1);
    expect(finishes.get(1)?.reason).toBe("abort");
    for (let step = 0; step < 3; step++) {
      await until(() => runner.numPending > 0);
      runner.finishStep();
    }
    await ended(2);
    expect(tokens.get(2)).toEqual([...expectedOf(second, DEFINITION).tokens]);
    await engine.stop();
    await run;
  });

  test("stop ends what runs as aborted, stops the runner, and refuses what comes after", async () => {
    const { engine, runner, finishes } = await bench({ manual: true });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1]));
    await engine.stop();
    await run;
    expect(finishes.get(1)?.reason).toBe("abort");
    expect(runner.stopped).toBe(true);
    expect(() => engine.add(2, makeRequest(2, [1]))).toThrow("the engine is stopping");
  });

  test("a device that is lost ends the engine, and every request hears of it", async () => {
    const lost = { code: "device_lost", message: "cuda:0: a step has failed" };
    const { engine, finishes } = await bench({ maxNumSeqs: 1 }, (runner) => {
      const next = runner.next.bind(runner);
      runner.next = async (): Promise<StepResult> => ({ ...(await next()), error: lost });
    });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1]));
    engine.add(2, makeRequest(2, [1]));
    await expect(run).rejects.toMatchObject(lost);
    for (const request of [1, 2])
      expect(finishes.get(request)).toMatchObject({ reason: "error", error: lost });
    expect(() => engine.add(3, makeRequest(3, [1]))).toThrow("the engine is stopping");
  });

  test("a result out of order ends the engine, and every request hears of it", async () => {
    const { engine, finishes } = await bench({}, (runner) => {
      const next = runner.next.bind(runner);
      runner.next = async (): Promise<StepResult> => ({ ...(await next()), stepId: 99 });
    });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1]));
    engine.add(2, makeRequest(2, [1]));
    await expect(run).rejects.toThrow("step 99 was committed, step 0 is the oldest submitted");
    expect(finishes.get(1)).toMatchObject({ reason: "error", error: { code: "internal" } });
    expect(finishes.get(2)?.reason).toBe("error");
  });
});
