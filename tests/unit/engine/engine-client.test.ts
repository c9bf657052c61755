import { afterEach, describe, expect, test } from "bun:test";
import { connectEngine, type EngineClient } from "../../../engine/engine-client.ts";
import { epochMs } from "../../../engine/epoch.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import type { TokenEvent } from "../../../engine/request.ts";
import { ENGINE_CONFIG } from "../../support/engine-config.ts";
import {
  type Answer,
  answerOf,
  expectedOf,
  FULL,
  makeRequest,
  promptOf,
} from "../../support/scheduler-world.ts";

const DEFINITION = { vocabSize: 50, groups: [FULL] };
const clients: EngineClient[] = [];

async function connect(modelPath = "served"): Promise<EngineClient> {
  const worker = new Worker(new URL("../../support/fake-engine-worker.ts", import.meta.url));
  const client = await connectEngine(worker, { ...ENGINE_CONFIG, modelPath });
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

function answered(events: readonly TokenEvent[]): Answer {
  const tokens = events.flatMap(({ tokenIds }) => tokenIds);
  return answerOf({ tokens, finish: events.at(-1)?.finish });
}

describe("engine client", () => {
  test("streams many requests at once, each with the tokens it has alone", async () => {
    const client = await connect();
    const requests = Array.from({ length: 20 }, (_, i) =>
      makeRequest(i, promptOf(1 + i * 2, i, 50), { maxTokens: 1 + (i % 5) }),
    );
    const streams = await Promise.all(requests.map((request) => collect(client.generate(request))));
    for (const [i, events] of streams.entries()) {
      const expected = expectedOf(requests[i]!, DEFINITION);
      expect(answered(events)).toEqual(expected);
      expect(events.flatMap(({ logprobs }) => logprobs)).toHaveLength(expected.tokens.length);
      expect(events.slice(0, -1).every(({ finish }) => finish === undefined)).toBe(true);
    }
    expect(client.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    expect(client.info.modelName).toBe("fake");
  });

  test("more tokens than the engine may be ahead come through, whether they are read or not", async () => {
    const client = await connect();
    const many = Array.from({ length: 30 }, (_, i) => makeRequest(i, [i], { maxTokens: 90 }));
    const unread = many.slice(0, 15).map((request) => client.generate(request));
    const read = await Promise.all(many.slice(15).map((one) => collect(client.generate(one))));
    for (const events of [...read, ...(await Promise.all(unread.map(collect)))])
      expect(events.at(-1)?.finish?.usage.completionTokens).toBe(90);
  });

  test("events carry the time at which the engine had them, by a clock that both threads share", async () => {
    const client = await connect();
    const times = [epochMs()];
    const observe = (_: TokenEvent, at: number): void => void times.push(at);
    await collect(client.generate(makeRequest(1, [1, 2], { maxTokens: 5 }), observe));
    times.push(epochMs());
    expect(times).toHaveLength(7);
    // A minute is far more than the two clocks may differ by, and far less than one without an epoch would.
    for (const at of times) expect(Math.abs(at - times[0]!)).toBeLessThan(60_000);
    expect(times.slice(1, -1)).toEqual(times.slice(1, -1).toSorted((a, b) => a - b));
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
          timing: expect.any(Object) as never,
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
    const again = await collect(client.generate(makeRequest(1, [1])));
    expect(answered(again)).toEqual(answered(await events));
  });

  test("a prompt that is a view into a larger buffer crosses alone", async () => {
    const client = await connect();
    const tokens = Int32Array.from({ length: 1000 }, (_, i) => i % 50);
    const request = { ...makeRequest(1, []), promptTokenIds: tokens.subarray(5, 9) };
    const events = await collect(client.generate(request));
    expect(events.flatMap(({ tokenIds }) => tokenIds)).toEqual([
      ...expectedOf(request, DEFINITION).tokens,
    ]);
  });

  test("a reset of the prefix cache answers its new generation, and running requests go on", async () => {
    const client = await connect();
    const request = makeRequest(1, promptOf(30, 1, 50), { maxTokens: 60 });
    const events = collect(client.generate(request));
    const [first, second] = await Promise.all([
      client.resetPrefixCache(),
      client.resetPrefixCache(),
    ]);
    expect(second).toBe(first + 1);
    expect(answered(await events)).toEqual(expectedOf(request, DEFINITION));
  });

  test("a prompt that was computed before is cached, after a reset it is not", async () => {
    const client = await connect();
    const cached = async (id: number): Promise<number | undefined> => {
      const events = await collect(client.generate(makeRequest(id, promptOf(30, 1, 50))));
      return events.at(-1)?.finish?.usage.cachedTokens;
    };
    expect([await cached(1), await cached(2)]).toEqual([0, 28]);
    await client.resetPrefixCache();
    expect([await cached(3), await cached(4)]).toEqual([0, 28]);
  });

  test("every computed token is in the numbers of some message", async () => {
    const client = await connect();
    let computed = 0;
    client.onStats(({ stepTokens }) => {
      for (const tokens of stepTokens) computed += tokens;
    });
    const request = makeRequest(1, promptOf(30, 1, 50), { maxTokens: 10 });
    await collect(client.generate(request));
    await client.shutdown(0);
    // A token that the last step computed in vain, behind the end, may or may not be among them.
    expect(computed - (30 + 9)).toBeOneOf([0, 1]);
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
