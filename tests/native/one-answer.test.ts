/**
 * The promise of one answer on real kernels: random company on tiny models (full attention, and windows beside it), with
 * penalties, bias, bad words, drafts, preemption and cache hits; every request gets the tokens and log-probabilities, bit for
 * bit, that it gets alone in an empty engine.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GenerateRequest, SamplingParams, TopLogprobs } from "../../engine/request.ts";
import type { RequestLimits } from "../../engine/request-limits.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import { type StartedModel, startModel } from "../../engine/runner/native-runner.ts";
import { Scheduler, type SchedulerOptions } from "../../engine/scheduler/scheduler.ts";
import type { StepEvents } from "../../engine/scheduler/step-events.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import { propertyRuns } from "../support/property-runs.ts";
import { createStopChecker, makeRequest, promptOf, requestId } from "../support/scheduler-world.ts";
import { TINY, writeTinyModel } from "../support/tiny-model.ts";

const MAX_NUM_SEQS = 6;
const MAX_TOKENS = 48;
const MAX_MODEL_LEN = 160;

let folder: string;
const models = new Map<string, StartedModel>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kvengine-one-answer-"));
  for (const kind of ["full", "hybrid"] as const) {
    const path = join(folder, `${kind}.gguf`);
    await writeTinyModel(path, { dtype: "Q4_1", hybrid: kind === "hybrid" });
    const config = {
      ...ENGINE_CONFIG,
      modelPath: path,
      threads: 2,
      maxNumSeqs: MAX_NUM_SEQS,
      maxNumBatchedTokens: MAX_TOKENS,
      maxModelLen: MAX_MODEL_LEN,
      numGpuBlocksOverride: 200,
    };
    models.set(kind, await startModel(config));
  }
});

afterAll(async () => {
  for (const { runner } of models.values()) await runner.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Answer {
  readonly tokens: number[];
  readonly logprobs: number[];
  readonly tops: TopLogprobs[];
  prompt: readonly number[] | undefined;
  reason: string | undefined;
}

/** One scheduler on a model's device thread. */
class Play {
  readonly answers: Map<number, Answer> = new Map();
  readonly scheduler: Scheduler;
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
    const answer = { tokens: [], logprobs: [], tops: [], prompt: undefined, reason: undefined };
    this.answers.set(handle, answer);
  }

  abort(handle: number): void {
    this.#take(this.scheduler.abort(handle));
  }

  submit(most = 2): void {
    while (this.#runner.queued < most) {
      const batch = this.scheduler.schedule();
      if (batch === undefined) return;
      this.#runner.submit(batch);
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
      answer.reason = events.finishes.find(({ index }) => index === i)?.finish.reason;
    }
  }
}

const sampling = fc.record({
  maxTokens: fc.integer({ min: 1, max: 24 }),
  temperature: fc.constantFrom(0, 0.8),
  topK: fc.constantFrom(0, 12),
  seed: fc.nat(100).map((low) => [low, 5] as const),
  stopTokenIds: fc.uniqueArray(fc.nat(TINY.vocabSize - 1), { maxLength: 3 }),
  minTokens: fc.constantFrom(0, 0, 4),
  repetitionPenalty: fc.constantFrom(1, 1, 1.3),
  presencePenalty: fc.constantFrom(0, 0, 0.7),
  frequencyPenalty: fc.constantFrom(0, 0, -0.5),
  logitBias: fc.constantFrom([], [[40, 3] as const, [41, -100] as const]),
  badWords: fc.constantFrom([], [[60], [61, 62]]),
  topLogprobs: fc.constantFrom(-1, -1, 3),
});

const arrival = fc.record({
  kind: fc.constant("arrive" as const),
  promptTokens: fc.integer({ min: 1, max: 90 }),
  salt: fc.nat(2),
  n: fc.constantFrom(1, 1, 1, 3),
  promptLogprobs: fc.constantFrom(-1, -1, -1, 2),
  sampling,
});

const step = fc.oneof(
  { weight: 3, arbitrary: arrival },
  {
    weight: 6,
    arbitrary: fc.constantFrom({ kind: "submit" as const }, { kind: "commit" as const }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("abort" as const), pick: fc.nat() }) },
);

const engine = fc.record({
  model: fc.constantFrom("full", "hybrid"),
  maxNumBatchedTokens: fc.integer({ min: 8, max: MAX_TOKENS }),
  maxPrefillTokens: fc.integer({ min: 1, max: MAX_TOKENS }),
  spareBlocks: fc.nat(12),
  speculative: fc.constantFrom("none" as const, "ngram" as const),
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
    schedulingPolicy: "fcfs",
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
  numBlocks: 199,
};

describe("one answer on real kernels", () => {
  test("tokens and log-probabilities are bit-identical to those alone in an empty engine", async () => {
    const seen = { preemptions: 0, prefixHits: 0, acceptedTokens: 0 };
    await fc.assert(
      fc.asyncProperty(
        engine,
        fc.array(step, { maxLength: 40, size: "max" }),
        async (choice, steps) => {
          const model = models.get(choice.model)!;
          // A run that failed may have left steps behind.
          while (model.runner.queued > 0) await model.runner.next();
          const numGroups = model.limits.groups.length;
          const numBlocks =
            numGroups * Math.ceil(114 / model.limits.blockSize) + choice.spareBlocks;
          const { model: _, spareBlocks: __, ...shape } = choice;
          const play = new Play(model, options(model, { ...shape, numBlocks }));
          const requests: GenerateRequest[] = [];
          const aborted = new Set<number>();
          for (const one of steps) {
            if (one.kind === "arrive") {
              const first = requests.length;
              for (let n = 0; n < one.n; n++) {
                const prompt = promptOf(one.promptTokens, one.salt, TINY.vocabSize);
                const params: Partial<SamplingParams> = {
                  ...one.sampling,
                  minTokens: Math.min(one.sampling.minTokens, one.sampling.maxTokens),
                  choice: n,
                  promptLogprobs: n === 0 ? one.promptLogprobs : -1,
                };
                const leader = n === 0 ? {} : { leader: requestId(first) };
                const request = makeRequest(first + n, prompt, params, leader);
                play.add(first + n, request);
                requests.push(request);
              }
            } else if (one.kind === "submit") play.submit();
            else if (one.kind === "commit") await play.commit();
            else if (requests.length > 0) {
              const handle = one.pick % requests.length;
              if (play.answers.get(handle)!.reason === undefined) aborted.add(handle);
              play.abort(handle);
            }
          }
          await play.drain();
          const stats = play.scheduler.takeStats();
          seen.preemptions += stats.preemptions;
          seen.prefixHits += stats.prefixHits;
          seen.acceptedTokens += stats.acceptedTokens;
          for (const [handle, request] of requests.entries()) {
            if (aborted.has(handle)) continue;
            const alone = new Play(model, options(model, ROOMY));
            alone.add(0, { ...request, id: "alone" });
            await alone.drain();
            expect(play.answers.get(handle)!).toEqual(alone.answers.get(0)!);
          }
        },
      ),
      propertyRuns(50),
    );
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(0);
  }, 600_000);
});
