/** The model on the native side: loads it, plans its memory, and speaks to its thread as a `ModelRunner`. */

import { availableParallelism } from "node:os";
import type { EngineConfig } from "../config.ts";
import { errorToData, KvEngineError } from "../errors.ts";
import { type LoadedModel, loadModel } from "../models/registry.ts";
import type { EngineInfo, SamplingParams } from "../request.ts";
import type { RequestLimits } from "../request-limits.ts";
import type { ScheduledBatch, StepResult } from "../scheduler/batch.ts";
import { planKv } from "./kv-plan.ts";
import type { ModelRunner } from "./model-runner.ts";
import { fromNative, memoryAvailable, pageBytes, Runner, type SeatParams } from "./native.ts";

/** A model that is ready to compute. */
export interface StartedModel {
  readonly model: LoadedModel;
  readonly runner: ModelRunner;
  readonly limits: RequestLimits;
  readonly info: EngineInfo;
}

/** Loads the model and starts its thread. Throws what the model file, the options or the memory forbid. */
export async function startModel(config: EngineConfig): Promise<StartedModel> {
  const model = await loadModel(config.modelPath);
  const backend = config.backend === "auto" ? "cpu" : config.backend;
  const weightBytes = model.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const plan = planKv({
    numGpuBlocksOverride: config.numGpuBlocksOverride,
    kvCacheMemory: config.kvCacheMemory,
    maxModelLen: config.maxModelLen,
    contextLength: model.config.contextLength,
    maxNumSeqs: config.maxNumSeqs,
    blockSize: config.blockSize,
    numGroups: model.groups.length,
    pageBytes: pageBytes(backend, model.groups, config.blockSize),
    weightBytes,
    memoryAvailable,
  });
  const runner = new NativeRunner();
  await runner.start({
    backend,
    isa: config.isa,
    threads: config.threads === 0 ? availableParallelism() : config.threads,
    values: model.tape.values,
    ops: model.tape.ops,
    files: model.files,
    tensors: model.tensors,
    groups: model.groups,
    blockSize: config.blockSize,
    numBlocks: plan.numBlocks,
    maxTokens: config.maxNumBatchedTokens,
    maxRows: config.maxNumSeqs,
    maxModelLen: plan.maxModelLen,
    vocabSize: model.config.vocabSize,
  });
  const program = runner.info();
  const limits: RequestLimits = {
    maxModelLen: plan.maxModelLen,
    vocabSize: model.config.vocabSize,
    blockSize: config.blockSize,
    numGroups: model.groups.length,
    numBlocks: plan.numBlocks - 1,
  };
  const info: EngineInfo = {
    modelName: model.name,
    maxModelLen: limits.maxModelLen,
    vocabSize: limits.vocabSize,
    blockSize: limits.blockSize,
    numBlocks: limits.numBlocks,
    backend: program.backend,
    threads: program.threads,
    weightBytes: program.weightBytes,
    activationBytes: program.activationBytes,
    kvBytes: program.kvBytes,
  };
  return { model, runner, limits, info };
}

/** A submitted step whose result has not been taken. */
interface Slot {
  readonly stepId: number;
  readonly result: Promise<StepResult>;
  readonly settle: (result: StepResult) => void;
  settled: boolean;
}

export class NativeRunner implements ModelRunner {
  #native: Runner | undefined;
  readonly #slots: Slot[] = [];

  /** Compiles the program. Call once, before anything else. */
  async start(spec: Parameters<typeof Runner.create>[0]): Promise<void> {
    this.#native = await Runner.create(spec, (result) => this.#settle(result));
  }

  info(): ReturnType<Runner["info"]> {
    return this.#started().info();
  }

  get queued(): number {
    return this.#slots.length;
  }

  submit(batch: ScheduledBatch): void {
    const { promise, resolve } = Promise.withResolvers<StepResult>();
    this.#slots.push({ stepId: batch.stepId, result: promise, settle: resolve, settled: false });
    try {
      const native = this.#started();
      for (const { seat, sampling } of batch.opened) native.openSeat(seat, seatParams(sampling));
      native.submit(batch.words);
    } catch (thrown) {
      this.#settle(failedStep(batch.stepId, fromNative(thrown)));
    }
  }

  async next(): Promise<StepResult> {
    const slot = this.#slots[0];
    if (slot === undefined) throw new KvEngineError("internal", "no step is submitted");
    const result = await slot.result;
    this.#slots.shift();
    return result;
  }

  async stop(): Promise<void> {
    const native = this.#native;
    this.#native = undefined;
    await native?.stop();
    const stopped = new KvEngineError("unavailable", "the engine has stopped");
    for (const { stepId } of this.#slots) this.#settle(failedStep(stepId, stopped));
  }

  #started(): Runner {
    if (this.#native === undefined)
      throw new KvEngineError("unavailable", "the engine has stopped");
    return this.#native;
  }

  #settle(result: StepResult): void {
    const slot = this.#slots.find(({ stepId, settled }) => stepId === result.stepId && !settled);
    // After `stop` the thread may still report a step that was settled as stopped.
    if (slot === undefined) return;
    slot.settled = true;
    slot.settle(result);
  }
}

function seatParams(sampling: SamplingParams): SeatParams {
  return {
    temperature: sampling.temperature,
    topK: sampling.topK,
    topP: sampling.topP,
    minP: sampling.minP,
    seedLow: sampling.seed[0],
    seedHigh: sampling.seed[1],
    choice: sampling.choice,
    outputIndex: 0,
    stopIds: [...sampling.stopTokenIds],
    maxTokens: sampling.maxTokens,
  };
}

function failedStep(stepId: number, error: KvEngineError): StepResult {
  return {
    stepId,
    tokens: new Int32Array(0),
    finish: new Uint8Array(0),
    logprobs: new Float32Array(0),
    computeMicros: 0,
    gapMicros: -1,
    error: errorToData(error),
  };
}
