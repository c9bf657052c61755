import { describe, expect, test } from "bun:test";
import { Engine } from "../../../engine/engine.ts";
import type { Finish } from "../../../engine/request.ts";
import type { StepResult } from "../../../engine/scheduler/batch.ts";
import { Scheduler } from "../../../engine/scheduler/scheduler.ts";
import { FakeRunner, type FakeRunnerOptions } from "../../support/fake-runner.ts";
import {
  createStopChecker,
  expectedOf,
  makeRequest,
  promptOf,
} from "../../support/scheduler-world.ts";

const VOCABULARY = 50;
const KV = { vocabSize: VOCABULARY, numGroups: 1 };

interface Bench {
  readonly engine: Engine;
  readonly runner: FakeRunner;
  readonly scheduler: Scheduler;
  readonly tokens: Map<number, number[]>;
  readonly finishes: Map<number, Finish>;
  /** Resolves when so many requests have ended. */
  readonly ended: (count: number) => Promise<void>;
}

function bench(
  options: Partial<FakeRunnerOptions> = {},
  runnerOf = (o: FakeRunnerOptions) => new FakeRunner(o),
): Bench {
  const shape = { maxRows: 4, maxTokens: 32, blockSize: 4, numBlocks: 65, ...KV, ...options };
  const limits = { maxModelLen: 200, blockSize: 4, numBlocks: shape.numBlocks - 1, ...KV };
  const scheduler = new Scheduler(
    { maxNumSeqs: shape.maxRows, maxNumBatchedTokens: shape.maxTokens, limits },
    createStopChecker,
  );
  const runner = runnerOf(shape);
  const tokens = new Map<number, number[]>();
  const finishes = new Map<number, Finish>();
  let waiting: { count: number; resolve: () => void } | undefined;
  const engine = new Engine(scheduler, runner, (events) => {
    for (const [i, handle] of events.handles.entries()) {
      const news = events.tokenIds.subarray(events.tokenStart[i], events.tokenStart[i + 1]);
      tokens.set(handle, [...(tokens.get(handle) ?? []), ...news]);
    }
    for (const { index, finish } of events.finishes) finishes.set(events.handles[index]!, finish);
    if (waiting !== undefined && finishes.size >= waiting.count) waiting.resolve();
  });
  const ended = (count: number): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting = { count, resolve };
    if (finishes.size >= count) resolve();
    return promise;
  };
  return { engine, runner, scheduler, tokens, finishes, ended };
}

/** Lets everything that can go on go on. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

describe("engine", () => {
  test("serves requests that arrive while others run, each as if alone", async () => {
    const { engine, tokens, finishes, ended, scheduler } = bench();
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
      expect({ tokens: tokens.get(handle)!, finish: finishes.get(handle)! }).toEqual(
        expectedOf(request, KV),
      );
    }
    await engine.stop();
    await run;
    expect(scheduler.pool.numUsed).toBe(0);
  });

  test("keeps two steps submitted", async () => {
    const { engine, runner } = bench({ manual: true });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1, 2, 3], { maxTokens: 6 }));
    expect(runner.queued).toBe(2);
    runner.finishStep();
    await settle();
    expect(runner.queued).toBe(2);
    await engine.stop();
    await run;
  });

  test("an idle engine makes no calls and wakes for the next request", async () => {
    const { engine, runner, ended } = bench();
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
    const { engine, runner, tokens, finishes, ended } = bench();
    const run = engine.run();
    runner.failNextStep("out of luck");
    engine.add(1, makeRequest(1, [1]));
    await ended(1);
    expect(finishes.get(1)).toMatchObject({
      reason: "error",
      error: { code: "internal", message: "out of luck" },
    });
    const request = makeRequest(2, [2, 3]);
    engine.add(2, request);
    await ended(2);
    expect(tokens.get(2)).toEqual(expectedOf(request, KV).tokens);
    await engine.stop();
    await run;
  });

  test("an abort is published at once and lets the next request in", async () => {
    const { engine, runner, tokens, finishes, ended } = bench({ manual: true, maxRows: 1 });
    const run = engine.run();
    const second = makeRequest(2, [2, 3], { maxTokens: 1 });
    engine.add(1, makeRequest(1, [1]));
    engine.add(2, second);
    engine.abort(1);
    expect(finishes.get(1)?.reason).toBe("abort");
    for (let step = 0; step < 3; step++) {
      runner.finishStep();
      await settle();
    }
    await ended(2);
    expect(tokens.get(2)).toEqual(expectedOf(second, KV).tokens);
    await engine.stop();
    await run;
  });

  test("stop ends what runs as aborted, stops the runner, and refuses what comes after", async () => {
    const { engine, runner, finishes } = bench({ manual: true });
    const run = engine.run();
    engine.add(1, makeRequest(1, [1]));
    await engine.stop();
    await run;
    expect(finishes.get(1)?.reason).toBe("abort");
    expect(runner.stopped).toBe(true);
    expect(() => engine.add(2, makeRequest(2, [1]))).toThrow("the engine is stopping");
  });

  test("a result out of order ends the engine, and every request hears of it", async () => {
    class Confused extends FakeRunner {
      override async next(): Promise<StepResult> {
        return { ...(await super.next()), stepId: 99 };
      }
    }
    const { engine, finishes } = bench({}, (options) => new Confused(options));
    const run = engine.run();
    engine.add(1, makeRequest(1, [1]));
    engine.add(2, makeRequest(2, [1]));
    await expect(run).rejects.toThrow("result of step 99, expected 0");
    expect(finishes.get(1)).toMatchObject({ reason: "error", error: { code: "internal" } });
    expect(finishes.get(2)?.reason).toBe("error");
  });
});
