import { describe, expect, test } from "bun:test";
import { json, refusal, testApp, USER } from "./test-app.ts";

describe("a wrong body", () => {
  test("malformed JSON names the position", async () => {
    const { post } = testApp();
    expect(await refusal(post("/v1/chat/completions", '{\n"messages": [}'))).toEqual({
      status: 400,
      message:
        'the body is not valid JSON: line 2, column 14 (offset 15): expected a value or "]", found "}"',
      type: "invalid_request_error",
      param: null,
      code: "invalid_request",
    });
  });

  test.each([
    ["", "empty"],
    ["  \n", "empty"],
    ["[]", "an array"],
    ["null", "null"],
    ['"text"', "a string"],
    ["1", "a number"],
  ])("%p is not an object", async (body, says) => {
    expect(await refusal(testApp().post("/v1/completions", body))).toMatchObject({
      status: 400,
      message: expect.stringContaining(says),
    });
  });

  test("bytes that are no UTF-8", async () => {
    const answer = await refusal(
      testApp().post("/v1/completions", Uint8Array.of(0x7b, 0xff, 0x7d)),
    );
    expect(answer).toMatchObject({ status: 400, message: "the body is not valid UTF-8" });
  });

  test("another content type is refused with what to send; none at all and a charset are fine", async () => {
    const { app, post } = testApp();
    const answer = await refusal(
      post("/v1/completions", { prompt: "a" }, { "content-type": "text/plain" }),
    );
    expect(answer.message).toContain("Content-Type: application/json");
    const charset = await post(
      "/v1/completions",
      { prompt: "a" },
      { "content-type": "application/json; charset=utf-8" },
    );
    expect(charset.status).toBe(200);
    const bare = new Request("http://localhost/v1/completions", {
      method: "POST",
      body: new TextEncoder().encode('{"prompt":"a"}'),
    });
    expect((await app.request(bare)).status).toBe(200);
  });

  test("is refused above the limit, declared or not, and taken at the limit", async () => {
    const { app, post } = testApp({ bodyLimit: 100 });
    const body = JSON.stringify({ prompt: "a" }).padEnd(100);
    expect((await post("/v1/completions", body)).status).toBe(200);
    expect(
      await refusal(post("/v1/completions", `${body} `, { "content-length": "101" })),
    ).toMatchObject({
      status: 413,
      code: "payload_too_large",
      message: expect.stringContaining("the body has 101 bytes; at most 100"),
    });
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled++;
        controller.enqueue(new Uint8Array(60).fill(32));
      },
    });
    const streamed = await app.request("/v1/completions", { method: "POST", body: endless });
    expect(await refusal(streamed)).toMatchObject({ status: 413 });
    expect(pulled).toBeLessThan(10);
  });

  const message = (value: unknown): object => ({ messages: [...USER, value] });
  const cases: readonly (readonly [body: object, param: string, says: string])[] = [
    [{ messages: undefined }, "messages", "messages is missing; allowed is an array of messages"],
    [{ messages: [] }, "messages", "messages is []; allowed is at least one message"],
    [{ messages: "hi" }, "messages", 'messages is "hi"; allowed is an array of messages'],
    [message(null), "messages[1]", "messages[1] is null; allowed is a message object"],
    [
      message({ content: "a" }),
      "messages[1].role",
      'messages[1].role is missing; allowed is "system", "developer"',
    ],
    [message({ role: "bot", content: "a" }), "messages[1].role", 'messages[1].role is "bot"'],
    [
      message({ role: "user" }),
      "messages[1].content",
      "messages[1].content is missing; allowed is a string or an array",
    ],
    [
      message({ role: "user", content: null }),
      "messages[1].content",
      "messages[1].content is null",
    ],
    [message({ role: "user", content: 5 }), "messages[1].content", "messages[1].content is 5"],
    [
      message({ role: "user", content: ["a"] }),
      "messages[1].content[0]",
      'messages[1].content[0] is "a"',
    ],
    [
      message({ role: "user", content: [{ type: "image_url", image_url: {} }] }),
      "messages[1].content[0].type",
      'is "image_url"; allowed is "text"',
    ],
    [
      message({ role: "user", content: [{ type: "text" }] }),
      "messages[1].content[0].text",
      "is missing; allowed is a string",
    ],
    [
      message({ role: "assistant", tool_calls: [{}] }),
      "messages[1].tool_calls[0].function",
      "an object with name and arguments",
    ],
    [
      message({ role: "user", content: "a", contnet: "b" }),
      "messages[1].contnet",
      "the nearest is content",
    ],
    [{ model: 5 }, "model", "model is 5; allowed is a string"],
    [{ stream: "yes" }, "stream", 'stream is "yes"; allowed is true or false'],
    [{ stream: true, stream_options: [] }, "stream_options", "allowed is an object"],
    [
      { stream: true, stream_options: { include_usage: 1 } },
      "stream_options.include_usage",
      "allowed is true or false",
    ],
    [
      { stream: true, stream_options: { include_usages: true } },
      "stream_options.include_usages",
      "the nearest is include_usage",
    ],
    [{ stream_options: { include_usage: true } }, "stream_options", "null unless stream is true"],
    [
      { temperature: "hot" },
      "temperature",
      'temperature is "hot"; allowed is a number from 0 to 2',
    ],
    [{ seed: 1.5 }, "seed", "seed is 1.5; allowed is an integer of up to 64 bits"],
    [{ seed: "1" }, "seed", "an integer of up to 64 bits"],
    [{ seed: 1e30 }, "seed", "an integer of up to 64 bits"],
    [{ stop: "" }, "stop", "a non-empty string"],
    [{ stop: ["a", ""] }, "stop[1]", "a non-empty string"],
    [{ stop: 5 }, "stop", "a non-empty string or up to 16 of them"],
    [
      { stop: Array.from({ length: 17 }, (_, i) => `s${i}`) },
      "stop",
      "a non-empty string or up to 16 of them",
    ],
    [{ stop_token_ids: [300] }, "stop_token_ids[0]", "allowed is 0 to 299"],
    [{ stop_token_ids: [-1] }, "stop_token_ids[0]", "a token id"],
    [{ stop_token_ids: [1.5] }, "stop_token_ids[0]", "a token id"],
    [{ stop_token_ids: 5 }, "stop_token_ids", "an array of token ids"],
    [{ allowed_token_ids: [] }, "allowed_token_ids", "1 to 1048576 token ids"],
    [{ allowed_token_ids: [0, 300] }, "allowed_token_ids[1]", "is 300; allowed is 0 to 299"],
    [{ allowed_token_ids: ["a"] }, "allowed_token_ids[0]", "a token id"],
    [{ allowed_token_ids: 5 }, "allowed_token_ids", "an array of token ids"],
    [{ logit_bias: [1] }, "logit_bias", "an object of token ids, each with a number from -100"],
    [{ logit_bias: { a: 1 } }, "logit_bias.a", "a token id as the name"],
    [{ logit_bias: { "-1": 1 } }, "logit_bias.-1", "a token id as the name"],
    [{ logit_bias: { "01": 1 } }, "logit_bias.01", "a token id as the name"],
    [{ logit_bias: { "300": 1 } }, "logit_bias.300", "a token id of 0 to 299 as the name"],
    [{ logit_bias: { "4294967296": 1 } }, "logit_bias.4294967296", "a token id as the name"],
    [{ logit_bias: { "5": "much" } }, "logit_bias.5", 'is "much"; allowed is a number from -100'],
    [{ logit_bias: { "5": null } }, "logit_bias.5", "is null; allowed is a number from -100"],
    [{ bad_words: "a" }, "bad_words", "an array of strings"],
    [{ bad_words: ["a", " "] }, "bad_words[1]", "a string that is not blank"],
    [{ bad_words: [5] }, "bad_words[0]", "a string that is not blank"],
    [
      { min_tokens: 5, max_tokens: 4 },
      "min_tokens",
      "is 5; allowed is 0 to max_tokens, which is 4",
    ],
    [{ cache_salt: "" }, "cache_salt", "a non-empty string"],
    [{ cache_salt: 5 }, "cache_salt", "a non-empty string"],
    [{ priority: 1 }, "priority", "--scheduling-policy priority"],
    [{ priority: 1.5 }, "priority", "an integer"],
    [{ prompt_logprobs: 0, stream: true }, "prompt_logprobs", "null where stream is true"],
    [{ top_logprobs: 1 }, "top_logprobs", "0 unless logprobs is true"],
    [{ ignore_eos: 1 }, "ignore_eos", "true or false"],
    [{ logprobs: 1 }, "logprobs", "true or false"],
  ];
  test.each(cases)("%j", async (body, param, says) => {
    const { chat, client } = testApp();
    expect(await refusal(chat(body))).toMatchObject({
      status: 400,
      code: "invalid_request",
      param,
      message: expect.stringContaining(says),
    });
    expect(client.sequences).toHaveLength(0);
  });

  test("a value's text is not repeated at length", async () => {
    const { message: says } = await refusal(testApp().chat({ stream: "x".repeat(10_000) }));
    expect(says.length).toBeLessThan(200);
  });
});

describe("features that are not there", () => {
  const shared: readonly (readonly [string, unknown, unknown])[] = [
    ["use_beam_search", true, false],
    ["include_stop_str_in_output", true, false],
    ["skip_special_tokens", false, true],
    ["guided_json", {}, null],
  ];
  const chatOnly: readonly (readonly [string, unknown, unknown])[] = [
    ["echo", true, false],
    ["tool_choice", "required", "none"],
    ["functions", [{}], []],
    ["modalities", ["audio"], ["text"]],
  ];
  const completionsOnly: readonly (readonly [string, unknown, unknown])[] = [
    ["best_of", 2, 1],
    ["suffix", "x", ""],
  ];
  test.each([...shared, ...chatOnly])(
    "chat: %s is refused by name, and taken where it asks for nothing",
    async (field, refused, taken) => {
      const { chat } = testApp();
      expect(await refusal(chat({ [field]: refused }))).toMatchObject({
        status: 400,
        param: field,
        message: expect.stringContaining(field),
      });
      expect((await chat({ [field]: taken })).status).toBe(200);
      expect((await chat({ [field]: null })).status).toBe(200);
    },
  );
  test.each([...shared, ...completionsOnly])(
    "completions: %s likewise",
    async (field, refused, taken) => {
      const { complete } = testApp();
      expect(await refusal(complete({ [field]: refused }))).toMatchObject({
        status: 400,
        param: field,
        message: expect.stringContaining(field),
      });
      expect((await complete({ [field]: taken })).status).toBe(200);
      expect((await complete({ [field]: null })).status).toBe(200);
    },
  );

  test("an unknown field names the nearest", async () => {
    const { chat, complete } = testApp();
    expect(await refusal(chat({ temprature: 1 }))).toMatchObject({
      param: "temprature",
      message: "there is no field temprature; the nearest is temperature",
    });
    expect(await refusal(complete({ max_token: 1 }))).toMatchObject({
      message: "there is no field max_token; the nearest is max_tokens",
    });
    expect(await refusal(chat({ qwertyuiopasdfghjkl: 1 }))).toMatchObject({
      message: "there is no field qwertyuiopasdfghjkl",
    });
    expect((await refusal(chat({ ["z".repeat(5000)]: 1 }))).message.length).toBeLessThan(120);
    expect(await refusal(chat(JSON.parse('{"__proto__": 1}') as object))).toMatchObject({
      status: 400,
    });
    expect(
      await refusal(testApp().post("/v1/completions", '{"prompt": "a", "constructor": 1}')),
    ).toMatchObject({ param: "constructor" });
  });

  test("an unknown model names the served ones", async () => {
    const { chat } = testApp();
    expect(await refusal(chat({ model: "gpt-4" }))).toEqual({
      status: 404,
      message: 'the model "gpt-4" does not exist; served: tiny, org/tiny',
      type: "invalid_request_error",
      param: "model",
      code: "model_not_found",
    });
    expect((await json(chat({ model: "org/tiny" }))).model).toBe("tiny");
  });
});
