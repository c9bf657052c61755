import { describe, expect, test } from "bun:test";
import { refusal, testApp } from "./test-app.ts";

describe("both ends of each range", () => {
  const ranges: readonly (readonly [
    field: string,
    inside: readonly number[],
    outside: readonly number[],
  ])[] = [
    ["temperature", [0, 2], [-0.001, 2.001]],
    ["top_p", [0, 1], [-0.001, 1.001]],
    ["min_p", [0, 1], [-0.001, 1.001]],
    ["top_k", [-1, 0, 4_294_967_295], [-2, 4_294_967_296, 1.5]],
    ["n", [1, 128], [0, 129, 1.5]],
    ["max_tokens", [1, 181], [0, -1, 1.5, 4_294_967_296]],
    ["max_completion_tokens", [1, 181], [0]],
    ["min_tokens", [0, 181], [-1, 182, 1.5]],
    ["presence_penalty", [-2, 2], [-2.001, 2.001]],
    ["frequency_penalty", [-2, 2], [-2.001, 2.001]],
    ["repetition_penalty", [0.001, 1000], [0, -1, 1e-300, 1e300]],
    ["prompt_logprobs", [0, 20], [-1, 21, 1.5]],
  ];
  test.each(ranges)("%s", async (field, inside, outside) => {
    const { chat } = testApp();
    for (const value of inside) expect((await chat({ [field]: value })).status).toBe(200);
    for (const value of outside) {
      expect(await refusal(chat({ [field]: value }))).toMatchObject({
        status: 400,
        param: field,
        code: "invalid_request",
      });
    }
  });

  test("seed", async () => {
    const { post } = testApp();
    const send = (seed: string): Promise<Response> =>
      post("/v1/completions", `{"prompt": "a", "seed": ${seed}}`);
    for (const seed of ["-9223372036854775808", "18446744073709551615"])
      expect((await send(seed)).status).toBe(200);
    for (const seed of ["-9223372036854775809", "18446744073709551616"]) {
      expect(await refusal(send(seed))).toMatchObject({
        status: 400,
        param: "seed",
        message: expect.stringContaining(seed),
      });
    }
  });

  test("top_logprobs of a chat, logprobs of completions", async () => {
    const { chat, complete } = testApp();
    for (const value of [0, 20]) {
      expect((await chat({ logprobs: true, top_logprobs: value })).status).toBe(200);
      expect((await complete({ logprobs: value })).status).toBe(200);
    }
    for (const value of [-1, 21, 1.5]) {
      expect(await refusal(chat({ logprobs: true, top_logprobs: value }))).toMatchObject({
        status: 400,
        param: "top_logprobs",
        message: expect.stringContaining("an integer from 0 to 20"),
      });
      expect(await refusal(complete({ logprobs: value }))).toMatchObject({ param: "logprobs" });
    }
  });

  test("logit_bias", async () => {
    const { chat } = testApp();
    expect((await chat({ logit_bias: { "0": -100, "299": 100 } })).status).toBe(200);
    for (const bias of [-100.001, 100.001]) {
      expect(await refusal(chat({ logit_bias: { "299": bias } }))).toMatchObject({
        status: 400,
        param: "logit_bias.299",
      });
    }
  });

  test("allowed_token_ids, bad_words and cache_salt", async () => {
    const { chat } = testApp();
    expect((await chat({ allowed_token_ids: [299] })).status).toBe(200);
    const words = Array.from({ length: 1025 }, (_, i) => `w${i}`);
    expect((await chat({ bad_words: words.slice(1) })).status).toBe(200);
    expect(await refusal(chat({ bad_words: words }))).toMatchObject({ param: "bad_words" });
    expect((await chat({ cache_salt: "x".repeat(1024) })).status).toBe(200);
    expect(await refusal(chat({ cache_salt: "x".repeat(1025) }))).toMatchObject({
      param: "cache_salt",
    });
  });

  test("priority, where the server schedules by it", async () => {
    const { chat, client } = testApp();
    client.info = { ...client.info, schedulingPolicy: "priority" };
    for (const priority of [Number.MIN_SAFE_INTEGER, -1, 3, Number.MAX_SAFE_INTEGER])
      expect((await chat({ priority })).status).toBe(200);
    expect(client.sequences.map((one) => one.request.priority)).toEqual([
      Number.MIN_SAFE_INTEGER,
      -1,
      3,
      Number.MAX_SAFE_INTEGER,
    ]);
    expect(await refusal(chat({ priority: 2 ** 53 }))).toMatchObject({ param: "priority" });
  });

  test("max_tokens of completions is 0 with echo only", async () => {
    const { complete } = testApp();
    expect((await complete({ max_tokens: 0, echo: true })).status).toBe(200);
    expect(await refusal(complete({ max_tokens: 0 }))).toMatchObject({
      param: "max_tokens",
      message: "max_tokens is 0; allowed is an integer of at least 1, or 0 with echo",
    });
  });

  test("stop and stop_token_ids", async () => {
    const { chat } = testApp();
    expect((await chat({ stop: Array.from({ length: 16 }, (_, i) => `s${i}`) })).status).toBe(200);
    expect((await chat({ stop_token_ids: Array.from({ length: 256 }, (_, i) => i) })).status).toBe(
      200,
    );
    expect((await chat({ stop_token_ids: Array.from({ length: 257 }, (_, i) => i) })).status).toBe(
      400,
    );
    expect((await chat({ stop_token_ids: [299] })).status).toBe(200);
  });

  test("the prompt's length", async () => {
    const { complete } = testApp();
    expect((await complete({ prompt: "x".repeat(199), max_tokens: 1 })).status).toBe(200);
    expect(await refusal(complete({ prompt: "x".repeat(200), max_tokens: 1 }))).toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param: "prompt",
      message: expect.stringMatching(/200 tokens.*199/),
    });
    expect((await complete({ prompt: "x".repeat(100), max_tokens: 100 })).status).toBe(200);
    expect(await refusal(complete({ prompt: "x".repeat(100), max_tokens: 101 }))).toMatchObject({
      code: "context_length_exceeded",
      param: "max_tokens",
      message: expect.stringMatching(/100 tokens.*101.*200/),
    });
  });

  test("an over-long chat names the fields of its own body", async () => {
    const { chat } = testApp();
    const long = [{ role: "user", content: "x".repeat(300) }];
    expect(await refusal(chat({ messages: long }))).toMatchObject({
      code: "context_length_exceeded",
      param: "messages",
    });
    const answer = await refusal(chat({ max_completion_tokens: 1000 }));
    expect(answer).toMatchObject({
      code: "context_length_exceeded",
      param: "max_completion_tokens",
    });
    expect(answer.message).toContain("max_completion_tokens is 1000");
  });

  test("the pool of KV blocks", async () => {
    const { complete, client } = testApp();
    client.info = { ...client.info, numBlocks: 2 };
    expect((await complete({ prompt: "x".repeat(16), max_tokens: 17 })).status).toBe(200);
    expect(await refusal(complete({ prompt: "x".repeat(16), max_tokens: 18 }))).toMatchObject({
      code: "context_length_exceeded",
      param: "max_tokens",
    });
    expect((await complete({ prompt: "x".repeat(32) })).status).toBe(200);
    expect(await refusal(complete({ prompt: "x".repeat(33) }))).toMatchObject({
      code: "context_length_exceeded",
    });
  });
});
