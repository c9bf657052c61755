/** POST /kv/pin, DELETE /kv/pin/{id}, GET /kv/pins: what is taken, what is asked of the engine, who sees what. */

import { describe, expect, test } from "bun:test";
import type { PinAnswer, PinQuery } from "../../../engine/connectors/pin-query.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { pinAnswerSchema, pinListSchema } from "../../../engine/server/pins/pin-json.ts";
import { apiKeys } from "../../support/api-keys.ts";
import { json, refusal, testApp, type TestApp } from "./test-app.ts";

interface Pinning extends TestApp {
  readonly queries: PinQuery[];
  /** The id of an answer. */
  readonly ask: (headers?: Record<string, string>) => Promise<string>;
}

function app(deps: Parameters<typeof testApp>[0] = {}): Pinning {
  const made = testApp(deps);
  const queries: PinQuery[] = [];
  made.client.pinned = (query): PinAnswer => {
    queries.push(query);
    const id = "pin" in query ? query.pin : "pin-1";
    return {
      pins: [{ id, numTokens: 32, numPages: 2, inHost: 2, onDisk: 1, msLeft: 5000 }],
      budget: 10,
      used: 2,
    };
  };
  const ask = async (headers: Record<string, string> = {}): Promise<string> =>
    (await json(made.post("/v1/completions", { prompt: "hi" }, headers))).id;
  return { ...made, queries, ask };
}

describe("a pin", () => {
  test("is of an answered request, for an hour unless told otherwise", async () => {
    const { ask, post, client, queries } = app();
    const id = await ask();
    const pin = pinAnswerSchema.parse(await json(post("/kv/pin", { id })));
    expect(pin).toMatchObject({
      object: "kv.pin",
      tokens: 32,
      pages: 2,
      host_pages: 2,
      disk_pages: 1,
      budget_pages: 10,
    });
    expect(pin.id).toMatch(/^pin-[0-9a-f-]{36}$/);
    await post("/kv/pin", { id, tokens: 16, ttl: 60 });
    const request = client.sequences[0]!.request.id;
    expect(queries).toEqual([
      { kind: "add", owner: "", pin: pin.id, request, ttlMs: 3_600_000 },
      { kind: "add", owner: "", pin: expect.any(String), request, ttlMs: 60_000, tokens: 16 },
    ]);
  });

  test("takes fields in their ranges, and no others", async () => {
    const { ask, post } = app();
    const id = await ask();
    for (const good of [{ ttl: 1 }, { ttl: 2_592_000 }, { tokens: 1 }, { tokens: null, ttl: null }])
      expect((await post("/kv/pin", { id, ...good })).status).toBe(200);
    const bad: readonly (readonly [object, string])[] = [
      [{}, "id"],
      [{ id: 7 }, "id"],
      [{ id, ttl: 0 }, "ttl"],
      [{ id, ttl: 2_592_001 }, "ttl"],
      [{ id, ttl: "1h" }, "ttl"],
      [{ id, tokens: 0 }, "tokens"],
      [{ id, tokens: 1.5 }, "tokens"],
      [{ id, token: 5 }, "token"],
    ];
    for (const [body, param] of bad)
      expect(await refusal(post("/kv/pin", body))).toMatchObject({ status: 400, param });
    const unknown = await refusal(post("/kv/pin", { id: "nobody" }));
    expect(unknown).toMatchObject({ status: 404, param: "id" });
  });

  test("is ended by its id, and listed with the others", async () => {
    const { app: served, queries } = app();
    const ended = await served.request("/kv/pin/pin-1", { method: "DELETE" });
    expect(pinAnswerSchema.parse(await json(ended)).id).toBe("pin-1");
    const list = pinListSchema.parse(await json(served.request("/kv/pins")));
    expect(list).toMatchObject({ object: "list", data: [{ id: "pin-1" }], used_pages: 2 });
    expect(list.data[0]!.expires_at * 1000).toBeGreaterThan(Date.now());
    expect(queries.map(({ kind }) => kind)).toEqual(["remove", "list"]);
  });

  test("that the engine refuses is refused in its words", async () => {
    const { ask, post, client } = app();
    const id = await ask();
    client.pinned = (): never => {
      throw new KvEngineError("unsupported", "no KV connector keeps pages");
    };
    expect(await refusal(post("/kv/pin", { id }))).toMatchObject({ status: 422 });
  });

  test("needs requests that are remembered", async () => {
    const { ask, post } = app({ explains: false });
    const refused = await refusal(post("/kv/pin", { id: await ask() }));
    expect(refused).toMatchObject({ status: 404 });
    expect(refused.message).toContain("--no-explain");
  });
});

test("with API keys nobody pins without one, and each key sees and ends its own alone", async () => {
  const { app: served, ask, post, queries } = app({ apiKeys: apiKeys("one", "two") });
  const as = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
  const id = await ask(as("one"));
  expect((await refusal(served.request("/kv/pins"))).status).toBe(401);
  expect((await refusal(post("/kv/pin", { id }))).status).toBe(401);
  expect((await refusal(post("/kv/pin", { id }, as("two")))).status).toBe(404);
  await post("/kv/pin", { id }, as("one"));
  for (const key of ["one", "two"]) await served.request("/kv/pins", { headers: as(key) });
  const [made, one, two] = queries.map(({ owner }) => owner);
  expect([made === one, one === two, one === ""]).toEqual([true, false, false]);
});
