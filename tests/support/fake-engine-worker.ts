/**
 * A Worker whose engine runs on the witness: the real messages, no model. The model's path says how it behaves. Connectors are the real
 * ones, behind the real host, over an empty engine; of a request they hear that it has come.
 */

import { createEmptyEngine } from "../../connectors/empty-engine.ts";
import type { EngineConfig } from "../../engine/config.ts";
import type { ConnectorHost } from "../../engine/connectors/connector-host.ts";
import { openConnectors } from "../../engine/connectors/open-connectors.ts";
import { EngineHost, type EngineParts } from "../../engine/engine-host.ts";
import type { ToEngine } from "../../engine/engine-messages.ts";
import { errorToData, KvEngineError, toKvEngineError } from "../../engine/errors.ts";
import type { EngineInfo, GenerateRequest } from "../../engine/request.ts";
import type { RequestLimits } from "../../engine/request-limits.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import { Scheduler, type SchedulerOptions } from "../../engine/scheduler/scheduler.ts";
import { createStopChecker } from "./scheduler-world.ts";
import { WitnessRunner } from "./witness-runner.ts";

declare const self: Worker;
/** The other end is the thread that started this one. */
const port: Worker = self;

const LIMITS: RequestLimits = {
  maxModelLen: 100,
  vocabSize: 50,
  blockSize: 4,
  groups: [{ kind: "full", window: 0 }],
  maxInFlightTokens: 32,
  numBlocks: 100,
};

const INFO: EngineInfo = {
  modelName: "fake",
  maxModelLen: LIMITS.maxModelLen,
  vocabSize: LIMITS.vocabSize,
  blockSize: LIMITS.blockSize,
  numBlocks: LIMITS.numBlocks,
  enablePrefixCaching: true,
  schedulingPolicy: "fcfs",
  backend: "fake",
  threads: 1,
  weightBytes: 0,
  activationBytes: 0,
  kvBytes: 0,
  kvCacheDtype: "",
  pageLayout: "",
};

const OPTIONS: SchedulerOptions = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 16,
  maxSamples: 16,
  schedulingPolicy: "fcfs",
  tpotSlo: 0,
  enablePrefixCaching: true,
  speculative: "none",
  speculativeTokens: 1,
  speculativeNgram: [1, 1],
  limits: LIMITS,
};

const now = (): number => performance.now();
let connectors: ConnectorHost | undefined;

async function startConnectors(config: EngineConfig, hookWord: SharedArrayBuffer): Promise<void> {
  connectors = await openConnectors(config, {
    hookWord,
    now,
    log: (level, message) => port.postMessage({ type: "log", level, message }),
    onStrayError: (thrown) =>
      port.postMessage({ type: "fatal", error: errorToData(toKvEngineError(thrown)) }),
  });
  connectors.start({
    viewOf: (_place, name) => createEmptyEngine(name, now).view,
    contextOf: (_place, own) => ({ ...createEmptyEngine(own.name, now).context, ...own }),
    onDisabled: () => {},
    onShutdown: () => {},
  });
}

function announce({ id, promptTokenIds, priority, arrivalTime }: GenerateRequest): void {
  const { length } = promptTokenIds;
  connectors?.newRequest({
    id,
    priority,
    arrivalTime,
    numPromptTokens: length,
    numTokens: length,
    transferParams: () => undefined,
    tokenIds: () => promptTokenIds.slice(),
  });
}

async function start(modelPath: string): Promise<EngineParts> {
  if (modelPath === "missing") {
    throw new KvEngineError("bad_model", "the file is not there", {
      subject: modelPath,
      hint: "look elsewhere",
    });
  }
  const runner = await WitnessRunner.create({
    maxRows: OPTIONS.maxNumSeqs,
    maxTokens: OPTIONS.maxNumBatchedTokens,
    maxSamples: OPTIONS.maxSamples,
    maxModelLen: LIMITS.maxModelLen,
    blockSize: LIMITS.blockSize,
    numBlocks: LIMITS.numBlocks + 1,
    groups: LIMITS.groups,
    vocabSize: LIMITS.vocabSize,
    // Never delivers a result until it is stopped.
    manual: modelPath === "stuck",
  });
  const scheduler = new Scheduler(OPTIONS, {
    createStopChecker,
    hashBlocks,
    hashEach,
    noneHash: noneHash("0"),
    now,
  });
  return { scheduler, runner, info: INFO, ...(connectors === undefined ? {} : { connectors }) };
}

const host = new EngineHost(
  (message) => port.postMessage(message),
  async (config, hookWord) => {
    await startConnectors(config, hookWord);
    return start(config.modelPath);
  },
);

port.addEventListener("message", (event: MessageEvent<ToEngine>) => {
  if (event.data.type === "add") {
    // Requests whose id asks for it bring the thread down.
    if (event.data.request.id === "throw") throw new Error("the thread threw");
    if (event.data.request.id === "exit") process.exit(7);
  }
  host.receive(event.data);
  if (event.data.type === "add") announce(event.data.request);
});
