/**
 * The promise of one answer on real kernels: random company on tiny models (full attention, and windows beside it; blocks of two
 * sizes), with penalties, bias, bad words, stop strings, drafts, priorities, salts, resets, failed steps, preemption and cache hits;
 * every request gets the tokens and log-probabilities, bit for bit, that it gets alone in an empty engine.
 */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GenerateRequest, SamplingParams, TopLogprobs } from "../../engine/request.ts";
import type { RequestLimits } from "../../engine/request-limits.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import { type StartedModel, startModel } from "../../engine/runner/native-runner.ts";
import { ScheduledBatch } from "../../engine/scheduler/batch.ts";
import { Scheduler, type SchedulerOptions } from "../../engine/scheduler/scheduler.ts";
import type { StepEvents } from "../../engine/scheduler/step-events.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import { FEW_PROPERTY_RUNS, PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import { randomSampling } from "../support/random-sampling.ts";
import {
  createStopChecker,
  makeRequest,
  promptOf,
  requestId,
  spell,
} from "../support/scheduler-world.ts";
import { TINY, writeTinyModel } from "../support/tiny-model.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const MAX_NUM_SEQS = 6;
const MAX_TOKENS = 48;
const MAX_MODEL_LEN = 160;
const NUM_BLOCKS = 400;

/** 16 tokens are the fewest that the kernels take. */
const MODELS = [
  { hybrid: false, blockSize: 16 },
  { hybrid: true, blockSize: 16 },
  { hybrid: true, blockSize: 32 },
] as const;

let folder: string;
const models: StartedModel[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kvengine-one-answer-"));
  for (const { hybrid, blockSize } of MODELS) {
    const path = join(folder, `${hybrid}.gguf`);
    await writeTinyModel(path, { dtype: "Q4_1", hybrid });
    const config = {
      ...ENGINE_CONFIG,
      modelPath: path,
      threads: 2,
      blockSize,
      maxNumSeqs: MAX_NUM_SEQS,
      maxNumBatchedTokens: MAX_TOKENS,
      maxModelLen: MAX_MODEL_LEN,
      numGpuBlocksOverride: NUM_BLOCKS + 1,
    };
    models.push(await startModel(config));
  }
});

afterAll(async () => {
  for (const { runner } of models) await runner.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Answer {
  readonly tokens: number[];
  readonly logprobs: number[];
  readonly tops: TopLogprobs[];
  prompt: readonly number[] | undefined;
  reason: string | undefined;
  error: string | undefined;
}

/** One scheduler on a model's device thread. */
class Play {
  readonly answers: Map<number, Answer> = new Map();
  readonly scheduler: Scheduler;
  /** The next submitted step is refused by the device. */
  failsNext = false;
  readonly #runner: StartedModel["runner"];

  constructor(model: StartedModel, options: SchedulerOptions) {
    this.#runner = model.runner;
    this.scheduler = new Scheduler(options, {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash("0"),
      now: () => 1,
    });
  }

  add(handle: number, request: GenerateRequest): void {
    this.scheduler.add(handle, request);
    const answer = { tokens: [], logprobs: [], tops: [], prompt: undefined };
    const end = { reason: undefined, error: undefined };
    this.answers.set(handle, { ...answer, ...end });
  }

  abort(handle: number): void {
    this.#take(this.scheduler.abort(handle));
  }

  submit(most = 2): void {
    while (this.#runner.queued < most) {
      const batch = this.scheduler.schedule();
      if (batch === undefined) return;
      if (this.failsNext) this.#submitUnreadable(batch);
      else this.#runner.submit(batch);
      this.failsNext = false;
    }
  }

  async commit(): Promise<boolean> {
    if (this.#runner.queued === 0) return false;
    this.#take(this.scheduler.commit(await this.#runner.next()));
    this.scheduler.checkIntegrity();
    return true;
  }

  async drain(): Promise<void> {
    do this.submit();
    while (await this.commit());
    expect(this.scheduler.numUnfinished).toBe(0);
    expect(this.scheduler.pool.numUsed).toBe(0);
  }

  #submitUnreadable({ stepId, opened, words }: ScheduledBatch): void {
    const unreadable = new ScheduledBatch(0);
    unreadable.stepId = stepId;
    unreadable.opened.push(...opened);
    // No version of the layout.
    unreadable.words = Int32Array.of(-1, ...words.subarray(1));
    this.#runner.submit(unreadable);
  }

  #take(events: StepEvents): void {
    for (const [i, handle] of events.handles.entries()) {
      const answer = this.answers.get(handle)!;
      const from = events.tokenStart[i]!;
      const to = events.tokenStart[i + 1]!;
      answer.tokens.push(...events.tokenIds.subarray(from, to));
      answer.logprobs.push(...events.logprobs.subarray(from, to));
      for (const { index, top } of events.tops)
        if (index >= from && index < to) answer.tops.push(top);
      answer.prompt ??= events.prompts.find(({ index }) => index === i)?.logprobs.logprobs;
      const finish = events.finishes.find(({ index }) => index === i)?.finish;
      answer.reason = finish?.reason;
      answer.error = finish?.error?.message;
    }
  }
}

const arrival = fc.record({
  kind: fc.constant("arrive" as const),
  promptTokens: fc.integer({ min: 1, max: 90 }),
  salt: fc.nat(2),
  /** From here on the prompt is its own. */
  sharedTokens: fc.integer({ min: 0, max: 90 }),
  priority: fc.integer({ min: -1, max: 1 }),
  cacheSalt: fc.constantFrom(undefined, undefined, undefined, "a", "b"),
  /** Output index at which a stop string of two tokens ends, if it is reached. */
  stopStringAt: fc.option(fc.integer({ min: 1, max: 20 }), { freq: 3, nil: undefined }),
  n: fc.constantFrom(1, 1, 1, 3),
  promptLogprobs: fc.constantFrom(-1, -1, -1, 2),
  sampling: randomSampling,
});

const step = fc.oneof(
  { weight: 3, arbitrary: arrival },
  {
    weight: 6,
    arbitrary: fc.constantFrom({ kind: "submit" as const }, { kind: "commit" as const }),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom({ kind: "reset" as const }, { kind: "fail" as const }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("abort" as const), pick: fc.nat() }) },
);

type Arrival = typeof arrival extends fc.Arbitrary<infer T> ? T : never;
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const engine = fc.record({
  model: fc.nat(MODELS.length - 1),
  maxNumBatchedTokens: fc.integer({ min: 8, max: MAX_TOKENS }),
  maxPrefillTokens: fc.integer({ min: 1, max: MAX_TOKENS }),
  spareBlocks: fc.nat(12),
  speculative: fc.constantFrom("none" as const, "ngram" as const),
  schedulingPolicy: fc.constantFrom("fcfs" as const, "priority" as const),
});

function options(
  { limits }: StartedModel,
  choice: { [K in keyof typeof ROOMY]: (typeof ROOMY)[K] },
): SchedulerOptions {
  const { numBlocks, ...rest } = choice;
  return {
    ...rest,
    maxNumSeqs: MAX_NUM_SEQS,
    maxSamples: MAX_NUM_SEQS + 32,
    tpotSlo: 0,
    enablePrefixCaching: true,
    speculativeTokens: 5,
    speculativeNgram: [1, 3],
    limits: { ...limits, numBlocks } satisfies RequestLimits,
  };
}

/** What a request runs in when it is alone. */
const ROOMY = {
  maxNumBatchedTokens: MAX_TOKENS,
  maxPrefillTokens: MAX_TOKENS,
  speculative: "none" as "none" | "ngram",
  schedulingPolicy: "fcfs" as "fcfs" | "priority",
  numBlocks: NUM_BLOCKS,
};

/** The requests of one arrival, one for each choice; `first` is the handle of the first. */
function requestsOf(one: Arrival, first: number): GenerateRequest[] {
  const shared = promptOf(one.promptTokens, one.salt, TINY.vocabSize);
  const own = promptOf(one.promptTokens, first + 5, TINY.vocabSize);
  const prompt = shared.map((token, i) => (i < one.sharedTokens ? token : own[i]!));
  return Array.from({ length: one.n }, (_, choice) => {
    const params: Partial<SamplingParams> = {
      ...one.sampling,
      minTokens: Math.min(one.sampling.minTokens, one.sampling.maxTokens),
      choice,
      promptLogprobs: choice === 0 ? one.promptLogprobs : -1,
    };
    return makeRequest(first + choice, prompt, params, {
      priority: one.priority,
      ...(one.cacheSalt === undefined ? {} : { cacheSalt: one.cacheSalt }),
      ...(choice === 0 ? {} : { leader: requestId(first) }),
    });
  });
}

async function answerAlone(model: StartedModel, request: GenerateRequest): Promise<Answer> {
  const alone = new Play(model, options(model, ROOMY));
  alone.add(0, request);
  await alone.drain();
  return alone.answers.get(0)!;
}

/** The request with a stop string that ends at output `index`, and what of its answer comes before the end. */
function stoppedAt(
  request: GenerateRequest,
  alone: Answer,
  index: number | undefined,
): [GenerateRequest, Answer] {
  const { tokens } = alone;
  if (index === undefined || index >= tokens.length) return [request, alone];
  const stop = [spell(tokens.slice(index - 1, index + 1))];
  const check = createStopChecker(stop);
  const end = tokens.findIndex((token) => check(token) !== undefined) + 1;
  return [
    { ...request, sampling: { ...request.sampling, stop } },
    { ...alone, ...cut(alone, end), reason: "stop" },
  ];
}

function cut({ tokens, logprobs, tops }: Answer, end: number): Partial<Answer> {
  return {
    tokens: tokens.slice(0, end),
    logprobs: logprobs.slice(0, end),
    tops: tops.slice(0, end),
  };
}

describe("one answer on real kernels", () => {
  test(
    "tokens and log-probabilities are bit-identical to those alone in an empty engine",
    async () => {
      const seen = { preemptions: 0, prefixHits: 0, acceptedTokens: 0, failed: 0, stopped: 0 };
      await fc.assert(
        fc.asyncProperty(
          engine,
          fc.array(step, { maxLength: 40, size: "max" }),
          async (choice, steps) => {
            const model = models[choice.model]!;
            // A run that failed may have left steps behind.
            while (model.runner.queued > 0) await model.runner.next();
            const requests: GenerateRequest[] = [];
            const expected: Answer[] = [];
            for (const one of steps) {
              if (one.kind !== "arrive") continue;
              for (const plain of requestsOf(one, requests.length)) {
                const alone = await answerAlone(model, plain);
                const [request, answer] = stoppedAt(plain, alone, one.stopStringAt);
                requests.push(request);
                expected.push(answer);
                if (request !== plain) seen.stopped++;
              }
            }
            const { blockSize, groups } = model.limits;
            const { model: _, spareBlocks, ...shape } = choice;
            const numBlocks = groups.length * Math.ceil(114 / blockSize) + spareBlocks;
            const play = new Play(model, options(model, { ...shape, numBlocks }));
            const aborted = await playSteps(play, steps, requests);
            const stats = play.scheduler.takeStats();
            seen.preemptions += stats.preemptions;
            seen.prefixHits += stats.prefixHits;
            seen.acceptedTokens += stats.acceptedTokens;
            for (const [handle, alone] of expected.entries()) {
              const answer = play.answers.get(handle)!;
              if (answer.reason !== "error" && !aborted.has(handle)) {
                expect(answer).toEqual(alone);
                continue;
              }
              if (answer.reason === "error") {
                expect(answer.error).toContain("version");
                seen.failed++;
              }
              expect(cut(answer, Infinity)).toEqual(cut(alone, answer.tokens.length));
            }
          },
        ),
        propertyRuns(50),
      );
      for (const [what, count] of Object.entries(seen))
        if (!FEW_PROPERTY_RUNS) expect([what, count > 0]).toEqual([what, true]);
    },
    PROPERTY_LIMIT_MS,
  );
});

/** Plays the steps and serves what is left. Answers the handles that were aborted before they had ended. */
async function playSteps(
  play: Play,
  steps: readonly Step[],
  requests: readonly GenerateRequest[],
): Promise<Set<number>> {
  const aborted = new Set<number>();
  let arrived = 0;
  for (const one of steps) {
    switch (one.kind) {
      case "arrive":
        for (let n = 0; n < one.n; n++) play.add(arrived, requests[arrived++]!);
        break;
      case "submit":
        play.submit();
        break;
      case "commit":
        await play.commit();
        break;
      case "reset":
        play.scheduler.resetPrefixCache();
        break;
      case "fail":
        play.failsNext = true;
        break;
      case "abort": {
        const handle = one.pick % Math.max(1, arrived);
        if (play.answers.get(handle)?.reason === undefined) aborted.add(handle);
        play.abort(handle);
        break;
      }
    }
  }
  await play.drain();
  return aborted;
}
