/** Whose KV a request may read, by the blocks of the pool themselves: the HTTP side, its keys, and a scheduler that the test looks into. */

import { describe, expect, test } from "bun:test";
import { connectEngine } from "../../engine/engine-client.ts";
import { EngineHost } from "../../engine/engine-host.ts";
import type { FromEngine, ToEngine } from "../../engine/engine-messages.ts";
import type { EngineInfo } from "../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../engine/runner/native.ts";
import type { ScheduledBatch } from "../../engine/scheduler/batch.ts";
import { Scheduler } from "../../engine/scheduler/scheduler.ts";
import type { ApiKey } from "../../engine/server/access/api-keys.ts";
import { createApp } from "../../engine/server/server.ts";
import { BYTE_VOCAB_SIZE, ByteTokenizer, EOS_ID } from "../support/byte-tokenizer.ts";
import { ENGINE_CONFIG } from "../support/engine-config.ts";
import { FakeEngineClient } from "../support/fake-engine-client.ts";
import { createStopChecker, FULL, schedulerOptions } from "../support/scheduler-world.ts";
import { WitnessRunner } from "../support/witness-runner.ts";

const BLOCK_SIZE = 4;
const PROMPT = "the same prompt of forty characters......";
/** Whole blocks of the prompt, without its last token, which is always computed. */
const SHARED_BLOCKS = Math.floor((PROMPT.length - 1) / BLOCK_SIZE);

const KEYS: readonly ApiKey[] = [
  { name: "a", key: "key-a", cacheSalt: "salt-a" },
  { name: "a again", key: "key-a2", cacheSalt: "salt-a" },
  { name: "b", key: "key-b", cacheSalt: "salt-b" },
  { name: "open", key: "key-open" },
];

interface World {
  readonly scheduler: Scheduler;
  /** Blocks that stood in two sequences' tables in one step, of the same salt and of different ones. */
  readonly shared: ReadonlySet<number>;
  readonly mixed: ReadonlySet<number>;
  /** Generates to the end; answers the blocks with content that stood in its tables, and the tokens that were cached. */
  readonly ask: (
    key: string,
    body?: object,
  ) => Promise<{ blocks: readonly number[]; cached: number }>;
}

async function serve(): Promise<World> {
  const options = schedulerOptions({
    ...{ maxNumSeqs: 4, maxNumBatchedTokens: 64, blockSize: BLOCK_SIZE, numBlocks: 200 },
    ...{ maxModelLen: 100, vocabSize: BYTE_VOCAB_SIZE },
  });
  const scheduler = new Scheduler(options, {
    ...{ createStopChecker, hashBlocks, hashEach, noneHash: noneHash("0") },
    now: () => performance.now(),
  });
  const runner = await WitnessRunner.create({
    ...{ maxRows: 4, maxTokens: 64, maxSamples: options.maxSamples, maxModelLen: 100 },
    ...{ blockSize: BLOCK_SIZE, numBlocks: 201, groups: [FULL], vocabSize: BYTE_VOCAB_SIZE },
  });
  const [touched, shared, mixed] = [new Set<number>(), new Set<number>(), new Set<number>()];
  const submit = runner.submit.bind(runner);
  runner.submit = (batch: ScheduledBatch): void => {
    const owners = new Map<number, string | undefined>();
    for (const { blocks, request } of batch.sequences.slice(0, batch.numRows)) {
      for (const id of blocks.tables[0]?.entries ?? []) {
        touched.add(id);
        if (owners.has(id)) (owners.get(id) === request.cacheSalt ? shared : mixed).add(id);
        owners.set(id, request.cacheSalt);
      }
    }
    submit(batch);
  };
  const info: EngineInfo = { ...new FakeEngineClient().info, maxModelLen: 100, numBlocks: 200 };
  const client = await connectEngine(inThisThread(scheduler, runner, info), {
    ...ENGINE_CONFIG,
    modelPath: "m",
  });
  const app = createApp({
    ...{ client, model: { name: "tiny" }, tokenizer: new ByteTokenizer(), version: "0" },
    special: { bosToken: "", eosToken: "", endIds: [EOS_ID] },
    apiKeys: KEYS,
  });
  return {
    scheduler,
    shared,
    mixed,
    async ask(key, body = {}) {
      touched.clear();
      const answer = await app.request("/v1/completions", {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
        body: JSON.stringify({ prompt: PROMPT, max_tokens: 2, ignore_eos: true, ...body }),
      });
      const { usage } = (await answer.json()) as {
        usage: { prompt_tokens_details: { cached_tokens: number } };
      };
      // A block without a hash is found by nobody; the next request may write over it.
      const blocks = [...touched].filter((id) => scheduler.pool.isHashed(id));
      return { blocks, cached: usage.prompt_tokens_details.cached_tokens };
    },
  };
}

/** The engine's end of the messages without a thread of its own, so that its pool can be looked at. */
function inThisThread(scheduler: Scheduler, runner: WitnessRunner, info: EngineInfo): Worker {
  const worker = new EventTarget();
  const host = new EngineHost(
    (data: FromEngine) => worker.dispatchEvent(new MessageEvent("message", { data })),
    () => Promise.resolve({ scheduler, runner, info }),
  );
  return Object.assign(worker, {
    postMessage: (message: ToEngine) => host.receive(message),
    terminate(): void {},
  }) as unknown as Worker;
}

function common(one: readonly number[], other: readonly number[]): number[] {
  return one.filter((id) => other.includes(id));
}

describe("blocks of the pool", () => {
  test("are never shared by keys with different salts, and are by those with the same", async () => {
    const { ask, scheduler } = await serve();
    const a = await ask("key-a");
    const b = await ask("key-b");
    const open = await ask("key-open");
    for (const [one, other] of [
      [a, b],
      [a, open],
      [b, open],
    ] as const)
      // prettier-ignore
      expect(common(one.blocks, other.blocks)).toEqual([]);
    expect([a, b, open].map(({ cached }) => cached)).toEqual([0, 0, 0]);
    for (const [key, first] of [
      ["key-a", a],
      ["key-a2", a],
      ["key-b", b],
      ["key-open", open],
    ] as const) {
      const again = await ask(key);
      expect(common(again.blocks, first.blocks)).toHaveLength(SHARED_BLOCKS);
      expect(again.cached).toBe(SHARED_BLOCKS * BLOCK_SIZE);
    }
    scheduler.checkIntegrity();
  });

  test("are in no two tables at a time, unless the salt is the same", async () => {
    const { ask, shared, mixed } = await serve();
    const keys = ["key-a", "key-b", "key-a2", "key-open"];
    await Promise.all(keys.map((key) => ask(key, { max_tokens: 20 })));
    expect(shared.size).toBeGreaterThanOrEqual(SHARED_BLOCKS);
    expect([...mixed]).toEqual([]);
  });

  test("are not read by whoever writes a key's salt into a request", async () => {
    const { ask } = await serve();
    const a = await ask("key-a");
    for (const salt of ["salt-a", JSON.stringify(["key", "salt-a", null])]) {
      const forged = await ask("key-b", { cache_salt: salt });
      expect(common(forged.blocks, a.blocks)).toEqual([]);
    }
  });

  test("a request's own salt keeps it apart from others of the same key", async () => {
    const { ask } = await serve();
    const plain = await ask("key-a");
    const own = await ask("key-a", { cache_salt: "x" });
    expect(common(own.blocks, plain.blocks)).toEqual([]);
    expect(common((await ask("key-a2", { cache_salt: "x" })).blocks, own.blocks)).toHaveLength(
      SHARED_BLOCKS,
    );
  });
});
