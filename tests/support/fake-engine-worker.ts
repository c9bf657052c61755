/** A Worker whose engine has a fake device: the real messages, no native module. The model's path says how it behaves. */

import { EngineHost, type EngineParts } from "../../engine/engine-host.ts";
import type { ToEngine } from "../../engine/engine-messages.ts";
import { KvEngineError } from "../../engine/errors.ts";
import type { EngineInfo } from "../../engine/request.ts";
import type { StepResult } from "../../engine/scheduler/batch.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import { FakeRunner } from "./fake-runner.ts";
import { createStopChecker } from "./scheduler-world.ts";

declare const self: Worker;
/** The other end is the thread that started this one. */
const port: Worker = self;

const LIMITS = { maxModelLen: 100, vocabSize: 50, blockSize: 4, numGroups: 1, numBlocks: 100 };

const INFO: EngineInfo = {
  modelName: "fake",
  maxModelLen: LIMITS.maxModelLen,
  vocabSize: LIMITS.vocabSize,
  blockSize: LIMITS.blockSize,
  numBlocks: LIMITS.numBlocks,
  backend: "fake",
  threads: 1,
  weightBytes: 0,
  activationBytes: 0,
  kvBytes: 0,
};

/** Lets messages in between steps, as a device's own thread does. */
class TurningRunner extends FakeRunner {
  override async next(): Promise<StepResult> {
    await new Promise((resolve) => setImmediate(resolve));
    return super.next();
  }
}

/** Never delivers a result until it is stopped. */
class StuckRunner extends FakeRunner {
  override next(): Promise<StepResult> {
    return this.numPending > 0 ? new Promise(() => undefined) : super.next();
  }
}

function start(modelPath: string): Promise<EngineParts> {
  if (modelPath === "missing") {
    throw new KvEngineError("bad_model", "the file is not there", {
      subject: modelPath,
      hint: "look elsewhere",
    });
  }
  const shape = { ...LIMITS, numBlocks: LIMITS.numBlocks + 1, maxRows: 4, maxTokens: 16 };
  const runner = modelPath === "stuck" ? new StuckRunner(shape) : new TurningRunner(shape);
  const scheduling = { maxNumSeqs: 4, maxNumBatchedTokens: 16, limits: LIMITS };
  return Promise.resolve({
    scheduler: new Scheduler(scheduling, createStopChecker),
    runner,
    info: INFO,
  });
}

const host = new EngineHost(
  (message) => port.postMessage(message),
  async ({ modelPath }) => start(modelPath),
);

port.addEventListener("message", (event: MessageEvent<ToEngine>) => {
  if (event.data.type === "add") {
    // Requests whose id asks for it bring the thread down.
    if (event.data.request.id === "throw") throw new Error("the thread threw");
    if (event.data.request.id === "exit") process.exit(7);
  }
  host.receive(event.data);
});
