/** A connector that asks for one more look of the engine, from wherever it is: the real loop, scheduler, transfers and host. */

import { expect, test } from "bun:test";
import type {
  KvConnector,
  LoadPlan,
  RequestView,
  SchedulerOutput,
  TransferResult,
} from "../../connectors/connector.ts";
import { ConnectorHost } from "../../engine/connectors/connector-host.ts";
import { startConnectors } from "../../engine/connectors/start-connectors.ts";
import { Engine } from "../../engine/engine.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import { NativeRunner } from "../../engine/runner/native-runner.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import {
  createStopChecker,
  expectedOf,
  FULL,
  makeRequest,
  promptOf,
  schedulerOptions,
} from "../support/scheduler-world.ts";
import { Bound } from "../support/serving-world.ts";
import BlockOriented from "./examples/block-oriented.ts";

const VOCABULARY = 50;
const SIZES = { maxNumSeqs: 4, blockSize: 4, numBlocks: 12, vocabSize: VOCABULARY };
interface Serving {
  /** Serves one request to its end; answers its tokens. */
  readonly ask: (salt: number) => Promise<readonly number[]>;
  readonly lines: readonly string[];
  readonly stop: () => Promise<void>;
}

async function serve(connector: KvConnector): Promise<Serving> {
  const lines: string[] = [];
  const log = (level: string, line: string): void => {
    if (level !== "info") lines.push(line);
  };
  const runner = new NativeRunner();
  await runner.start({
    backend: "witness",
    isa: "auto",
    threads: 1,
    values: [],
    ops: [],
    files: [],
    tensors: [],
    groups: [{ ...FULL, layers: 1, numKvHeads: 1, headDim: 1 }],
    maxRows: SIZES.maxNumSeqs,
    maxTokens: 32,
    maxSamples: SIZES.maxNumSeqs + 32,
    maxModelLen: 200,
    blockSize: SIZES.blockSize,
    vocabSize: VOCABULARY,
    numBlocks: SIZES.numBlocks + 1,
  });
  const now = (): number => performance.now();
  const host = new ConnectorHost([{ name: "waking", connector }], {
    slowHookMs: Infinity,
    now,
    log,
  });
  const config = {
    ...ENGINE_CONFIG,
    modelPath: "none",
    kvOffloadSize: 2 ** 20,
    kvConnectorLookupTimeout: 3600,
  };
  const { create, transfers } = startConnectors(config, host, {
    openTransfers: (hostPages, onResults) =>
      runner.openTransfers(
        {
          hostPages,
          threads: 1,
          fileThreads: 1,
          checksums: true,
          storeShare: 1,
          linkBytesPerSecond: 0,
          guardSteps: true,
          manual: false,
        },
        onResults,
      ),
    pageLayout: "",
    pageBytes: 1024,
    memoryAvailable: () => 2 ** 30,
    onNews: () => engine.news(),
    log,
  });
  const scheduler = new Scheduler(
    schedulerOptions({ ...SIZES, maxNumBatchedTokens: 32, maxModelLen: 200 }),
    {
      createStopChecker,
      hashBlocks,
      hashEach,
      noneHash: noneHash("0"),
      now,
      createConnectors: create,
    },
  );
  const ended = new Map<number, () => void>();
  const tokens: number[] = [];
  const engine = new Engine(
    scheduler,
    runner,
    (events) => {
      tokens.push(...events.tokenIds);
      for (const { index } of events.finishes) ended.get(events.handles[index] as number)?.();
    },
    { connectors: host, transfers },
  );
  const running = engine.run();
  return {
    lines,
    ask: async (salt) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      const handle = ended.size;
      ended.set(handle, resolve);
      engine.add(handle, requestOf(handle, salt));
      await promise;
      return tokens.splice(0);
    },
    stop: async () => {
      await engine.stop();
      await running;
    },
  };
}

function requestOf(handle: number, salt: number): ReturnType<typeof makeRequest> {
  return makeRequest(handle, promptOf(24, salt, VOCABULARY), { maxTokens: 4 });
}

test("in each of its hooks, all the time: none runs inside another, and steps and copies go on", async () => {
  let numStored = 0;
  class Wakes extends BlockOriented {
    #wake = (): void => {};
    override onSchedulerReady(context: Parameters<KvConnector["onSchedulerReady"]>[0]): void {
      super.onSchedulerReady(context);
      this.#wake = () => context.wake();
      this.#wake();
    }
    override findBlocks(...given: Parameters<BlockOriented["findBlocks"]>): undefined {
      this.#wake();
      return super.findBlocks(...given);
    }
    override updateStateAfterAlloc(request: RequestView, plan: LoadPlan): void {
      this.#wake();
      super.updateStateAfterAlloc(request, plan);
      this.#wake();
    }
    override buildConnectorMeta(output: SchedulerOutput): void {
      super.buildConnectorMeta(output);
      this.#wake();
    }
    override updateConnectorOutput(results: readonly TransferResult[]): void {
      super.updateConnectorOutput(results);
      numStored += results.filter(({ kind, ok }) => kind === "store" && ok).length;
      this.#wake();
    }
    override requestFinished(): undefined {
      this.#wake();
    }
  }
  const { ask, lines, stop } = await serve(new Wakes());
  for (const [handle, salt] of [1, 2, 3, 1, 2, 3, 1].entries()) {
    const request = requestOf(handle, salt);
    const { tokens } = expectedOf(request, { vocabSize: VOCABULARY, groups: [FULL] });
    expect(await ask(salt)).toEqual([...tokens]);
  }
  expect(lines).toEqual([]);
  expect(numStored).toBeGreaterThan(0);
  await stop();
});

test("in the hook in which it has learnt what a look-up waits for: the request goes on at once", async () => {
  class Learns extends Bound {
    #knows = false;
    override findBlocks(): "pending" | undefined {
      return this.#knows ? undefined : "pending";
    }
    override buildConnectorMeta(): void {
      if (this.#knows) return;
      this.#knows = true;
      this.context.wake();
    }
  }
  const { ask, lines, stop } = await serve(new Learns());
  expect((await ask(1)).length).toBe(4);
  expect(lines).toEqual([]);
  await stop();
});
