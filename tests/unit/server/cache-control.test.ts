/** `cache_control`: where marks lie in the prompt, what is asked of the engine, and that nothing fails because of them. */

import { describe, expect, test } from "bun:test";
import type { PinAnswer, PinQuery } from "../../../engine/connectors/pin-query.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { json, refusal, testApp, type TestApp } from "./test-app.ts";

const MARK = { type: "ephemeral" } as const;
const HOUR = { type: "ephemeral", ttl: "1h" } as const;

/** A byte is a token, and the engine keeps all that it is asked to. */
function app(): TestApp & { readonly queries: PinQuery[] } {
  const made = testApp();
  const queries: PinQuery[] = [];
  made.client.info = { ...made.client.info, maxModelLen: 2000, numBlocks: 200 };
  made.client.pinned = (query): PinAnswer => {
    queries.push(query);
    const numTokens = query.kind === "add" ? (query.tokens ?? 0) : 0;
    const facts = { id: "pin-1", numPages: 2, inHost: 0, onDisk: 0, msLeft: 5000 };
    return { pins: [{ ...facts, numTokens }], budget: 10, used: 2 };
  };
  return { ...made, queries };
}

const pinsOf = (queries: readonly PinQuery[]): readonly (readonly number[])[] =>
  queries.map((query) => (query.kind === "add" ? [query.tokens ?? -1, query.ttlMs] : []));

describe("a mark", () => {
  test("at a part, at a message and at the whole prompt pins all up to there, for its time", async () => {
    const { chat, queries, client } = app();
    const answer = await chat({
      messages: [
        { role: "system", content: "You are short.", cache_control: HOUR },
        {
          role: "user",
          content: [
            { type: "text", text: "one" },
            { type: "text", text: "two", cache_control: MARK },
            { type: "text", text: "three" },
          ],
        },
      ],
      cache_control: { type: "ephemeral", ttl: "5m" },
    });
    expect(answer.status).toBe(200);
    const system = "[system]You are short.".length;
    const part = system + "[user]one\ntwo".length;
    const whole = part + "\nthree[assistant]".length;
    expect(pinsOf(queries)).toEqual([
      [system, 3_600_000],
      [part, 300_000],
      [whole, 300_000],
    ]);
    const { id } = client.sequences[0]!.request;
    for (const query of queries)
      expect(query).toMatchObject({ kind: "add", owner: "", request: id, renews: true });
    expect(answer.headers.get("x-kvengine-pinned-tokens")).toBe([system, part, whole].join(", "));
  });

  test("of completions pins each prompt, once for all its choices", async () => {
    const { complete, queries, client } = app();
    await complete({ prompt: ["one", "three"], n: 2, cache_control: HOUR });
    expect(pinsOf(queries)).toEqual([
      [3, 3_600_000],
      [5, 3_600_000],
    ]);
    const ids = client.sequences.map(({ request }) => request.id);
    const asked = queries.map((query) => (query.kind === "add" ? query.request : ""));
    expect(asked).toEqual([ids[0]!, ids[2]!]);
  });

  test("of responses lies in an item, streamed or not, and is not taken over by the next response", async () => {
    const { post, queries } = app();
    const input = [
      { role: "user", content: [{ type: "input_text", text: "one", cache_control: MARK }] },
      { role: "user", content: "two" },
    ];
    const first = await json(post("/v1/responses", { input }));
    expect(pinsOf(queries)).toEqual([["[user]one".length, 300_000]]);
    queries.length = 0;
    await json(post("/v1/responses", { input: "on", previous_response_id: first.id }));
    expect(queries).toEqual([]);
    const streamed = await post("/v1/responses", { input, stream: true });
    await streamed.text();
    expect(pinsOf(queries)).toEqual([["[user]one".length, 300_000]]);
  });

  test("that is refused costs the request nothing: the header says why", async () => {
    const { chat, client } = app();
    client.pinned = (): never => {
      throw new KvEngineError("invalid_request", "the pin needs 3 more pages");
    };
    const answer = await chat({ cache_control: MARK });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("x-kvengine-pinned-tokens")).toBe("0; the pin needs 3 more pages");
  });

  test("is of one kind, with one of two times, and there are four at most", async () => {
    const { chat, complete, post } = app();
    for (const bad of [{}, { type: "lasting" }, { type: "ephemeral", ttl: "2h" }, "ephemeral"]) {
      expect((await refusal(chat({ cache_control: bad }))).param).toStartWith("cache_control");
      expect((await refusal(complete({ cache_control: bad }))).status).toBe(400);
      const messages = [{ role: "user", content: "hi", cache_control: bad }];
      expect((await refusal(chat({ messages }))).param).toStartWith("messages[0].cache_control");
      const input = [{ role: "user", content: "hi", cache_control: bad }];
      expect((await refusal(post("/v1/responses", { input }))).status).toBe(400);
    }
    const many = (count: number): object => ({
      messages: Array.from({ length: count }, () => ({
        ...{ role: "user", content: "hi", cache_control: MARK },
      })),
    });
    expect((await chat(many(4))).status).toBe(200);
    expect(await refusal(chat(many(5)))).toMatchObject({ status: 400, param: "cache_control" });
    expect((await chat({ cache_control: null })).headers.has("x-kvengine-pinned-tokens")).toBe(
      false,
    );
  });
});
