import { describe, expect, test } from "bun:test";
import { ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { json, refusal, testApp, USER } from "./test-app.ts";

describe("/tokenize and /detokenize", () => {
  test("a text", async () => {
    const { post } = testApp({ tokenizer: new ByteTokenizer({ addBos: true }) });
    expect(await json(post("/tokenize", { prompt: "hi", return_token_strs: true }))).toEqual({
      count: 3,
      max_model_len: 200,
      tokens: [256, 104, 105],
      token_strs: ["", "h", "i"],
    });
    const bare = { prompt: "hi", add_special_tokens: false };
    expect((await json(post("/tokenize", bare))).tokens).toEqual([104, 105]);
  });

  test("a chat is what the model would get", async () => {
    const { post, chat, client } = testApp();
    await chat({});
    const { tokens } = await json(post("/tokenize", { messages: USER }));
    expect(tokens).toEqual([...(client.sequences[0]?.request.promptTokenIds ?? [])]);
  });

  test("there and back", async () => {
    const { post } = testApp();
    const { tokens } = await json(post("/tokenize", { prompt: "Köln" }));
    expect(await json(post("/detokenize", { tokens }))).toEqual({ prompt: "Köln" });
  });

  test.each([
    ["/tokenize", {}, "prompt"],
    ["/tokenize", { prompt: 5 }, "prompt"],
    ["/tokenize", { prompt: "a", messages: USER }, "prompt"],
    ["/tokenize", { promt: "a", prompt: "b" }, "promt"],
    ["/tokenize", { messages: [] }, "messages"],
    ["/tokenize", { prompt: "a", model: "gpt-9" }, "model"],
    ["/detokenize", {}, "tokens"],
    ["/detokenize", { tokens: [1, 300] }, "tokens[1]"],
    ["/detokenize", { tokens: [-1] }, "tokens[0]"],
  ])("%s %j names %s", async (path, body, param) => {
    expect(await refusal(testApp().post(path, body))).toMatchObject({ param });
  });
});

describe("render", () => {
  test("a chat: text, tokens, and nothing is queued", async () => {
    const { post, client } = testApp();
    const body = { messages: USER, max_tokens: 7, temperature: 0.5 };
    const answer = await json(post("/v1/chat/completions/render", body));
    expect(answer).toMatchObject({
      model: "tiny",
      prompt: "[user]hi[assistant]",
      token_ids: [...new TextEncoder().encode("[user]hi[assistant]")],
      sampling_params: { max_tokens: 7, temperature: 0.5 },
    });
    expect(client.sequences).toHaveLength(0);
  });

  test("completions: one for each prompt", async () => {
    const { post } = testApp();
    const answer = await json(post("/v1/completions/render", { prompt: ["a", "b"], n: 2 }));
    expect(answer.map((one: { token_ids: number[] }) => one.token_ids)).toEqual([[97], [98]]);
  });

  test("refuses what would be refused", async () => {
    const body = { prompt: "x".repeat(300) };
    expect(await refusal(testApp().post("/v1/completions/render", body))).toMatchObject({
      code: "context_length_exceeded",
    });
  });
});

describe("/openapi.json and /docs", () => {
  test("describe every path with the fields that are checked", async () => {
    const { app } = testApp({ rootPath: "/llm" });
    const api = await json(app.request("/openapi.json"));
    expect(api.openapi).toBe("3.1.0");
    expect(api.servers).toEqual([{ url: "/llm" }]);
    expect(Object.keys(api.paths)).toContain("/v1/responses/{id}/cancel");
    const chat = api.paths["/v1/chat/completions"].post;
    const { properties, required } = chat.requestBody.content["application/json"].schema;
    expect(required).toEqual(["messages"]);
    expect(properties.top_k.anyOf[0]).toMatchObject({ type: "integer", minimum: -1 });
    expect(properties.temperature.description).toBe("a number from 0 to 2");
    expect(chat.security).toEqual([{ key: [] }]);
    expect(api.paths["/health"].get.security).toEqual([]);
  });

  test("the page needs nothing from the network", async () => {
    const page = await (await testApp().app.request("/docs")).text();
    expect(page).toContain("openapi.json");
    expect(page).not.toMatch(/https?:/);
  });
});
