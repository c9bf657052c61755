import { describe, expect, test } from "bun:test";
import { MAX_AHEAD, weightOf } from "../../../engine/read-ahead.ts";
import type { Finish, TokenEvent, TopLogprobs } from "../../../engine/request.ts";
import type { StepEvents } from "../../../engine/scheduler/step-events.ts";
import { NO_STATS, NO_TIMING, NO_USAGE } from "../../support/fake-engine-client.ts";
import { connectFake } from "../../support/fake-worker.ts";
import { makeRequest } from "../../support/scheduler-world.ts";

async function collect(stream: AsyncIterable<TokenEvent>): Promise<TokenEvent[]> {
  const events: TokenEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe("messages of the engine", () => {
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

  test("the engine may go on once readers were told of half of what it may be ahead", async () => {
    const { worker, client } = await connectFake();
    const source = client.generate(makeRequest(1, [1, 2]));
    let numTold = 0;
    source.onEvents(() => {
      while (source.take() !== undefined) numTold++;
    });
    const taken = (): number[] =>
      worker.posted.flatMap((one) => (one.type === "taken" ? [one.weight] : []));
    const say = (): void =>
      worker.say({ type: "events", at: 0, stats: NO_STATS, events: oneToken(1, 5, false) });
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const half = MAX_AHEAD / 2 / weightOf(oneToken(1, 5, false));
    for (let i = 1; i < half; i++) say();
    await turn();
    expect([numTold, ...taken()]).toEqual([half - 1]);
    say();
    expect(taken()).toEqual([]);
    await turn();
    expect([numTold, ...taken()]).toEqual([half, MAX_AHEAD / 2]);
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

  test("profiles are answered in order, or with the engine's end", async () => {
    const { worker, client } = await connectFake();
    const taken = [true, false, false].map((on) => client.takeProfile(on));
    expect(worker.posted.slice(-3)).toEqual(
      [true, false, false].map((on) => ({ type: "takeProfile", on })),
    );
    const profile = { steps: 0, seconds: 0, gaps: 0, ops: [] };
    for (const steps of [0, 4]) worker.say({ type: "profile", profile: { ...profile, steps } });
    expect((await Promise.all(taken.slice(0, 2))).map(({ steps }) => steps)).toEqual([0, 4]);
    worker.say({ type: "fatal", error: { code: "internal", message: "a kernel failed" } });
    await expect(taken[2]).rejects.toThrow("a kernel failed");
    await expect(client.takeProfile(true)).rejects.toThrow("the engine has stopped");
  });
});
