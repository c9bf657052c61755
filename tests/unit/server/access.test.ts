import { describe, expect, test } from "bun:test";
import { timingSafeEqual } from "node:crypto";
import { KeyRing } from "../../../engine/server/access/api-keys.ts";
import { createCaller } from "../../../engine/server/access/caller.ts";
import { parseKeyFile } from "../../../engine/server/access/key-file.ts";
import type { AccessEntry } from "../../../engine/server/access-log.ts";
import { Pace } from "../../../engine/server/pace.ts";
import { QueuePlaces } from "../../../engine/server/queue-places.ts";
import { apiKeys } from "../../support/api-keys.ts";
import { say } from "../../support/fake-engine-client.ts";
import { thrownBy } from "../../support/thrown.ts";
import { events, json, refusal, testApp } from "./test-app.ts";

describe("keys", () => {
  test("every key is compared each time, as a SHA-256 digest", () => {
    const lengths: number[] = [];
    const ring = new KeyRing(apiKeys("one", "two", "a much longer third"), (a, b) => {
      lengths.push(a.length, b.length);
      return timingSafeEqual(a, b);
    });
    expect(ring.find("Bearer one").name).toBe("key 1");
    expect(ring.find("bearer  a much longer third").name).toBe("key 3");
    for (const wrong of ["Bearer four", "Bearer", "Basic one", undefined])
      expect(() => ring.find(wrong)).toThrow(/API key/);
    expect(lengths).toEqual(Array.from({ length: 6 * 3 * 2 }, () => 32));
  });

  test("are refused at start-up when they are empty or there twice", () => {
    expect(() => new KeyRing(apiKeys("a", ""))).toThrow("empty");
    expect(() => new KeyRing(apiKeys("a", "a"))).toThrow("key 1 and key 2 are the same");
    const twice = [{ name: "a", key: "1" }, { name: "a", key: "2" }]; // prettier-ignore
    expect(() => new KeyRing(twice)).toThrow("a is there twice");
  });
});

describe("what a key allows", () => {
  test("a rate: a minute's worth at once, then as time passes", async () => {
    let now = 0;
    const caller = createCaller({ name: "a", key: "k", rate: 2 }, () => now);
    caller.checkRate();
    caller.checkRate();
    expect(await thrownBy(() => caller.checkRate())).toMatchObject({
      code: "too_many_requests",
      retryAfter: 30,
    });
    now = 29_999;
    expect(() => caller.checkRate()).toThrow("2 requests a minute");
    now = 30_000;
    caller.checkRate();
    now = 1_000_000;
    caller.checkRate();
    caller.checkRate();
    expect(() => caller.checkRate()).toThrow();
  });

  test("a rate below one a minute", async () => {
    let now = 0;
    const caller = createCaller({ name: "a", key: "k", rate: 0.5 }, () => now);
    caller.checkRate();
    expect(await thrownBy(() => caller.checkRate())).toMatchObject({ retryAfter: 120 });
    now = 120_000;
    caller.checkRate();
  });

  test("so many at a time: whoever is refused is told when one of them may have ended", async () => {
    let now = 0;
    const caller = createCaller({ name: "a", key: "k", concurrency: 2 }, () => now);
    const ends = [caller.begin(), caller.begin()];
    now = 10_000;
    expect(await thrownBy(() => caller.begin())).toMatchObject({ retryAfter: 10 });
    ends[0]?.();
    ends[0]?.();
    caller.begin();
    expect(await thrownBy(() => caller.begin())).toMatchObject({ retryAfter: 5 });
  });

  test("so many at a time, counted from the start of a request to the end of its stream", async () => {
    const { post, client } = testApp({ apiKeys: [{ name: "a", key: "k", concurrency: 1 }] });
    client.script = undefined;
    const headers = { authorization: "Bearer k" };
    const complete = (body: object): Promise<Response> =>
      post("/v1/completions", { prompt: "a", max_tokens: 9, ...body }, headers);
    const first = await complete({ stream: true });
    const second = await complete({});
    expect(second.headers.get("retry-after")).toBe("1");
    expect(await refusal(second)).toMatchObject({
      status: 429,
      message: expect.stringContaining("at most 1"),
    });
    const [sequence] = await client.arrived(1);
    for (const event of say("a")(sequence?.request ?? never())) sequence?.send(event);
    await first.text();
    client.script = say("b");
    expect((await complete({})).status).toBe(200);
    expect((await complete({})).status).toBe(200);
  });

  test("a priority no better than its own, and a salt that a request's is added to", () => {
    const caller = createCaller({ name: "a", key: "k", priority: 5, cacheSalt: "s" });
    expect([caller.priority(0), caller.priority(3), caller.priority(9)]).toEqual([5, 5, 9]);
    const first = createCaller({ name: "c", key: "m", priority: -5 });
    expect([first.priority(0), first.priority(-9), first.priority(3)]).toEqual([-5, -5, 3]);
    expect(caller.cacheSalt(undefined)).not.toBe(caller.cacheSalt("s"));
    expect(caller.cacheSalt("x")).toBe(caller.cacheSalt("x"));
    const free = createCaller({ name: "b", key: "l" });
    expect([free.priority(-3), free.cacheSalt("x"), free.cacheSalt(undefined)]).toEqual([
      -3,
      "x",
      undefined,
    ]);
  });

  test("is read from a file", () => {
    const text =
      '[[key]]\nname = "a"\nkey = "k"\nrate = 60\ncache_salt = "s"\n[[key]]\nname = "b"\nkey = "l"\n';
    const [a, b] = parseKeyFile("keys.toml", text);
    expect(a).toMatchObject({ name: "a", key: "k", rate: 60, cacheSalt: "s" });
    expect(b).toMatchObject({ name: "b", key: "l", rate: undefined });
  });

  test.each([
    ["[[key", "is no TOML"],
    ['[[key]]\nname = "a"', "key[0].key"],
    ['[[key]]\nname = "a"\nkey = "secret"\nrate = 0', "key[0].rate"],
    ['[[key]]\nname = "a"\nkey = "secret"\nsalt = "s"', "key[0]"],
    ['[[key]]\nname = "a"\nkey = "secret', "is no TOML"],
  ])("a file that is wrong says where, and no key: %j", async (text, says) => {
    const error = await thrownBy(() => parseKeyFile("keys.toml", text));
    expect(error).toMatchObject({ code: "bad_config", message: expect.stringContaining(says) });
    expect(String(error)).not.toContain("secret");
  });
});

describe("the queue", () => {
  test("places are counted from the first that the engine has not begun", () => {
    const places = new QueuePlaces();
    const [a, b, c] = [{}, {}, {}];
    for (const one of [a, b, c]) places.enter(one);
    expect([a, b, c].map((one) => places.placeOf(one, 2))).toEqual([0, 1, 2]);
    expect([a, b, c].map((one) => places.placeOf(one, 5))).toEqual([1, 2, 3]);
    places.leave(a);
    expect([a, b, c].map((one) => places.placeOf(one, 1))).toEqual([undefined, 0, 1]);
  });

  test("says how long a place in it would have taken, by how fast it has been moving", () => {
    let now = 0;
    const places = new QueuePlaces(new Pace(() => now));
    expect(places.secondsAt(100)).toBe(1);
    const all = Array.from({ length: 200 }, () => ({}));
    for (const one of all) places.enter(one);
    // Nobody has left: the next one does not leave sooner than in the time that this has lasted.
    now = 4000;
    expect([1, 5, 1000].map((place) => places.secondsAt(place))).toEqual([4, 20, 60]);
    // Then one each half second.
    for (const one of all.slice(0, 100)) {
      now += 500;
      places.leave(one);
      places.leave(one);
    }
    expect([1, 2, 10, 20].map((place) => places.secondsAt(place))).toEqual([1, 1, 5, 10]);
    // What comes after an idle time is not measured by it.
    for (const one of all) places.leave(one);
    now += 1_000_000;
    places.enter({});
    expect(places.secondsAt(10)).toBe(1);
    now += 2000;
    expect(places.secondsAt(3)).toBe(6);
  });

  test("a full one says which place it would have been", async () => {
    const { chat, client } = testApp({ maxQueued: 3 });
    client.report({ waiting: 3 });
    const response = await chat({});
    expect(response.headers.get("x-kvengine-queue-position")).toBe("4");
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await refusal(response)).toMatchObject({
      status: 429,
      message: expect.stringContaining("number 4"),
    });
    client.report({ waiting: 2 });
    expect((await chat({})).status).toBe(200);
  });
});

describe("the access log", () => {
  test("has an entry for each answer, and no word of it", async () => {
    const entries: AccessEntry[] = [];
    const { app, post, client } = testApp({
      apiKeys: apiKeys("k"),
      onAccess: (entry) => entries.push(entry),
    });
    client.script = say("Hello");
    const headers = { authorization: "Bearer k", "x-request-id": "r1" };
    await json(post("/v1/completions", { prompt: "a secret" }, headers));
    await events(post("/v1/completions", { prompt: "a secret", stream: true }, headers));
    await app.request("/v1/models");
    expect(entries).toMatchObject([
      {
        path: "/v1/completions",
        status: 200,
        key: "key 1",
        requestId: "r1",
        usage: { promptTokens: 8, completionTokens: 6 },
      },
      { path: "/v1/completions", status: 200, outcome: "end", usage: { completionTokens: 6 } },
      { path: "/v1/models", status: 401 },
    ]);
    expect(JSON.stringify(entries)).not.toMatch(/secret|Hello/);
  });

  test("prompts are told where they are asked for, once for all choices", async () => {
    const prompts: string[] = [];
    const { complete } = testApp({ onPrompt: (_, prompt) => prompts.push(prompt) });
    await complete({ prompt: ["a", "b"], n: 2 });
    expect(prompts).toEqual(["a", "b"]);
  });
});

test("requests under the root path are taken, with and without it", async () => {
  const { app } = testApp({ rootPath: "/llm" });
  expect((await app.request("/llm/v1/models")).status).toBe(200);
  expect((await app.request("/v1/models")).status).toBe(200);
  expect((await app.request("/llmx/v1/models")).status).toBe(404);
});

function never(): never {
  throw new Error("this cannot be");
}
