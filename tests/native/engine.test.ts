/** The real device thread under the real engine: what a request answers depends on nothing but the request. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EngineConfig } from "../../engine/config.ts";
import { createEngineClient, type EngineClient } from "../../engine/engine-client.ts";
import { Engine } from "../../engine/engine.ts";
import type { Finish, GenerateRequest } from "../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import { startModel } from "../../engine/runner/native-runner.ts";
import { Scheduler, type SchedulerTools } from "../../engine/scheduler/scheduler.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import { createStopChecker, makeRequest, promptOf } from "../support/scheduler-world.ts";
import { TINY, writeTinyModel } from "../support/tiny-model.ts";

const TOOLS: SchedulerTools = {
  createStopChecker,
  hashBlocks,
  hashEach,
  noneHash: noneHash("0"),
  now: () => performance.now(),
};

let folder: string;
let modelPath: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kvengine-engine-"));
  modelPath = join(folder, "tiny.gguf");
  await writeTinyModel(modelPath, { dtype: "Q4_1" });
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** What an end has that does not depend on what else runs: not its time, nor what was cached. */
type End = Omit<Finish, "timing">;

function withoutCompany(finish: Finish): End {
  const { timing: _timing, ...end } = finish;
  return { ...end, usage: { ...end.usage, cachedTokens: 0 } };
}

interface Answer {
  readonly tokens: readonly number[];
  /** Bit for bit. */
  readonly logprobs: readonly number[];
  readonly finish: End | undefined;
}

interface Served {
  readonly answers: Answer[];
  /** Committed steps. */
  readonly steps: number;
}

/** Serves requests; `arrivals[i]` is the number of committed steps with news before request `i` comes. */
async function serve(
  requests: readonly GenerateRequest[],
  arrivals: readonly number[],
  options: {
    readonly threads: number;
    readonly maxPrefillTokens?: number;
    readonly backend?: EngineConfig["backend"];
    /** Default: the tiny model. */
    readonly modelPath?: string;
  },
): Promise<Served> {
  const { maxPrefillTokens, ...overrides } = options;
  const config = { ...ENGINE_CONFIG, modelPath, ...overrides };
  const { runner, limits, maxSamples } = await startModel(config);
  const scheduling = {
    ...config,
    limits,
    maxSamples,
    ...(maxPrefillTokens === undefined ? {} : { maxPrefillTokens }),
  };
  const scheduler = new Scheduler(scheduling, TOOLS);
  const answers = requests.map(
    (): { tokens: number[]; logprobs: number[]; finish: End | undefined } => ({
      tokens: [],
      logprobs: [],
      finish: undefined,
    }),
  );
  const done = Promise.withResolvers<void>();
  let commits = 0;
  let arrived = 0;
  let finished = 0;
  const arrive = (): void => {
    // When nothing runs the next request comes whatever its time: no step would bring it.
    while (arrived < requests.length && (arrivals[arrived]! <= commits || finished === arrived)) {
      engine.add(arrived, requests[arrived++]!);
    }
  };
  const engine = new Engine(scheduler, runner, (events) => {
    commits++;
    for (const [i, handle] of events.handles.entries()) {
      const from = events.tokenStart[i];
      const to = events.tokenStart[i + 1];
      answers[handle]!.tokens.push(...events.tokenIds.subarray(from, to));
      answers[handle]!.logprobs.push(...events.logprobs.subarray(from, to));
    }
    for (const { index, finish } of events.finishes)
      answers[events.handles[index]!]!.finish = withoutCompany(finish);
    finished += events.finishes.length;
    arrive();
    if (finished === requests.length) done.resolve();
  });
  const run = engine.run();
  arrive();
  await done.promise;
  // A sequence that ended early may stand in one more step.
  while (runner.queued > 0) await new Promise((resolve) => setImmediate(resolve));
  scheduler.checkIntegrity();
  expect(scheduler.pool.numUsed).toBe(0);
  const { steps } = scheduler.takeStats();
  await engine.stop();
  await run;
  return { answers, steps };
}

/** Sixteen requests, short and long, greedy and drawn, some with stop ids. */
const REQUESTS = Array.from({ length: 16 }, (_, i) =>
  makeRequest(i, promptOf([3, 17, 40, 150, 290][i % 5]! + i, i + 1, TINY.vocabSize), {
    maxTokens: 6 + ((i * 5) % 17),
    temperature: i % 2 === 0 ? 0 : 0.9,
    topK: i % 4 === 1 ? 20 : 0,
    seed: [i, 77],
    stopTokenIds: i % 3 === 0 ? [TINY.endOfText, TINY.imEnd, 40 + i] : [],
  }),
);
const ARRIVALS = [0, 0, 1, 1, 2, 4, 4, 5, 7, 8, 8, 11, 13, 14, 20, 21];

describe("one answer on the cpu backend", () => {
  let alone: Answer[];

  beforeAll(async () => {
    alone = [];
    for (const request of REQUESTS)
      alone.push(...(await serve([request], [0], { threads: 1 })).answers);
  });

  test("alone, every request ends and its log-probabilities are numbers below 0", () => {
    for (const [i, { tokens, logprobs, finish }] of alone.entries()) {
      expect(finish?.reason).toBeOneOf(["stop", "length"]);
      expect(tokens.length).toBeLessThanOrEqual(REQUESTS[i]!.sampling.maxTokens);
      expect(logprobs.every((logprob) => logprob <= 0 && Number.isFinite(logprob))).toBe(true);
    }
  });

  for (const threads of [1, 2, 3]) {
    for (const maxPrefillTokens of [1, 7, 64, undefined]) {
      test(`in a batch of 16, ${threads} threads, chunks of ${maxPrefillTokens ?? "all"}: the same bits`, async () => {
        const chunks = maxPrefillTokens === undefined ? {} : { maxPrefillTokens };
        const { answers, steps } = await serve(REQUESTS, ARRIVALS, { threads, ...chunks });
        expect(answers).toEqual(alone);
        const sum = alone.reduce((total, { finish }) => total + finish!.usage.completionTokens, 0);
        if (maxPrefillTokens === undefined) expect(steps).toBeLessThan(sum / 2);
      }, 60_000);
    }
  }
});

const defaultPath = defaultModelPath();
describe.skipIf(!existsSync(defaultPath))("on the default model (skipped without its file)", () => {
  /** SmolLM2's vocabulary; 2 ends a chat turn. */
  const requests = Array.from({ length: 16 }, (_, i) =>
    makeRequest(i, promptOf([3, 17, 40, 85][i % 4]! + i, i + 1, 49_152), {
      maxTokens: 4 + ((i * 5) % 13),
      temperature: i % 2 === 0 ? 0 : 0.9,
      seed: [i, 78],
      stopTokenIds: [2],
    }),
  );
  let alone: Answer[];

  beforeAll(async () => {
    alone = [];
    for (const request of requests) {
      const options = { threads: 1, modelPath: defaultPath };
      alone.push(...(await serve([request], [0], options)).answers);
    }
  }, 120_000);

  for (const [threads, maxPrefillTokens] of [
    [1, 64],
    [2, 1],
    [2, 7],
    [3, 600],
  ] as const) {
    test(`in a batch of 16, ${threads} threads, chunks of ${maxPrefillTokens}: the same bits`, async () => {
      const options = { threads, maxPrefillTokens, modelPath: defaultPath };
      expect((await serve(requests, ARRIVALS, options)).answers).toEqual(alone);
    }, 120_000);
  }
});

test("the reference backend, too, answers the same alone and in a batch", async () => {
  const requests = REQUESTS.slice(0, 5);
  const alone: Answer[] = [];
  for (const request of requests) {
    alone.push(...(await serve([request], [0], { threads: 1, backend: "reference" })).answers);
  }
  const together = await serve(requests, ARRIVALS, {
    threads: 1,
    backend: "reference",
    maxPrefillTokens: 33,
  });
  expect(together.answers).toEqual(alone);
}, 60_000);

test("a step that failed does not take the next one's other requests with it", async () => {
  const { runner, limits, maxSamples } = await startModel({ ...ENGINE_CONFIG, modelPath });
  const scheduler = new Scheduler({ ...ENGINE_CONFIG, limits, maxSamples }, TOOLS);
  const finishes = new Map<number, Finish>();
  const take = ({ handles, finishes: ended }: ReturnType<Scheduler["commit"]>): void => {
    for (const { index, finish } of ended) finishes.set(handles[index]!, finish);
  };
  scheduler.add(1, makeRequest(1, [5, 6, 7], { maxTokens: 4 }));
  const broken = scheduler.schedule()!;
  broken.words[0] = 99;
  runner.submit(broken);
  scheduler.add(2, makeRequest(2, [8, 9], { maxTokens: 1 }));
  const mixed = scheduler.schedule()!;
  expect(mixed.numRows).toBe(2);
  runner.submit(mixed);
  take(scheduler.commit(await runner.next()));
  take(scheduler.commit(await runner.next()));
  expect(finishes.get(1)).toMatchObject({ reason: "error", error: { code: "internal" } });
  expect(finishes.get(1)?.error?.message).toContain("version is 99");
  expect(finishes.get(2)?.reason).toBe("length");
  expect(scheduler.pool.numUsed).toBe(0);
  await runner.stop();
});

describe("the engine in its worker", () => {
  let client: EngineClient;

  beforeAll(async () => {
    client = await createEngineClient({ ...ENGINE_CONFIG, modelPath });
  });

  afterAll(() => client.shutdown(0));

  async function collect(request: GenerateRequest): Promise<Answer> {
    const tokens: number[] = [];
    const logprobs: number[] = [];
    let finish: End | undefined;
    for await (const event of client.generate(request)) {
      tokens.push(...event.tokenIds);
      logprobs.push(...event.logprobs);
      finish = event.finish === undefined ? undefined : withoutCompany(event.finish);
    }
    return { tokens, logprobs, finish };
  }

  test("says what it is", () => {
    expect(client.info).toMatchObject({
      modelName: "Tiny Test Model",
      maxModelLen: TINY.contextLength,
      vocabSize: TINY.vocabSize,
      blockSize: 16,
      numBlocks: 399,
      threads: 1,
    });
    expect(client.info.backend).toStartWith("cpu/");
    expect(client.info.kvBytes).toBeGreaterThan(0);
  });

  test("answers as the engine in this thread does", async () => {
    const { answers } = await serve(REQUESTS, ARRIVALS, { threads: 1 });
    expect(await Promise.all(REQUESTS.map(collect))).toEqual(answers);
  }, 60_000);

  test("a stop string ends the sequence at the token that completes it", async () => {
    const free = await collect(
      makeRequest(100, [60, 61, 62], { maxTokens: 24, temperature: 1, seed: [5, 5] }),
    );
    // Token ids from 3 to 258 stand for one byte each; the printable ASCII ones make a text without a tokenizer.
    const textOf = (token: number): string => {
      const byte = token - 3;
      return byte >= 0x21 && byte <= 0x7e ? String.fromCodePoint(byte) : "";
    };
    const at = free.tokens.findIndex((token) => textOf(token) !== "");
    expect(at).toBeGreaterThanOrEqual(0);
    const stop = textOf(free.tokens[at]!);
    const stopped = await collect(
      makeRequest(101, [60, 61, 62], { maxTokens: 24, temperature: 1, seed: [5, 5], stop: [stop] }),
    );
    expect(stopped.finish).toMatchObject({ reason: "stop", stopReason: stop });
    expect(stopped.tokens.length).toBeLessThanOrEqual(at + 1);
    expect(stopped.tokens).toEqual(free.tokens.slice(0, stopped.tokens.length));
  });

  test("a gone reader's blocks are free within a step", async () => {
    for await (const event of client.generate(makeRequest(200, [1, 2, 3], { maxTokens: 500 }))) {
      if (event.tokenIds.length > 0) break;
    }
    await collect(makeRequest(201, [1, 2, 3], { maxTokens: 4 }));
    expect(client.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
  });

  test("a model that is not there is an error of the start", async () => {
    const missing = join(folder, "missing.gguf");
    await expect(
      createEngineClient({ ...ENGINE_CONFIG, modelPath: missing }),
    ).rejects.toMatchObject({
      code: "bad_model",
    });
  });
});
