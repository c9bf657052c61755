import { apiKeys } from "../../support/api-keys.ts";
import { describe, expect, test } from "bun:test";
import { NO_TIMING } from "../../support/fake-engine-client.ts";
import { json, refusal, testApp } from "./test-app.ts";

describe("GET routes", () => {
  test("/v1/models lists the model and its aliases with max_model_len", async () => {
    const { app } = testApp();
    const list = await json(app.request("/v1/models"));
    expect(list.object).toBe("list");
    expect(list.data[0]).toEqual({
      id: "tiny",
      object: "model",
      created: expect.any(Number),
      owned_by: "kvengine",
      root: "tiny",
      parent: null,
      max_model_len: 200,
    });
    expect(list.data[1]).toMatchObject({ id: "org/tiny", root: "tiny" });
  });

  test("/v1/models/:id takes names with slashes, escaped or not", async () => {
    const { app } = testApp();
    for (const path of ["/v1/models/tiny", "/v1/models/org/tiny", "/v1/models/org%2Ftiny"]) {
      expect((await app.request(path)).status).toBe(200);
    }
    expect(await refusal(app.request("/v1/models/other"))).toMatchObject({
      status: 404,
      code: "model_not_found",
    });
    expect(await refusal(app.request("/v1/models/%zz"))).toMatchObject({ status: 404 });
  });

  test("/health, /ping, /version", async () => {
    const { app } = testApp();
    expect((await app.request("/health")).status).toBe(200);
    expect((await app.request("/ping")).status).toBe(200);
    expect(await json(app.request("/version"))).toEqual({ version: "0.1.0" });
  });

  test("an unknown route names the nearest", async () => {
    const { app, post } = testApp();
    expect(await refusal(post("/v1/chat/completion", {}))).toMatchObject({
      status: 404,
      code: "not_found",
      message: "there is no /v1/chat/completion (the nearest is /v1/chat/completions)",
    });
    expect((await refusal(app.request("/completely/elsewhere/and/far"))).message).toContain(
      "there are /v1/chat/completions",
    );
  });

  test("a wrong method is 405 and says which is right", async () => {
    const { app, post } = testApp();
    const get = await app.request("/v1/chat/completions");
    expect(get.headers.get("allow")).toBe("POST");
    expect(await refusal(get)).toMatchObject({
      status: 405,
      code: "method_not_allowed",
      message: expect.stringContaining("allowed is POST"),
    });
    expect((await post("/v1/models", {})).headers.get("allow")).toBe("GET");
    expect((await app.request("/v1/models/tiny", { method: "DELETE" })).status).toBe(405);
  });
});

describe("POST /reset_prefix_cache", () => {
  test("resets, whatever the body, also while draining, and asks for the key", async () => {
    const { app, post, client } = testApp({ apiKeys: apiKeys("k"), isDraining: () => true });
    expect((await post("/reset_prefix_cache", {})).status).toBe(401);
    expect(client.resets).toBe(0);
    const key = { authorization: "Bearer k" };
    const answer = await post("/reset_prefix_cache", "", key);
    expect([answer.status, await json(answer)]).toEqual([200, {}]);
    expect((await post("/reset_prefix_cache", "not JSON", key)).status).toBe(200);
    expect(client.resets).toBe(2);
    const get = await app.request("/reset_prefix_cache", { headers: key });
    expect(get.headers.get("allow")).toBe("POST");
  });
});

describe("POST /reset_prefix_cache?reset_external", () => {
  test("says whether connectors drop what they keep: yes, unless it is told to be false", async () => {
    const { app, client } = testApp();
    const reset = (query: string): Promise<Response> =>
      Promise.resolve(app.request(`/reset_prefix_cache${query}`, { method: "POST" }));
    for (const query of ["", "?reset_external=true", "?reset_external=False", "?reset_external=0"])
      expect((await reset(query)).status).toBe(200);
    expect(client.externalResets).toEqual([true, true, false, false]);
  });

  test("refuses anything else before it resets", async () => {
    const { app, client } = testApp();
    const answer = await app.request("/reset_prefix_cache?reset_external=maybe", {
      method: "POST",
    });
    expect(answer.status).toBe(400);
    expect(await json(answer)).toMatchObject({
      error: { message: expect.stringContaining('reset_external is "maybe"') },
    });
    expect(client.resets).toBe(0);
  });
});

describe("GET /health with connectors", () => {
  test("tells what computes and how far the host pool is", async () => {
    const { app, client } = testApp();
    const { backend } = client.info;
    expect(await json(await app.request("/health"))).toEqual({ status: "ok", backend });
    const pool = { numPages: 10, numReady: 4, numUsed: 1, pageBytes: 64, isGrowing: true };
    client.report({ hostPool: pool });
    expect(await json(await app.request("/health"))).toEqual({
      status: "ok",
      backend,
      host_pool: { state: "growing", pages: 10, pages_ready: 4 },
    });
    client.report({ hostPool: { ...pool, numReady: 9, isGrowing: false } });
    expect(await json(await app.request("/health"))).toEqual({
      status: "ok",
      backend,
      host_pool: { state: "ready", pages: 10, pages_ready: 9 },
    });
  });
});

describe("X-Request-Id", () => {
  test("is echoed, on errors too, and made where there is none or a strange one", async () => {
    const { app } = testApp();
    const id = async (headers: Record<string, string>, path = "/health"): Promise<string | null> =>
      (await app.request(path, { headers })).headers.get("x-request-id");
    expect(await id({ "x-request-id": "abc-1" })).toBe("abc-1");
    expect(await id({ "x-request-id": "abc-1" }, "/nowhere")).toBe("abc-1");
    expect(await id({})).toMatch(/^[0-9a-f-]{36}$/);
    expect(await id({ "x-request-id": "a b" })).toMatch(/^[0-9a-f-]{36}$/);
    expect(await id({ "x-request-id": "x".repeat(129) })).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("API keys", () => {
  test("guard /v1 and leave /health open", async () => {
    const { app, post, client } = testApp({ apiKeys: apiKeys("one", "two") });
    expect((await app.request("/health")).status).toBe(200);
    const none = await post("/v1/completions", { prompt: "a" });
    expect(none.headers.get("www-authenticate")).toBe("Bearer");
    expect(await refusal(none)).toMatchObject({
      status: 401,
      code: "invalid_api_key",
      type: "authentication_error",
    });
    for (const authorization of [
      "Bearer three",
      "Bearer ",
      "one",
      "Basic one",
      "Bearer one two",
      "Bearer ONE",
    ]) {
      expect((await post("/v1/completions", { prompt: "a" }, { authorization })).status).toBe(401);
    }
    expect(client.sequences).toHaveLength(0);
    for (const authorization of ["Bearer one", "Bearer two", "bearer one"]) {
      expect((await post("/v1/completions", { prompt: "a" }, { authorization })).status).toBe(200);
    }
    expect((await app.request("/v1/nowhere")).status).toBe(401);
  });

  test("no keys, no guard", async () => {
    expect((await testApp({ apiKeys: [] }).app.request("/v1/models")).status).toBe(200);
  });

  test("an empty key is never served", async () => {
    expect(() => testApp({ apiKeys: apiKeys("") })).toThrow("empty");
  });
});

describe("CORS", () => {
  test("is off unless asked for", async () => {
    const plain = await testApp().app.request("/health", {
      headers: { origin: "http://a.example" },
    });
    expect(plain.headers.get("access-control-allow-origin")).toBeNull();
    const { app } = testApp({ corsOrigins: ["http://a.example"], apiKeys: apiKeys("k") });
    const answer = await app.request("/health", { headers: { origin: "http://a.example" } });
    expect(answer.headers.get("access-control-allow-origin")).toBe("http://a.example");
    const other = await app.request("/health", { headers: { origin: "http://b.example" } });
    expect(other.headers.get("access-control-allow-origin")).toBeNull();
    const preflight = await app.request("/v1/completions", {
      method: "OPTIONS",
      headers: { origin: "http://a.example", "access-control-request-method": "POST" },
    });
    expect(preflight.status).toBe(204);
    const refused = await app.request("/v1/models", { headers: { origin: "http://a.example" } });
    expect(refused.status).toBe(401);
    expect(refused.headers.get("access-control-allow-origin")).toBe("http://a.example");
  });
});

describe("a server that takes no requests", () => {
  test("draining refuses new ones with Retry-After, running ones finish", async () => {
    let draining = false;
    const { app, chat, client } = testApp({ isDraining: () => draining });
    client.script = undefined;
    const running = await chat({ stream: true });
    const text = running.text();
    const [sequence] = await client.arrived(1);
    draining = true;
    const refused = await chat({});
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(await refusal(refused)).toMatchObject({ status: 503, code: "unavailable" });
    expect((await app.request("/health")).status).toBe(503);
    sequence?.sendText("on");
    sequence?.send({
      tokenIds: [],
      logprobs: [],
      finish: {
        reason: "stop",
        usage: { promptTokens: 1, completionTokens: 3, cachedTokens: 0 },
        timing: NO_TIMING,
      },
    });
    expect(await text).toEndWith("data: [DONE]\n\n");
  });

  test("after the engine has died every request says so", async () => {
    const { app, complete, client } = testApp();
    client.die("the worker has crashed");
    expect(await refusal(complete({}))).toMatchObject({
      status: 503,
      message: expect.stringContaining("the worker has crashed"),
    });
    expect((await app.request("/health")).status).toBe(503);
  });

  test("a full queue is 429 with Retry-After, and none by default", async () => {
    const full = testApp({ maxQueued: 3 });
    full.client.currentStats = { ...full.client.currentStats, waiting: 2 };
    expect((await full.complete({})).status).toBe(200);
    full.client.currentStats = { ...full.client.currentStats, waiting: 3 };
    const answer = await full.complete({});
    expect(answer.headers.get("retry-after")).toBe("1");
    expect(await refusal(answer)).toMatchObject({
      status: 429,
      code: "too_many_requests",
      type: "rate_limit_error",
    });
    const open = testApp();
    open.client.currentStats = { ...open.client.currentStats, waiting: 1_000_000 };
    expect((await open.complete({})).status).toBe(200);
  });
});
