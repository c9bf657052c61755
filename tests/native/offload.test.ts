/**
 * Offload on real kernels with real threads: pages of a tiny model's KV leave the device and come back while others compute, and every
 * request gets the tokens and log-probabilities, bit for bit, that it gets alone in an empty engine.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import * as fc from "fast-check";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { ConnectorHost } from "../../engine/connectors/connector-host.ts";
import { joinScheduler } from "../../engine/connectors/join-scheduler.ts";
import type { KvConnectors } from "../../engine/connectors/kv-connectors.ts";
import type { GenerateRequest } from "../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import { type StartedModel, startModel } from "../../engine/runner/native-runner.ts";
import type { NativeTransfers } from "../../engine/runner/native-transfers.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import { propertyRuns } from "../support/property-runs.ts";
import { createStopChecker, makeRequest, promptOf } from "../support/scheduler-world.ts";
import { TINY, writeTinyModel } from "../support/tiny-model.ts";

const MAX_NUM_SEQS = 4;
const MAX_TOKENS = 64;
/** Blocks that a request of 96 prompt tokens and 8 of output needs in each group, at 16 tokens a block. */
const LARGEST = 7;

let folder: string;
const models = new Map<string, StartedModel>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kvengine-offload-"));
  for (const kind of ["full", "hybrid"] as const) {
    const path = join(folder, `${kind}.gguf`);
    await writeTinyModel(path, { dtype: "Q4_1", hybrid: kind === "hybrid" });
    const config = {
      ...ENGINE_CONFIG,
      modelPath: path,
      maxNumSeqs: MAX_NUM_SEQS,
      maxNumBatchedTokens: MAX_TOKENS,
      maxModelLen: 128,
      numGpuBlocksOverride: 100,
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
  hostTokens: number;
  hasEnded: boolean;
}

/** A scheduler on a model's device thread, with offload where a mode is given. */
class Play {
  readonly answers: Answer[] = [];
  readonly scheduler: Scheduler;
  readonly #model: StartedModel;
  readonly #host: ConnectorHost | undefined;
  readonly #transfers: NativeTransfers | undefined;
  #connectors: KvConnectors | undefined;
  #onNews: () => void = () => {};
  readonly faults: string[] = [];

  constructor(model: StartedModel, numBlocks: number, mode?: "eager" | "lazy") {
    this.#model = model;
    const now = (): number => performance.now();
    if (mode !== undefined) {
      this.#host = new ConnectorHost(
        [{ name: "cpu-offload", connector: new CpuOffload({ mode }) }],
        {
          slowHookMs: Infinity,
          now,
          log: (level, line) => {
            if (level !== "info") this.faults.push(line);
          },
        },
      );
      this.#transfers = model.runner.openTransfers(
        {
          hostPages: 64,
          threads: 2,
          fileThreads: 1,
          checksums: true,
          storeShare: 0.5,
          linkBytesPerSecond: 0,
          guardSteps: true,
          manual: false,
        },
        (results) => {
          this.#connectors?.flights.report(results);
          this.#onNews();
        },
      );
    }
    const [host, transfers] = [this.#host, this.#transfers];
    this.scheduler = new Scheduler(
      {
        maxNumSeqs: MAX_NUM_SEQS,
        maxNumBatchedTokens: MAX_TOKENS,
        maxSamples: MAX_NUM_SEQS + 32,
        schedulingPolicy: "fcfs",
        tpotSlo: 0,
        enablePrefixCaching: true,
        speculative: "none",
        speculativeTokens: 1,
        speculativeNgram: [1, 1],
        limits: { ...model.limits, numBlocks },
      },
      {
        createStopChecker,
        hashBlocks,
        hashEach,
        noneHash: noneHash("0"),
        now,
        ...(host === undefined || transfers === undefined
          ? {}
          : {
              createConnectors: (side) => {
                const times = { lookupTimeoutMs: 250, loadTimeoutMs: 60_000, recallMs: 1_000 };
                const most = { holdTtlMs: 30_000, maxHeld: 0, maxFlying: 8 };
                const all = { ...times, ...most, maxBatchedTokens: MAX_TOKENS };
                this.#connectors = joinScheduler(side, host, transfers, all, () => this.#onNews());
                return this.#connectors;
              },
            }),
      },
    );
  }

  add(request: GenerateRequest): void {
    this.scheduler.add(this.answers.length, request);
    this.answers.push({ tokens: [], logprobs: [], hostTokens: 0, hasEnded: false });
  }

  /** One step is committed, or news is waited for; false = nothing is left. */
  async step(): Promise<boolean> {
    const { runner } = this.#model;
    const news = new Promise<void>((resolve) => {
      this.#onNews = resolve;
    });
    while (runner.queued < 2) {
      const batch = this.scheduler.schedule();
      if (batch === undefined) break;
      runner.submit(batch);
    }
    if (runner.queued === 0) {
      if (!this.scheduler.isBusy) return false;
      await news;
      return true;
    }
    const events = this.scheduler.commit(await runner.next());
    this.scheduler.checkIntegrity();
    for (const [i, handle] of events.handles.entries()) {
      const answer = this.answers[handle]!;
      const [from, to] = [events.tokenStart[i]!, events.tokenStart[i + 1]!];
      answer.tokens.push(...events.tokenIds.subarray(from, to));
      answer.logprobs.push(...events.logprobs.subarray(from, to));
    }
    for (const { index, finish } of events.finishes) {
      const answer = this.answers[events.handles[index]!]!;
      answer.hasEnded = finish.reason === "length";
      answer.hostTokens = finish.usage.cacheReceipt?.byTier["host"] ?? 0;
    }
    return true;
  }

  async end(): Promise<void> {
    while (await this.step());
    expect(this.scheduler.numUnfinished).toBe(0);
    expect(this.scheduler.pool.numUsed).toBe(0);
    expect(this.#connectors?.flights.length ?? 0).toBe(0);
    expect(this.faults).toEqual([]);
    await this.#host?.shutdown(1_000);
    await this.#transfers?.stop(10_000);
  }
}

const arrivals = fc.array(
  fc.record({
    salt: fc.nat(4),
    promptTokens: fc.constantFrom(33, 64, 65, 96),
    maxTokens: fc.integer({ min: 1, max: 8 }),
    temperature: fc.constantFrom(0, 0.8),
    steps: fc.nat(8),
  }),
  { minLength: 6, maxLength: 14 },
);

test("with offload, eager and lazy, on real pages and threads answers are bit-identical to those alone", async () => {
  const runs = propertyRuns(100);
  let hostTokens = 0;
  const alone = new Map<string, Answer>();
  const setup = fc.record({
    kind: fc.constantFrom("full", "hybrid"),
    mode: fc.constantFrom("eager" as const, "lazy" as const),
    spareBlocks: fc.nat(6),
  });
  await fc.assert(
    fc.asyncProperty(setup, arrivals, async ({ kind, mode, spareBlocks }, some) => {
      const model = models.get(kind)!;
      while (model.runner.queued > 0) await model.runner.next();
      const requests = some.map(({ salt, promptTokens, maxTokens, temperature }, i) => {
        const prompt = promptOf(promptTokens, salt, TINY.vocabSize);
        return makeRequest(i, prompt, { maxTokens, temperature, seed: [salt, 5] });
      });
      const keys = some.map((one) => JSON.stringify([kind, { ...one, steps: 0 }]));
      for (const [i, key] of keys.entries()) {
        if (alone.has(key)) continue;
        const play = new Play(model, 99);
        play.add(requests[i]!);
        await play.end();
        alone.set(key, play.answers[0]!);
      }
      const numBlocks = LARGEST * model.limits.groups.length + spareBlocks;
      const play = new Play(model, numBlocks, mode);
      for (const [i, request] of requests.entries()) {
        play.add(request);
        for (let step = 0; step < some[i]!.steps; step++) await play.step();
      }
      await play.end();
      for (const [i, { tokens, logprobs, hasEnded, ...answer }] of play.answers.entries()) {
        const expected = alone.get(keys[i]!)!;
        expect({ tokens, logprobs, hasEnded }).toEqual({
          tokens: expected.tokens,
          logprobs: expected.logprobs,
          hasEnded: true,
        });
        hostTokens += answer.hostTokens;
      }
    }),
    runs,
  );
  // How much is stored in time depends on the threads: few runs may happen to load little. `serve.test.ts` has loads that must happen.
  if (runs.numRuns >= 20) expect(hostTokens).toBeGreaterThan(5 * runs.numRuns);
}, 300_000);
