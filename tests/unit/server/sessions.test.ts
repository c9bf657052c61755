/** /kv/sessions: what is taken, what is asked of the engine, who sees what; files come and go whole. */

import { existsSync } from "node:fs";
import { describe, expect, test } from "bun:test";
import type {
  SessionAnswer,
  SessionQuery,
} from "../../../engine/connectors/sessions/session-query.ts";
import { sessionListSchema, sessionSchema } from "../../../engine/server/sessions/session-json.ts";
import { apiKeys } from "../../support/api-keys.ts";
import { json, refusal, testApp, type TestApp } from "./test-app.ts";

interface Moving extends TestApp {
  readonly queries: SessionQuery[];
  /** Files that the engine was given to read. */
  readonly files: string[];
}

function app(deps: Parameters<typeof testApp>[0] = {}): Moving {
  const made = testApp(deps);
  const queries: SessionQuery[] = [];
  const files: string[] = [];
  made.client.moved = async (query): Promise<SessionAnswer> => {
    queries.push(query);
    if (query.kind === "export") await Bun.write(query.path, "the file");
    if (query.kind === "import") files.push(await Bun.file(query.path).text());
    const places = { numPages: 2, onDevice: 1, inHost: 2, onDisk: 0 };
    const facts = {
      name: "trip",
      state: "frozen",
      numTokens: 32,
      numKept: 2,
      msLeft: 5000,
    } as const;
    return { sessions: [{ ...facts, ...places }], mostBytes: 100 };
  };
  return { ...made, queries, files };
}

describe("a session", () => {
  test("is named by requests, and moved by its name or by the id of an answer", async () => {
    const { complete, post, app: served, queries, client } = app();
    await complete({ session_id: "trip" });
    const { id } = await json(complete({ session_id: "trip" }));
    const { id: other } = await json(complete({}));
    const requests = client.sequences.map(({ request }) => request.id);
    const frozen = sessionSchema.parse(
      await json(post("/kv/sessions/freeze", { session: "trip" })),
    );
    expect(frozen).toMatchObject({ session: "trip", tokens: 32, host_pages: 2, kept_pages: 2 });
    await post("/kv/sessions/freeze", { session: "unknown", ttl: 60 });
    await post("/kv/sessions/thaw", { id, session: "named" });
    await post("/kv/sessions/thaw", { id: other });
    sessionListSchema.parse(await json(served.request("/kv/sessions")));
    const [last, third] = [requests[1]!, requests[2]!];
    expect(queries).toEqual([
      { kind: "freeze", owner: "", session: "trip", request: last, ttlMs: 86_400_000 },
      { kind: "freeze", owner: "", session: "unknown", ttlMs: 60_000 },
      { kind: "thaw", owner: "", session: "named", request: last },
      { kind: "thaw", owner: "", session: other, request: third },
      {
        ...{ kind: "list", owner: "" },
        named: [
          { session: "trip", request: last },
          { session: "named", request: last },
          { session: other, request: third },
        ],
      },
    ]);
  });

  test("takes fields in their ranges, and no others", async () => {
    const { post, complete, chat } = app();
    for (const good of [{ ttl: 1 }, { ttl: 2_592_000 }, { session: "x".repeat(256) }])
      expect((await post("/kv/sessions/freeze", { session: "a", ...good })).status).toBe(200);
    const bad: readonly (readonly [object, string])[] = [
      [{}, "session"],
      [{ session: "" }, "session"],
      [{ session: "x".repeat(257) }, "session"],
      [{ session: "a\nb" }, "session"],
      [{ session: 7 }, "session"],
      [{ id: "" }, "id"],
      [{ session: "a", ttl: 0 }, "ttl"],
      [{ session: "a", ttl: 2_592_001 }, "ttl"],
      [{ session: "a", name: "b" }, "name"],
    ];
    for (const [body, param] of bad)
      expect(await refusal(post("/kv/sessions/freeze", body))).toMatchObject({
        status: 400,
        param,
      });
    expect(await refusal(post("/kv/sessions/thaw", { id: "nobody" }))).toMatchObject({
      status: 404,
    });
    for (const ask of [complete, chat]) {
      expect((await ask({ session_id: "x".repeat(256) })).status).toBe(200);
      for (const wrong of ["", "x".repeat(257), 7, "a\u0000"])
        expect((await refusal(ask({ session_id: wrong }))).param).toBe("session_id");
    }
  });
});

describe("a session's file", () => {
  test("is sent whole, with its size, and nothing is left of it here", async () => {
    const { post, queries } = app();
    const answer = await post("/kv/sessions/export", { session: "trip" });
    expect(answer.headers.get("x-kvengine-file-bytes")).toBe("8");
    expect(await answer.text()).toBe("the file");
    const [query] = queries;
    expect(query).toMatchObject({ kind: "export", session: "trip" });
    if (query?.kind === "export") expect(existsSync(query.path)).toBe(false);
  });

  test("is taken up to what may be kept, with a name, a salt and a time of its own", async () => {
    const { app: served, queries, files } = app();
    const send = (query: string, body: string): Response | Promise<Response> =>
      served.request(`/kv/sessions/import${query}`, { method: "POST", body });
    const imported = await send("?session=trip&ttl=60&cache_salt=ours", "x".repeat(100));
    expect(sessionSchema.parse(await json(imported)).session).toBe("trip");
    await send("", "y");
    expect(files).toEqual(["x".repeat(100), "y"]);
    const [first, second] = queries.filter(({ kind }) => kind === "import");
    expect(first).toMatchObject({ session: "trip", ttlMs: 60_000, cacheSalt: "ours" });
    expect(second).toEqual({
      ...{ kind: "import", owner: "", path: expect.any(String), ttlMs: 86_400_000 },
    });
    if (first?.kind === "import") expect(existsSync(first.path)).toBe(false);
    expect((await refusal(send("", "x".repeat(101)))).status).toBe(413);
    for (const bad of ["?ttl=0", "?ttl=2592001", "?ttl=1h", "?session=", "?salt=x"])
      expect((await refusal(send(bad, "x"))).status).toBe(400);
  });
});

test("with API keys each sees its own, and only a key with a salt of its own brings files", async () => {
  const [one, two] = apiKeys("one", "two");
  const keys = [one!, { ...two!, cacheSalt: "2" }];
  const { app: served, post, complete, queries } = app({ apiKeys: keys });
  const as = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
  expect((await refusal(served.request("/kv/sessions"))).status).toBe(401);
  expect((await refusal(complete({}))).status).toBe(401);
  await post("/v1/completions", { prompt: "hi", session_id: "trip" }, as("one"));
  for (const key of ["one", "two"]) await served.request("/kv/sessions", { headers: as(key) });
  const named = queries.map((query) => (query.kind === "list" ? query.named.length : -1));
  expect(named).toEqual([1, 0]);
  const send = (key: string): Response | Promise<Response> =>
    served.request("/kv/sessions/import", { method: "POST", body: "x", headers: as(key) });
  expect((await refusal(send("one"))).status).toBe(422);
  await send("two");
  expect(queries.at(-1)).toMatchObject({ kind: "import", cacheSalt: '["key","2",null]' });
});
