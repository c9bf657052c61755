/**
 * Decides who runs in the next step and what a finished step meant. `schedule()` may be called while earlier steps are
 * still computing: it counts on what they will have done, and a token that is not known yet is taken from the seat.
 * `commit()` takes the results in the order of the steps. It computes nothing, waits for nothing and talks to nobody.
 *
 * Order is (priority, arrival). How a step is filled: `step-planner.ts`; who is let in: `admission.ts`; what a result means:
 * `step-committer.ts`; where requests stand and what they hold: `live-sequences.ts`.
 */

import type { HashBlocks, HashEach } from "../cache/block-hash.ts";
import type { BlockPool } from "../cache/block-pool.ts";
import { KvCache } from "../cache/kv-cache.ts";
import { type ErrorData, KvEngineError } from "../errors.ts";
import { type EngineStats, type GenerateRequest, NO_LOGPROBS } from "../request.ts";
import { checkRequest, type RequestLimits } from "../request-limits.ts";
import { Admission } from "./admission.ts";
import { BatchPacker, ScheduledBatch, type StepResult } from "./batch.ts";
import { StepBudget } from "./budget.ts";
import { CacheCounts } from "./cache-counts.ts";
import { ChunkSizer } from "./chunk-sizer.ts";
import { LiveSequences } from "./live-sequences.ts";
import type { Drafter } from "./drafter.ts";
import { ForcedDrafter } from "./forced-drafter.ts";
import { NgramDrafter } from "./ngram-drafter.ts";
import { PromptHasher } from "./prompt-hasher.ts";
import { PromptScores } from "./prompt-scores.ts";
import type { RequestLog } from "./request-log.ts";
import type { SchedulerConnectors, SchedulerSide } from "./scheduler-connectors.ts";
import { Sequence, type StopCheckerFactory } from "./sequence.ts";
import { checkResult, StepCommitter } from "./step-committer.ts";
import type { StepEvents } from "./step-events.ts";
import { StepPlanner } from "./step-planner.ts";

export interface SchedulerOptions {
  /** Most sequences in a step, and the number of seats. */
  readonly maxNumSeqs: number;
  /** Most tokens in a step. */
  readonly maxNumBatchedTokens: number;
  /** Most sampled positions in a step. */
  readonly maxSamples: number;
  /** Most prompt tokens in a step; as many as the step has room for when left out. */
  readonly maxPrefillTokens?: number;
  readonly schedulingPolicy: "fcfs" | "priority";
  /** Milliseconds that a step with decodes should take at most; 0 = prompts get the whole budget. */
  readonly tpotSlo: number;
  readonly enablePrefixCaching: boolean;
  readonly speculative: "none" | "ngram";
  /** Most drafted tokens of a row. */
  readonly speculativeTokens: number;
  /** Shortest and longest run of tokens that is looked up. */
  readonly speculativeNgram: readonly number[];
  readonly limits: RequestLimits;
}

/** What the scheduler is given, so that tests can give it something else. */
export interface SchedulerTools {
  /** Asked for each request with stop strings. */
  readonly createStopChecker: StopCheckerFactory;
  readonly hashBlocks: HashBlocks;
  readonly hashEach: HashEach;
  /** Parent of a first block, 8 words. */
  readonly noneHash: Int32Array;
  /** Milliseconds, for the timing of requests; nothing is decided by it. */
  readonly now: () => number;
  /** Id of the first step; 0 when left out. */
  readonly firstStepId?: number;
  /** Microseconds for each prompt token, before steps have told: for the choice between loading and computing. */
  readonly guessedPromptMicros?: number | undefined;
  /** Makes the KV connectors, where there are any. */
  readonly createConnectors?: (side: SchedulerSide) => SchedulerConnectors;
  /** Makes what remembers requests, where anything does. */
  readonly createLog?: (kv: KvCache) => RequestLog;
}

export class Scheduler {
  readonly limits: RequestLimits;
  readonly kv: KvCache;
  readonly #options: SchedulerOptions;
  readonly #tools: SchedulerTools;
  readonly #live: LiveSequences;
  readonly #admission: Admission;
  readonly #planner: StepPlanner;
  readonly #committer: StepCommitter;
  readonly #sizer: ChunkSizer;
  readonly #packer: BatchPacker;
  readonly #hasher: PromptHasher;
  readonly #idleBatches: ScheduledBatch[] = [];
  readonly #cacheCounts = new CacheCounts();
  readonly #drafts: boolean;
  #stepTokens: number[] = [];
  #nextStepId = 0;
  #nextNumber = 0;
  #numSteps = 0;
  #committedStep = -1;

  constructor(options: SchedulerOptions, tools: SchedulerTools) {
    checkOptions(options);
    const { maxNumSeqs, maxNumBatchedTokens, limits } = options;
    const maxPrefillTokens = options.maxPrefillTokens ?? maxNumBatchedTokens;
    this.limits = limits;
    this.#options = options;
    this.#tools = tools;
    this.#nextStepId = tools.firstStepId ?? 0;
    this.kv = new KvCache({
      numBlocks: limits.numBlocks + 1,
      blockSize: limits.blockSize,
      groups: limits.groups,
      prefixCaching: options.enablePrefixCaching,
    });
    this.#live = new LiveSequences(this.kv, maxNumSeqs, tools.now);
    const budget = new StepBudget(maxNumBatchedTokens, options.maxSamples);
    this.#sizer = new ChunkSizer(options.tpotSlo, tools.guessedPromptMicros);
    this.#admission = new Admission(this.#live, budget, limits.maxInFlightTokens);
    this.#planner = new StepPlanner(
      this.#live,
      budget,
      this.#sizer,
      this.#admission,
      maxPrefillTokens,
    );
    this.#hasher = new PromptHasher(tools, limits.blockSize, {
      enabled: options.enablePrefixCaching,
    });
    this.#committer = new StepCommitter(
      this.#live,
      this.#hasher,
      this.#cacheCounts,
      () => this.#sizer.surelyMicrosPerToken,
    );
    // A state that has taken in a wrong draft cannot be taken back.
    this.#drafts =
      options.speculative === "ngram" && limits.groups.every(({ kind }) => kind !== "state");
    this.#packer = new BatchPacker(limits.groups.length, limits.blockSize);
    this.#live.connectors = tools.createConnectors?.(this.#side());
    this.#live.log = tools.createLog?.(this.kv);
  }

  get pool(): BlockPool {
    return this.kv.pool;
  }

  /** Requests that have not ended. */
  get numUnfinished(): number {
    return this.#live.length;
  }

  get numRunning(): number {
    return this.#live.running.length;
  }

  get numWaiting(): number {
    return this.#live.length - this.#live.running.length;
  }

  /** Whether requests may wait although no step is submitted: connectors are at work, or hold what is needed. */
  get isBusy(): boolean {
    return this.#live.connectors?.isBusy ?? false;
  }

  /** Milliseconds until `schedule` is to be called although nothing has happened; Infinity = never. */
  msToDeadline(): number {
    const deadline = this.#live.connectors?.nextDeadline() ?? Infinity;
    return Math.max(0, deadline - this.#tools.now());
  }

  /** Numbers of now; `stepTokens` are those since the last call. */
  takeStats(): EngineStats {
    const stepTokens = this.#stepTokens;
    this.#stepTokens = [];
    const { numPromptTokens, numGenerationTokens } = this.#committer;
    const cache = this.#cacheCounts;
    const hostPool = this.#live.connectors?.hostPool;
    return {
      running: this.numRunning,
      waiting: this.numWaiting,
      usedBlocks: this.pool.numUsed,
      totalBlocks: this.limits.numBlocks,
      preemptions: this.#live.numPreemptions,
      promptTokens: numPromptTokens,
      generationTokens: numGenerationTokens,
      steps: this.#numSteps,
      prefixQueries: cache.queries,
      prefixHits: cache.hits,
      externalQueries: cache.externalQueries,
      externalHits: cache.externalHits,
      loadedPromptTokens: cache.loadedPromptTokens,
      savedMs: cache.savedMs,
      evictedBlocks: this.pool.numEvicted,
      drafts: this.#committer.numDrafts,
      draftTokens: this.#committer.numDraftTokens,
      acceptedTokens: this.#committer.numAcceptedTokens,
      ...(hostPool === undefined ? {} : { hostPool }),
      stepTokens,
    };
  }

  /** Queues a request. Throws what `checkRequest` throws, before anything is queued. */
  add(handle: number, request: GenerateRequest): void {
    checkRequest(request, this.limits);
    if (this.#live.byHandle(handle) !== undefined || this.#live.byId(request.id) !== undefined) {
      throw new KvEngineError("internal", `request ${request.id} or handle ${handle} is in use`, {
        subject: request.id,
      });
    }
    const { sampling, promptTokenIds } = request;
    const { stop, minTokens } = sampling;
    const number = this.#nextNumber++;
    const sequence = new Sequence(
      handle,
      number,
      request,
      this.kv.createBlocks(number),
      stop.length === 0 ? undefined : this.#tools.createStopChecker(stop, minTokens),
      this.#options.schedulingPolicy === "priority" ? request.priority : 0,
      this.#tools.now(),
    );
    if (request.leader !== undefined) sequence.leader = this.#live.byId(request.leader);
    if (sampling.promptLogprobs !== NO_LOGPROBS)
      sequence.promptScores = new PromptScores(promptTokenIds.length);
    sequence.drafter = this.#createDrafter(sequence);
    this.#hasher.extend(sequence);
    this.#live.add(sequence);
  }

  /**
   * Ends a request at any moment; one that has ended already is left alone. What it holds is free at once, or when the
   * last step it was submitted in commits. Answers its last event.
   */
  abort(handle: number): StepEvents {
    const sequence = this.#live.byHandle(handle);
    if (sequence !== undefined) {
      this.#live.events.begin(handle);
      this.#live.finish(sequence, "abort");
    }
    return this.#live.events.take();
  }

  /**
   * The next step, or undefined when there is nothing to compute. The caller must submit it: its `words` are valid until
   * the next call, and `commit` expects its result.
   */
  schedule(): ScheduledBatch | undefined {
    const batch = this.#idleBatches.pop() ?? new ScheduledBatch(this.#options.maxNumSeqs);
    batch.stepId = this.#nextStepId;
    // In flight from here on: a sequence that gives way to one planned after it keeps its row, and its blocks until it commits.
    const { connectors, inFlight } = this.#live;
    this.#live.log?.planning();
    connectors?.settle();
    inFlight.push(batch);
    this.#planner.plan(batch);
    const isEmpty = batch.numRows === 0;
    if (isEmpty) inFlight.pop();
    const stepId = isEmpty ? -1 : batch.stepId;
    const again = connectors?.scheduled(stepId, batch.numTokens, inFlight.length) ?? false;
    if (isEmpty) {
      batch.clear();
      this.#idleBatches.push(batch);
      return again ? this.schedule() : undefined;
    }
    this.#packer.pack(batch);
    this.#nextStepId++;
    return batch;
  }

  /** Takes what transfers have brought. `schedule` and `commit` do so too: this is for while steps compute. */
  settle(): void {
    this.#live.connectors?.settle();
  }

  /** Takes the result of the oldest submitted step. */
  commit(result: StepResult): StepEvents {
    const batch = this.#live.inFlight[0];
    if (batch === undefined) throw new KvEngineError("internal", "no step is submitted");
    checkResult(batch, result);
    this.#live.connectors?.settle();
    this.#committedStep = batch.stepId;
    this.#numSteps++;
    this.#stepTokens.push(batch.numTokens);
    if (result.error === undefined) {
      this.#sizer.observe({
        decodes: batch.numDecodes,
        promptTokens: batch.numTokens - batch.numDecodes,
        micros: result.computeMicros,
      });
    }
    this.#committer.commit(batch, result);
    this.#live.settle(batch);
    this.#live.connectors?.committed();
    batch.clear();
    this.#idleBatches.push(batch);
    return this.#live.events.take();
  }

  #side(): SchedulerSide {
    const live = this.#live;
    return {
      kv: this.kv,
      now: this.#tools.now,
      committedStep: () => this.#committedStep,
      numSpareBlocks: () => Math.max(0, this.pool.numFree - live.numReservedBlocks),
      microsPerPromptToken: () => this.#sizer.microsPerToken,
      queuedPromptTokens: () => live.numQueuedPromptTokens(),
      numBlocksToFirstEnd: (except) => live.numBlocksToFirstEnd(except),
      resume: (sequence) => live.resume(sequence),
      computeInstead: (sequence) => this.#admission.computeInstead(sequence),
      byId: (id) => live.byId(id),
    };
  }

  /**
   * Drops all cached prefixes; requests that run keep their blocks. Without `resetExternal` connectors keep what they have stored, and
   * may bring it back. Answers the new generation.
   */
  resetPrefixCache(resetExternal: boolean = true): number {
    this.kv.reset();
    this.#live.connectors?.reset(this.kv.generation, resetExternal);
    return this.kv.generation;
  }

  /** Ends every request, whatever state it is in. */
  endAll(reason: "abort" | "error", error?: ErrorData): StepEvents {
    this.#live.finishAll(reason, error);
    return this.#live.events.take();
  }

  /** Throws `internal` unless pool, reservations and seats agree with the sequences that hold them. */
  checkIntegrity(): void {
    this.#live.checkIntegrity();
  }

  #createDrafter({ tokenIds, numTokens, request }: Sequence): Drafter | undefined {
    const { speculativeTokens } = this.#options;
    if (!this.#drafts)
      return request.grammar === undefined ? undefined : new ForcedDrafter(speculativeTokens);
    const [minNgram, maxNgram] = this.#options.speculativeNgram as [number, number];
    const drafter = new NgramDrafter({
      maxDraft: speculativeTokens,
      minNgram,
      maxNgram,
    });
    drafter.append(tokenIds, 0, numTokens);
    return drafter;
  }
}

function checkOptions(options: SchedulerOptions): void {
  const { maxNumSeqs, maxNumBatchedTokens, maxSamples } = options;
  const maxPrefillTokens = options.maxPrefillTokens ?? maxNumBatchedTokens;
  const least: readonly (readonly [string, number, number])[] = [
    ["maxNumSeqs", maxNumSeqs, 1],
    ["maxNumBatchedTokens", maxNumBatchedTokens, 1],
    ["maxPrefillTokens", maxPrefillTokens, 1],
    ["maxSamples", maxSamples, 2],
  ];
  for (const [subject, value, min] of least) {
    if (Number.isInteger(value) && value >= min) continue;
    throw new KvEngineError("bad_config", `${subject} is ${value}; allowed is ${min} and more`, {
      subject,
    });
  }
}
