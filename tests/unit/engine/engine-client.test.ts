import { afterEach, describe, expect, test } from "bun:test";
import { connectEngine, type EngineClient } from "../../../engine/engine-client.ts";
import { epochMs } from "../../../engine/epoch.ts";
import type { KvEngineError } from "../../../engine/errors.ts";
import type { FromEngine, ToEngine } from "../../../engine/engine-messages.ts";
import type { Finish, TokenEvent, TopLogprobs } from "../../../engine/request.ts";
import type { RequestLimits } from "../../../engine/request-limits.ts";
import type { StepEvents } from "../../../engine/scheduler/step-events.ts";
import { ENGINE_CONFIG } from "../../support/engine-config.ts";
import {
  FakeEngineClient,
  NO_STATS,
  NO_TIMING,
  NO_USAGE,
} from "../../support/fake-engine-client.ts";
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

/** The engine's end of the messages, in the test's hands. */
class FakeWorker extends EventTarget {
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

describe("messages of the engine", () => {
  async function connectFake(): Promise<{ worker: FakeWorker; client: EngineClient }> {
    const worker = new FakeWorker();
    const client = await connectEngine(worker as unknown as Worker, {
      ...ENGINE_CONFIG,
      modelPath: "m",
    });
    return { worker, client };
  }

  test("tops and prompt log-probabilities go to the request that they are of", async () => {
    const { worker, client } = await connectFake();
    const streams = [1, 2, 3].map((id) => collect(client.generate(makeRequest(id, [1, 2]))));
    const handles = worker.posted.flatMap((one) => (one.type === "add" ? [one.handle] : []));
    const top = (rank: number): TopLogprobs => ({ rank, tokenIds: [rank], logprobs: [-rank] });
    const promptLogprobs = { logprobs: [-4], tops: [top(4)] };
    const cacheReceipt = { byTier: { device: 16 }, loadMs: 0, savedMs: 1 };
    const finish: Finish = { reason: "length", usage: NO_USAGE, timing: NO_TIMING };
    worker.say({
      type: "events",
      at: 0,
      stats: NO_STATS,
      events: {
        handles: Int32Array.from(handles),
        tokenStart: Int32Array.of(0, 2, 3, 5),
        tokenIds: Int32Array.of(10, 11, 20, 30, 31),
        logprobs: Float32Array.of(0, -1, -2, -3, -4),
        tops: [0, 1, 3, 4].map((index) => ({ index, top: top(index + 1) })),
        cached: [{ index: 1, numTokens: 16, receipt: cacheReceipt }],
        prompts: [{ index: 1, logprobs: promptLogprobs }],
        finishes: [0, 1, 2].map((index) => ({ index, finish })),
      },
    });
    expect(await Promise.all(streams)).toEqual([
      [{ tokenIds: [10, 11], logprobs: [0, -1], tops: [top(1), top(2)], finish }],
      [{ tokenIds: [20], logprobs: [-2], cachedTokens: 16, cacheReceipt, promptLogprobs, finish }],
      [{ tokenIds: [30, 31], logprobs: [-3, -4], tops: [top(4), top(5)], finish }],
    ]);
  });

  const END: Finish = { reason: "length", usage: NO_USAGE, timing: NO_TIMING };
  const oneToken = (handle: number, tokenId: number, ends: boolean): StepEvents => ({
    handles: Int32Array.of(handle),
    tokenStart: Int32Array.of(0, 1),
    tokenIds: Int32Array.of(tokenId),
    logprobs: Float32Array.of(0),
    tops: [],
    cached: [],
    prompts: [],
    finishes: ends ? [{ index: 0, finish: END }] : [],
  });

  test("a reader is told once of several that came together", async () => {
    const { worker, client } = await connectFake();
    const source = client.generate(makeRequest(1, [1, 2]));
    const told = Promise.withResolvers<void>();
    let times = 0;
    source.onEvents(() => {
      times++;
      told.resolve();
    });
    for (const tokenId of [5, 6, 7])
      worker.say({
        type: "events",
        at: 0,
        stats: NO_STATS,
        events: oneToken(1, tokenId, tokenId === 7),
      });
    expect(times).toBe(0);
    await told.promise;
    expect(times).toBe(1);
    const taken = [source.take(), source.take(), source.take()];
    expect(taken.flatMap((event) => event?.tokenIds ?? [])).toEqual([5, 6, 7]);
    expect(source.take()).toBeUndefined();
  });

  test("an observer sees each event as it comes, with the time that the engine gave, whatever the reader does", async () => {
    const { worker, client } = await connectFake();
    const seen: [number | undefined, number][] = [];
    const observe = (event: TokenEvent, at: number): void =>
      void seen.push([event.tokenIds[0], at]);
    const source = client.generate(makeRequest(1, [1, 2]), observe);
    worker.say({ type: "events", at: 10.5, stats: NO_STATS, events: oneToken(1, 5, false) });
    worker.say({ type: "events", at: 11.5, stats: NO_STATS, events: oneToken(1, 6, false) });
    expect(seen).toEqual([[5, 10.5], [6, 11.5]]); // prettier-ignore
    source.leave();
    worker.say({ type: "events", at: 12.5, stats: NO_STATS, events: oneToken(1, 7, false) });
    expect(seen).toHaveLength(2);
  });

  test("messages that keep coming do not hold readers back", async () => {
    const { worker, client } = await connectFake();
    const source = client.generate(makeRequest(1, [1, 2]));
    const taken: number[] = [];
    source.onEvents(() => {
      let numTokens = 0;
      while (source.take() !== undefined) numTokens++;
      taken.push(numTokens);
    });
    for (let i = 0; i < 20; i++)
      worker.say({ type: "events", at: 0, stats: NO_STATS, events: oneToken(1, 5, false) });
    expect(taken).toEqual([8, 8]);
  });

  test("a reader has its error before anybody hears that the engine has died", async () => {
    const { worker, client } = await connectFake();
    const source = client.generate(makeRequest(1, [1, 2]));
    const order: string[] = [];
    source.onEvents(() => order.push(source.take()?.finish?.reason ?? "nothing"));
    client.onFatal(() => order.push("fatal"));
    worker.say({ type: "fatal", error: { code: "internal", message: "a kernel failed" } });
    expect(order).toEqual(["error", "fatal"]);
  });

  test("a reader that leaves is told, has nothing more, and aborts once", async () => {
    const { worker, client } = await connectFake();
    const source = client.generate(makeRequest(1, [1, 2]));
    worker.say({ type: "events", at: 0, stats: NO_STATS, events: oneToken(1, 5, false) });
    let told = 0;
    source.onEvents(() => told++);
    source.leave();
    source.leave();
    expect(told).toBe(1);
    expect(source.take()).toBeUndefined();
    expect(worker.posted.filter(({ type }) => type === "abort")).toHaveLength(1);
  });

  test("the numbers of each are handed on, and the last are kept", async () => {
    const { worker, client } = await connectFake();
    const seen: number[] = [];
    client.onStats(({ stepTokens }) => seen.push(...stepTokens));
    const events = {
      handles: new Int32Array(0),
      tokenStart: Int32Array.of(0),
      tokenIds: new Int32Array(0),
      logprobs: new Float32Array(0),
      tops: [],
      cached: [],
      prompts: [],
      finishes: [],
    };
    worker.say({ type: "events", at: 0, events, stats: { ...NO_STATS, stepTokens: [1, 2] } });
    worker.say({
      type: "events",
      at: 0,
      events,
      stats: { ...NO_STATS, steps: 3, stepTokens: [5] },
    });
    expect(seen).toEqual([1, 2, 5]);
    expect(client.stats().steps).toBe(3);
  });

  test("a reset that the engine no longer answers is an error", async () => {
    const { worker, client } = await connectFake();
    const [first, second] = [client.resetPrefixCache(), client.resetPrefixCache()];
    worker.say({ type: "prefixCacheReset", generation: 7 });
    expect(await first).toBe(7);
    worker.say({ type: "fatal", error: { code: "internal", message: "a kernel failed" } });
    await expect(second).rejects.toThrow("a kernel failed");
    await expect(client.resetPrefixCache()).rejects.toThrow(
      "the engine has stopped: a kernel failed",
    );
    const { client: stopped } = await connectFake();
    const unanswered = stopped.resetPrefixCache();
    await stopped.shutdown(0);
    await expect(unanswered).rejects.toThrow("the engine has stopped");
    await expect(stopped.resetPrefixCache()).rejects.toThrow("the engine has stopped");
  });
});
