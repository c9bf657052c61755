/** The model on the native side: loads it, plans its memory, and speaks to its thread as a `ModelRunner`. */

import { availableParallelism } from "node:os";
import type { EngineConfig } from "../config.ts";
import { errorToData, KvEngineError, toKvEngineError } from "../errors.ts";
import { type LoadedModel, loadModel } from "../models/registry.ts";
import type { StepsProfile } from "./profile.ts";
import type { EngineInfo, GenerateRequest } from "../request.ts";
import type { RequestLimits } from "../request-limits.ts";
import { type ScheduledBatch, type StepResult, stepWord } from "../scheduler/batch.ts";
import type { Sequence } from "../scheduler/sequence.ts";
import type { FlightResult } from "../cache/page-transfers.ts";
import { chooseBackend, DEVICE_MEMORY_HINT, fallsBackToCpu, isCuda, noGpuNote } from "./device.ts";
import { type KvPlan, planKv } from "./kv-plan.ts";
import { nativeGrammar } from "./grammar-compiler.ts";
import { type ModelRunner, QUEUE_DEPTH } from "./model-runner.ts";
import {
  cudaStatus,
  deviceBytes,
  deviceMemory,
  fromNative,
  memoryAvailable,
  pageBytes,
  Runner,
  type SeatParams,
  type TransferOptions,
} from "./native.ts";
import { NativeTransfers } from "./native-transfers.ts";

/** A model that is ready to compute. */
export interface StartedModel {
  readonly model: LoadedModel;
  readonly runner: NativeRunner;
  readonly limits: RequestLimits;
  /** Most samples in a step. */
  readonly maxSamples: number;
  readonly info: EngineInfo;
}

/** Backends that compute nothing of the model: of it they get the KV groups and the limits. */
const MODELLESS: ReadonlySet<string> = new Set(["null", "witness"]);
/** Samples of a step beyond one for each sequence: prompt log-probabilities are computed in pieces of at least this. */
const SPARE_SAMPLES = 32;
/** Sequences of a step that may all have their full number of drafts; with more of them, some get fewer. */
const DRAFTING_SEQUENCES = 8;

/**
 * Most samples in a step: one for each sequence, and room for prompt log-probabilities and for drafts. Logits are planned
 * for each, so the room is not for the rare step that could use more.
 */
export function maxSamplesOf(config: EngineConfig): number {
  const { maxNumSeqs, maxNumBatchedTokens, speculative, speculativeTokens } = config;
  const drafts =
    speculative === "none" ? 0 : speculativeTokens * Math.min(maxNumSeqs, DRAFTING_SEQUENCES);
  // Two: a prompt's first chunk may score a token and pick one.
  return Math.max(2, Math.min(maxNumSeqs + SPARE_SAMPLES + drafts, maxNumBatchedTokens));
}

type Log = (level: "info" | "warn", message: string) => void;

/**
 * Loads the model and starts its thread. `log` learns what was decided for whoever left it open. Throws what the model file, the
 * options or the memory forbid.
 */
export async function startModel(
  config: EngineConfig,
  log: Log = () => undefined,
): Promise<StartedModel> {
  const { backend, note } = chooseBackend(config, cudaStatus);
  if (note !== undefined) log("info", note);
  const model = await loadModel(config.modelPath);
  try {
    return await startOn(backend, model, config, log);
  } catch (thrown) {
    const { code, message } = toKvEngineError(thrown);
    if (!fallsBackToCpu(config, backend, code)) throw thrown;
    log("warn", noGpuNote(message));
    return startOn("cpu", model, config, log);
  }
}

async function startOn(
  backend: string,
  model: LoadedModel,
  config: EngineConfig,
  log: Log,
): Promise<StartedModel> {
  const program = MODELLESS.has(backend)
    ? { values: [], ops: [], files: [], tensors: [] }
    : { ...model.tape, files: model.files, tensors: model.tensors };
  const weightBytes = program.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const maxInFlightTokens = QUEUE_DEPTH * config.maxNumBatchedTokens;
  const maxSamples = maxSamplesOf(config);
  const spec = {
    backend,
    isa: config.isa,
    threads: config.threads === 0 ? availableParallelism() : config.threads,
    ...program,
    groups: model.groups,
    kvCacheDtype: config.kvCacheDtype,
    blockSize: config.blockSize,
    maxTokens: config.maxNumBatchedTokens,
    maxRows: config.maxNumSeqs,
    maxSamples,
    vocabSize: model.config.vocabSize,
  };
  const longest = config.maxModelLen === 0 ? model.config.contextLength : config.maxModelLen;
  const plan = (blocks: number): KvPlan =>
    planKv({
      numGpuBlocksOverride: blocks,
      kvCacheMemory: config.kvCacheMemory,
      maxModelLen: config.maxModelLen,
      contextLength: model.config.contextLength,
      maxNumSeqs: config.maxNumSeqs,
      blockSize: config.blockSize,
      groups: model.groups,
      maxInFlightTokens,
      pageBytes: pageBytes(backend, model.groups, config.blockSize, config.kvCacheDtype),
      weightBytes,
      memoryAvailable,
      ...(isCuda(backend)
        ? {
            device: () => ({
              ...deviceMemory(backend),
              utilization: config.gpuMemoryUtilization,
              // Before the blocks are known; the longest sequence is no longer than this.
              programBytes: deviceBytes({ ...spec, numBlocks: 2, maxModelLen: longest }),
            }),
          }
        : {}),
    });
  const wanted = plan(config.numGpuBlocksOverride);
  const runner = new NativeRunner();
  await runner.start({ ...spec, ...wanted }).catch((thrown: unknown) => {
    const error = toKvEngineError(thrown);
    if (!isCuda(backend) || error.code !== "out_of_memory") throw error;
    throw new KvEngineError(error.code, error.message, {
      subject: "device",
      hint: DEVICE_MEMORY_HINT,
      cause: error,
    });
  });
  const compiled = runner.info();
  const isSmaller = compiled.numBlocks < wanted.numBlocks;
  if (isSmaller) {
    log(
      "warn",
      `${compiled.numBlocks} KV blocks fit in the device's memory, not ${wanted.numBlocks}`,
    );
  }
  const { numBlocks, maxModelLen } = isSmaller ? plan(compiled.numBlocks) : wanted;
  const limits: RequestLimits = {
    maxModelLen,
    vocabSize: model.config.vocabSize,
    blockSize: config.blockSize,
    groups: model.groups,
    maxInFlightTokens,
    numBlocks: numBlocks - 1,
  };
  const info: EngineInfo = {
    modelName: model.name,
    maxModelLen: limits.maxModelLen,
    vocabSize: limits.vocabSize,
    blockSize: limits.blockSize,
    numBlocks: limits.numBlocks,
    enablePrefixCaching: config.enablePrefixCaching,
    schedulingPolicy: config.schedulingPolicy,
    backend: compiled.backend,
    threads: compiled.threads,
    weightBytes: compiled.weightBytes,
    activationBytes: compiled.activationBytes,
    kvBytes: compiled.kvBytes,
    kvCacheDtype: compiled.kvCacheDtype,
    pageLayout: compiled.pageLayout,
  };
  return { model, runner, limits, maxSamples, info };
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
    // Its results name the word of their step.
    this.#native = await Runner.create(spec, (result) =>
      this.#settle(result, (slot) => stepWord(slot.stepId) === result.stepId),
    );
  }

  /** Opens the host pool and the threads that move pages: see `NativeTransfers.open`. */
  openTransfers(
    options: TransferOptions,
    onResults: (results: readonly FlightResult[]) => void,
  ): NativeTransfers {
    return NativeTransfers.open(this.#started(), options, onResults);
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
      for (const sequence of batch.opened)
        native.openSeat(
          sequence.seat,
          seatParams(sequence),
          seatHistory(sequence),
          nativeGrammar(sequence.request.grammar?.compiled),
        );
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

  takeProfile(on: boolean): Promise<StepsProfile> {
    return this.#started().takeProfile(on);
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

  #settle(
    result: StepResult,
    isOf: (slot: Slot) => boolean = ({ stepId }) => stepId === result.stepId,
  ): void {
    const slot = this.#slots.find((one) => !one.settled && isOf(one));
    // After `stop` the thread may still report a step that was settled as stopped.
    if (slot === undefined) return;
    slot.settled = true;
    slot.settle({ ...result, stepId: slot.stepId });
  }
}

/** What of a sequence its seat is made from. */
export type Seated = Pick<
  Sequence,
  "sampling" | "tokenIds" | "numTokens" | "numPromptTokens" | "numOutputTokens"
> & { readonly request?: Pick<GenerateRequest, "grammar"> };

/** Where a sequence's sampler stands: at its first token, or behind those that it had before a preemption. */
export function seatParams(sequence: Seated): SeatParams {
  const { sampling, numPromptTokens, numOutputTokens } = sequence;
  return {
    temperature: sampling.temperature,
    topK: sampling.topK,
    topP: sampling.topP,
    minP: sampling.minP,
    seedLow: sampling.seed[0],
    seedHigh: sampling.seed[1],
    choice: sampling.choice,
    outputIndex: numOutputTokens,
    stopIds: [...sampling.stopTokenIds],
    maxTokens: sampling.maxTokens,
    minTokens: sampling.minTokens,
    repetitionPenalty: sampling.repetitionPenalty,
    presencePenalty: sampling.presencePenalty,
    frequencyPenalty: sampling.frequencyPenalty,
    logitBiasIds: sampling.logitBias.map(([id]) => id),
    logitBiases: sampling.logitBias.map(([, bias]) => bias),
    allowedIds: [...sampling.allowedTokenIds],
    badWords: sampling.badWords.map((word) => [...word]),
    topLogprobs: sampling.topLogprobs,
    promptLogprobs: sampling.promptLogprobs,
    promptLength: numPromptTokens,
  };
}

/** Prompt and output so far, for seats that look back; empty for others, which are the most. */
export function seatHistory({ sampling, tokenIds, numTokens, request }: Seated): Int32Array {
  const looksBack =
    sampling.repetitionPenalty !== 1 ||
    sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0 ||
    sampling.badWords.length > 0 ||
    request?.grammar !== undefined;
  return looksBack ? tokenIds.subarray(0, numTokens) : NO_TOKENS;
}

const NO_TOKENS: Int32Array = new Int32Array(0);

function failedStep(stepId: number, error: KvEngineError): StepResult {
  return {
    stepId,
    tokens: NO_TOKENS,
    finish: new Uint8Array(0),
    logprobs: new Float32Array(0),
    ranks: NO_TOKENS,
    topStart: NO_TOKENS,
    topIds: NO_TOKENS,
    topLogprobs: new Float32Array(0),
    forcedStart: NO_TOKENS,
    forcedIds: NO_TOKENS,
    computeMicros: 0,
    gapMicros: -1,
    error: errorToData(error),
  };
}
