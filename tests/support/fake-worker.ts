/** The engine's end of the messages, in a test's hands. */

import { connectEngine, type EngineClient } from "../../engine/engine-client.ts";
import type { FromEngine, ToEngine } from "../../engine/engine-messages.ts";
import type { RequestLimits } from "../../engine/request-limits.ts";
import { ENGINE_CONFIG } from "./engine-config.ts";
import { FakeEngineClient, NO_STATS } from "./fake-engine-client.ts";
import { FULL } from "./scheduler-world.ts";

export class FakeWorker extends EventTarget {
  readonly posted: ToEngine[] = [];

  postMessage(message: ToEngine): void {
    this.posted.push(message);
    if (message.type === "start")
      this.say({ type: "ready", info: INFO, limits: LIMITS, stats: NO_STATS });
    if (message.type === "stop") this.say({ type: "stopped" });
  }

  say(data: FromEngine): void {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  terminate(): void {}
}

const LIMITS: RequestLimits = {
  maxModelLen: 100,
  vocabSize: 50,
  blockSize: 4,
  groups: [FULL],
  maxInFlightTokens: 32,
  numBlocks: 100,
};
const { info: INFO } = new FakeEngineClient();

/** A client whose engine is the test. */
export async function connectFake(): Promise<{ worker: FakeWorker; client: EngineClient }> {
  const worker = new FakeWorker();
  const config = { ...ENGINE_CONFIG, modelPath: "m" };
  const client = await connectEngine(worker as unknown as Worker, config);
  return { worker, client };
}
