/** /kv/sessions: what is taken, what is asked of the engine, who sees what; files come and go whole. */

import { readlinkSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
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

/** Whether a path of an open file is still one of ours: its number may be another file's by now. */
function isOpen(path: string): boolean {
  try {
    return readlinkSync(path).includes("kvengine-session-");
  } catch {
    return false;
  }
}

function app(deps: Parameters<typeof testApp>[0] = {}): Moving {
  const made = testApp(deps);
  const queries: SessionQuery[] = [];
  const files: string[] = [];
  made.client.moved = async (query): Promise<SessionAnswer> => {
    queries.push(query);
    if (query.kind === "export") await writeFile(query.path, "the file");
    if (query.kind === "import") files.push(await readFile(query.path, "utf8"));
    const places = { numPages: 2, onDevice: 1, inHost: 2, onDisk: 0 };
    const facts = {
      name: "trip",
      state: "frozen",
      numTokens: 32,
      numFoundTokens: 16,
      numKept: 2,
      msLeft: 5000,
      survivesRestart: true,
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
    expect(frozen).toMatchObject({ session: "trip", tokens: 32, found_tokens: 16 });
    expect(frozen).toMatchObject({ host_pages: 2, kept_pages: 2, survives_restart: true });
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

  test("is named by a header or by OpenAI's prompt_cache_key where the body names none, and no request's KV is another's by it", async () => {
    const { post, app: served, queries, client } = app();
    const ask = async (body: object, header?: string): Promise<string | null> => {
      const headers = header === undefined ? {} : { "x-kvengine-session": header };
      const answer = await post("/v1/completions", { prompt: "hi", ...body }, headers);
      expect(answer.status).toBe(200);
      return answer.headers.get("x-kvengine-warnings");
    };
    const fields = { session_id: "body", prompt_cache_key: "hint" };
    expect(await ask(fields, "header")).toBeNull();
    expect(await ask({ ...fields, session_id: null }, "header")).toBeNull();
    expect(await ask({ prompt_cache_key: "hint" })).toBeNull();
    // A hint that cannot be a name is no error.
    for (const key of ["", "x".repeat(257), "a\nb"])
      expect(await ask({ prompt_cache_key: key })).toBe("ignored: prompt_cache_key");
    await served.request("/kv/sessions");
    const requests = client.sequences.map(({ request }) => request);
    const names = ["body", "header", "hint"];
    const named = names.map((session, i) => ({ session, request: requests[i]!.id }));
    expect(queries).toEqual([{ kind: "list", owner: "", named }]);
    for (const { cacheSalt } of requests) expect(cacheSalt).toBeUndefined();
    const metrics = await (await served.request("/metrics")).text();
    expect(metrics).toMatch(/^kvengine:sessions\{state="named"[^}]*\} 3$/m);
  });

  test("has no name by a header that a name may not be", async () => {
    const { post, client } = app();
    for (const [path, body] of [
      ["/v1/completions", { prompt: "hi" }],
      ["/v1/chat/completions", { messages: [{ role: "user", content: "hi" }] }],
      ["/v1/responses", { input: "hi" }],
    ] as const) {
      const long = { "x-kvengine-session": "x".repeat(257) };
      const { status, param } = await refusal(post(path, body, long));
      expect([status, param]).toEqual([400, "x-kvengine-session"]);
      const short = { "x-kvengine-session": "x".repeat(256) };
      expect((await post(path, body, short)).status).toBe(200);
    }
    expect(client.sequences).toHaveLength(3);
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
    if (query?.kind === "export") expect(isOpen(query.path)).toBe(false);
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
    if (first?.kind === "import") expect(isOpen(first.path)).toBe(false);
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
