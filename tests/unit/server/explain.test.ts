/** GET /kv/explain/{id}: who is told, by which id, and what of. */

import { apiKeys } from "../../support/api-keys.ts";
import { describe, expect, test } from "bun:test";
import type { ExplainQuery, PromptFacts } from "../../../engine/explain/facts.ts";
import { ExplainBook } from "../../../engine/server/explain/explain-book.ts";
import { explanationSchema } from "../../../engine/server/explain/explanation.ts";
import { json, refusal, testApp, type TestApp } from "./test-app.ts";

const FACTS: PromptFacts = {
  number: 7,
  state: "answered",
  tokenIds: Int32Array.from(Buffer.from("[user]hi[assistant]")),
  blockSize: 4,
  cachedTokens: 4,
  hitTokens: 4,
  receipt: { byTier: { device: 4 }, loadMs: 0, savedMs: 2 },
  runs: [
    { start: 0, end: 4, kind: "cached", tier: "device" },
    { start: 4, end: 19, kind: "computed" },
  ],
  cause: "differs",
  closest: {
    id: "other",
    number: 3,
    commonTokens: 6,
    tokenId: 104,
    otherTokenId: 106,
    isInAnswer: false,
    sameSalt: true,
    arrivedAt: 1_700_000_000_500,
  },
  hasSalt: false,
  engineStartedAt: 1_700_000_000_000,
  isComplete: true,
  connectors: [],
};

interface Asked extends TestApp {
  readonly queries: ExplainQuery[];
  readonly get: (id: string, key?: string) => Promise<Response>;
}

function app(deps: Parameters<typeof testApp>[0] = {}): Asked {
  const made = testApp(deps);
  const queries: ExplainQuery[] = [];
  made.client.facts = (query): PromptFacts => {
    queries.push(query);
    return FACTS;
  };
  const get = async (id: string, key?: string): Promise<Response> =>
    made.app.request(
      `/kv/explain/${id}`,
      key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } },
    );
  return { ...made, queries, get };
}

const RANDOM = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const idOf = (response: Response): string => response.headers.get("x-kvengine-explain") ?? "";

describe("the id to ask by", () => {
  test("is random and comes back with every answer, whole or streamed, of both endpoints", async () => {
    const { chat, complete } = app();
    const answers = await Promise.all([chat({}), complete({}), chat({ stream: true })]);
    const ids = answers.map(idOf);
    for (const id of ids) expect(id).toMatch(RANDOM);
    expect(new Set(ids).size).toBe(3);
  });

  test("is the answer's own id too, where the server drew that", async () => {
    const { chat, complete, get } = app();
    const response = await chat({});
    const { id } = await json(response);
    expect(id).toBe(`chatcmpl-${idOf(response)}`);
    expect((await get(id)).status).toBe(200);
    expect((await get((await json(complete({}))).id)).status).toBe(200);
    expect((await json(get(id))).id).toBe(idOf(response));
  });

  test("is another one where the client chose its own, which others might guess", async () => {
    const { post, get } = app();
    const body = { prompt: "hi" };
    const response = await post("/v1/completions", body, { "x-request-id": "job-1" });
    expect((await json(response)).id).toBe("cmpl-job-1");
    expect(idOf(response)).toMatch(RANDOM);
    expect(await refusal(get("job-1"))).toMatchObject({ status: 404, param: "id" });
    expect((await get(idOf(response))).status).toBe(200);
  });

  test("that nobody has is refused with what to do, and so is any other text", async () => {
    const { get } = app();
    for (const id of [
      "",
      "x",
      "%",
      "a/b",
      "5d1c5f0e-2f0e-4a43-9d6b-0c8f7a5b1c11",
      "é".repeat(99),
    ]) {
      const { status, message } = await refusal(get(encodeURI(id)));
      expect([status, message]).toEqual([404, expect.stringContaining("x-kvengine-explain")]);
    }
    expect((await refusal(get("%%"))).status).toBe(404);
  });

  test("of a request that was refused does not exist", async () => {
    const { complete, queries } = app();
    const response = await complete({ temperature: -1 });
    expect([response.status, idOf(response)]).toEqual([400, ""]);
    expect(queries).toEqual([]);
  });
});

describe("an explanation", () => {
  test("has the promised shape, and the place in the words of the request", async () => {
    const { chat, get } = app();
    const told = explanationSchema.parse(await json(get(idOf(await chat({})))));
    expect(told).toMatchObject({ engine_started_at: 1_700_000_000, is_complete: true });
    expect(told.prompts).toEqual([
      {
        index: 0,
        request: 7,
        state: "answered",
        prompt_tokens: 19,
        cached_tokens: 4,
        hit_tokens: 4,
        tiers: { device: 4 },
        load_ms: 0,
        saved_ms: 2,
        cause: "differs",
        difference: "message",
        token: {
          position: 6,
          id: 104,
          text: "h",
          near: "[user]hi[assistant]",
          part: "message",
          message: 0,
          role: "user",
          field: "content",
          offset: 0,
          looks_like: null,
        },
        closest: {
          request: 3,
          arrived_at: 1_700_000_000.5,
          common_tokens: 6,
          in_answer: false,
          same_salt: true,
        },
        against: null,
        removed: null,
        runs: [
          { start: 0, end: 4, state: "cached", tier: "device" },
          { start: 4, end: 19, state: "computed", tier: null },
        ],
        sentence:
          'The first 4 of 19 tokens were cached: token 6 ("h") in message 0 (user) is the first that differs from request 3, the closest one.',
        hints: [],
      },
    ]);
  });

  test("shows the other side's token to who knows the other's id, and to nobody else", async () => {
    const { chat, client, get } = app();
    const [own, other] = [idOf(await chat({})), idOf(await chat({}))];
    client.facts = ({ against }): PromptFacts =>
      against === undefined ? FACTS : { ...FACTS, against: { ...FACTS.closest!, id: against } };
    const alone = await json(get(own));
    expect(alone.prompts[0].against).toBeNull();
    expect(JSON.stringify(alone)).not.toContain('"j"');
    const both = await json(get(`${own}?against=chatcmpl-${other}`));
    expect(both.prompts[0].against).toMatchObject({ request: 3, token: { id: 106, text: "j" } });
    const unknown = await refusal(get(`${own}?against=nobody`));
    expect(unknown).toMatchObject({ status: 404, param: "against" });
  });

  test("of several prompts and choices is one for each prompt; a forgotten one says so", async () => {
    const { complete, client, get } = app();
    const asked: string[] = [];
    client.facts = ({ id }): PromptFacts | undefined => {
      asked.push(id);
      return asked.length === 2 ? undefined : FACTS;
    };
    const response = await complete({ prompt: ["a", "b", "c"], n: 2 });
    const { prompts } = explanationSchema.parse(await json(get(idOf(response))));
    expect(prompts.map(({ index, state }) => [index, state])).toEqual([
      [0, "answered"],
      [1, "forgotten"],
      [2, "answered"],
    ]);
    const ids = client.sequences.map(({ request }) => request.id);
    expect(asked).toEqual([ids[0]!, ids[2]!, ids[4]!]);
  });

  test("of one that has no first token yet promises nothing", async () => {
    const { chat, client, get } = app();
    const id = idOf(await chat({}));
    for (const state of ["waiting", "running", "ended"] as const) {
      client.facts = (): PromptFacts => ({ ...FACTS, state, cause: "unknown", runs: [] });
      const [told] = explanationSchema.parse(await json(get(id))).prompts;
      expect(told).toMatchObject({ state, token: null });
      expect(told?.sentence).toContain("first token");
    }
  });
});

describe("with API keys", () => {
  test("nobody without one is told anything, and each key sees its own requests alone", async () => {
    const { post, get, queries } = app({ apiKeys: apiKeys("one", "two") });
    const as = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
    const send = async (key: string): Promise<string> =>
      idOf(await post("/v1/completions", { prompt: "hi" }, as(key)));
    const [first, , third] = [await send("one"), await send("two"), await send("one")];
    expect((await refusal(get(first))).status).toBe(401);
    const unknown = await refusal(get(first, "two"));
    expect(unknown).toMatchObject({ status: 404, param: "id" });
    expect((await get(first, "one")).status).toBe(200);
    // Compared with requests of the same key only.
    expect(queries.at(-1)?.among?.length).toBe(2);
    expect((await get(`${third}?against=${first}`, "one")).status).toBe(200);
    expect(queries.length).toBe(2);
  });
});

describe("with --no-explain", () => {
  test("no id is given and nothing is told", async () => {
    const { chat, get, queries } = app({ explains: false });
    const response = await chat({});
    expect([response.status, idOf(response)]).toEqual([200, ""]);
    const { id } = await json(response);
    const refused = await refusal(get(id));
    expect(refused.status).toBe(404);
    expect(refused.message).toContain("--no-explain");
    expect(queries).toEqual([]);
  });
});

describe("the book", () => {
  const noted = (
    engineIds: readonly string[],
    content = "",
  ): Parameters<ExplainBook["add"]>[0] => ({
    party: "",
    engineIds,
    n: 1,
    rendering:
      content === ""
        ? undefined
        : { messages: [{ role: "u", content }], tools: [], template: "", render: () => content },
  });

  test("keeps requests of 256 sequences, and forgets the oldest for one more", () => {
    const book = new ExplainBook();
    const ids = Array.from({ length: 256 }, (_, i) => book.add(noted([`e${i}`]), undefined));
    expect(ids.every((id) => book.get(id, "") !== undefined)).toBe(true);
    const last = book.add(noted(["e256"]), undefined);
    expect([book.get(ids[0]!, ""), book.ofEngineId("e0")]).toEqual([undefined, undefined]);
    expect([book.get(ids[1]!, ""), book.get(last, "")]).not.toContain(undefined);
    expect(book.engineIdsOf("").length).toBe(256);
  });

  test("keeps one request however many sequences it has", () => {
    const book = new ExplainBook(4);
    const large = book.add(noted(["a", "b", "c", "d", "e"]), undefined);
    expect(book.get(large, "")).toBeDefined();
    book.add(noted(["f"]), undefined);
    expect(book.get(large, "")).toBeUndefined();
    expect(book.engineIdsOf("")).toEqual(["f"]);
  });

  test("bounds the conversations that it keeps", () => {
    const book = new ExplainBook(256, 1000);
    const first = book.add(noted(["a"], "x".repeat(400)), undefined);
    const second = book.add(noted(["b"], "x".repeat(400)), undefined);
    expect([book.get(first, ""), book.get(second, "")]).not.toContain(undefined);
    book.add(noted(["c"], "x".repeat(400)), undefined);
    expect(book.get(first, "")).toBeUndefined();
    expect(book.get(second, "")).toBeDefined();
  });

  test("never gives one id twice", () => {
    const book = new ExplainBook();
    expect(book.add(noted(["a"]), "drawn")).toBe("drawn");
    expect(book.add(noted(["b"]), "drawn")).toMatch(RANDOM);
    expect(book.get("drawn", "")?.engineIds).toEqual(["a"]);
    expect(book.get("drawn", "other")).toBeUndefined();
  });
});
