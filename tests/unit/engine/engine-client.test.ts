import { afterEach, describe, expect, test } from "bun:test";
import type { EngineConfig } from "../../../engine/config.ts";
import { connectEngine, type EngineClient } from "../../../engine/engine-client.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import type { TokenEvent } from "../../../engine/request.ts";
import { expectedOf, makeRequest, promptOf } from "../../support/scheduler-world.ts";

const KV = { vocabSize: 50, numGroups: 1 };
const clients: EngineClient[] = [];

async function connect(modelPath = "served"): Promise<EngineClient> {
  const worker = new Worker(new URL("../../support/fake-engine-worker.ts", import.meta.url));
  const client = await connectEngine(worker, { modelPath } as EngineConfig);
  clients.push(client);
  return client;
}

afterEach(async () => {
  for (const client of clients.splice(0)) await client.shutdown(0);
});

async function collect(stream: AsyncIterable<TokenEvent>): Promise<TokenEvent[]> {
  const events: TokenEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe("engine client", () => {
  test("streams many requests at once, each with the tokens it has alone", async () => {
    const client = await connect();
    const requests = Array.from({ length: 20 }, (_, i) =>
      makeRequest(i, promptOf(1 + i * 2, i, 50), { maxTokens: 1 + (i % 5) }),
    );
    const streams = await Promise.all(requests.map((request) => collect(client.generate(request))));
    for (const [i, events] of streams.entries()) {
      const expected = expectedOf(requests[i]!, KV);
      expect(events.flatMap(({ tokenIds }) => tokenIds)).toEqual(expected.tokens);
      expect(events.flatMap(({ logprobs }) => logprobs)).toHaveLength(expected.tokens.length);
      expect(events.at(-1)!.finish).toEqual(expected.finish);
      expect(events.slice(0, -1).every(({ finish }) => finish === undefined)).toBe(true);
    }
    expect(client.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    expect(client.info.modelName).toBe("fake");
  });

  test("leaving a stream early aborts its request", async () => {
    const client = await connect();
    for await (const event of client.generate(makeRequest(1, [1], { maxTokens: 90 }))) {
      expect(event.tokenIds).toHaveLength(1);
      break;
    }
    await collect(client.generate(makeRequest(2, [1], { maxTokens: 2 })));
    expect(client.stats()).toMatchObject({ running: 0, usedBlocks: 0 });
  });

  test("abort by id ends the stream with reason abort", async () => {
    const client = await connect("stuck");
    const events = collect(client.generate(makeRequest(1, [1, 2])));
    client.abort("request-1");
    client.abort("request-of-nobody");
    expect(await events).toEqual([
      {
        tokenIds: [],
        logprobs: [],
        finish: {
          reason: "abort",
          usage: { promptTokens: 2, completionTokens: 0, cachedTokens: 0 },
        },
      },
    ]);
  });

  test("a request that can never fit is refused at once", async () => {
    const client = await connect();
    expect(() => client.generate(makeRequest(1, promptOf(99, 1, 50), { maxTokens: 2 }))).toThrow(
      "101 together",
    );
    expect(() => client.generate(makeRequest(1, [77]))).toThrow("token 0 of the prompt is 77");
  });

  test("an id that is running is refused, one that has ended may come again", async () => {
    const client = await connect();
    const events = collect(client.generate(makeRequest(1, [1])));
    expect(() => client.generate(makeRequest(1, [1]))).toThrow(
      "a request with id request-1 is running",
    );
    await events;
    expect(await collect(client.generate(makeRequest(1, [1])))).toEqual(await events);
  });

  test("a prompt that is a view into a larger buffer crosses alone", async () => {
    const client = await connect();
    const tokens = Int32Array.from({ length: 1000 }, (_, i) => i % 50);
    const request = { ...makeRequest(1, []), promptTokenIds: tokens.subarray(5, 9) };
    const events = await collect(client.generate(request));
    expect(events.flatMap(({ tokenIds }) => tokenIds)).toEqual(expectedOf(request, KV).tokens);
  });

  test("shutdown lets running requests end and refuses new ones", async () => {
    const client = await connect();
    const request = makeRequest(1, [1], { maxTokens: 40 });
    const events = collect(client.generate(request));
    const down = client.shutdown(60_000);
    expect(() => client.generate(makeRequest(2, [1]))).toThrow("takes no requests");
    await down;
    expect((await events).at(-1)!.finish?.reason).toBe("length");
    await client.shutdown(0);
  });

  test("shutdown aborts what has not ended in time", async () => {
    const client = await connect("stuck");
    const events = collect(client.generate(makeRequest(1, [1])));
    await client.shutdown(1);
    expect((await events).at(-1)!.finish?.reason).toBe("abort");
  });

  test("an engine that cannot start says why", async () => {
    const error = await connect("missing").then(
      () => undefined,
      (thrown: KvEngineError) => thrown,
    );
    expect(error).toMatchObject({
      code: "bad_model",
      message: "the file is not there",
      subject: "missing",
      hint: "look elsewhere",
    });
  });

  test.each([
    ["throw", "the engine's thread failed"],
    ["exit", "the engine's thread ended"],
  ])(
    "a thread that dies by %s gives every request an error and reports it once",
    async (id, message) => {
      const client = await connect("stuck");
      const fatal: KvEngineError[] = [];
      client.onFatal((error) => fatal.push(error));
      const first = collect(client.generate(makeRequest(1, [1])));
      const second = collect(client.generate({ ...makeRequest(2, [1]), id }));
      for (const events of [await first, await second]) {
        expect(events.at(-1)!.finish).toMatchObject({
          reason: "error",
          error: { code: "internal" },
        });
        expect(events.at(-1)!.finish?.error?.message).toContain(message);
      }
      expect(fatal).toHaveLength(1);
      expect(fatal[0]!.message).toContain(message);
      expect(() => client.generate(makeRequest(3, [1]))).toThrow("the engine has stopped");
      const late: KvEngineError[] = [];
      client.onFatal((error) => late.push(error));
      expect(late).toEqual(fatal);
    },
  );
});
