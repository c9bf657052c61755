import { describe, expect, test } from "bun:test";
import { BOS_ID, ByteTokenizer } from "../../support/byte-tokenizer.ts";
import { say } from "../../support/fake-engine-client.ts";
import { events, json, refusal, testApp } from "./test-app.ts";

describe("POST /v1/completions", () => {
  test("answers in OpenAI's shape", async () => {
    const { post } = testApp();
    const body = await json(
      post("/v1/completions", { model: "tiny", prompt: "hi" }, { "x-request-id": "r1" }),
    );
    expect(body).toEqual({
      id: "cmpl-r1",
      object: "text_completion",
      created: expect.any(Number),
      model: "tiny",
      system_fingerprint: expect.stringMatching(/^fp_[0-9a-f]{10}$/),
      choices: [
        { index: 0, text: "Hello", logprobs: null, finish_reason: "stop", stop_reason: null },
      ],
      usage: {
        prompt_tokens: 2,
        completion_tokens: 6,
        total_tokens: 8,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  test("takes a text, token ids, and arrays of either", async () => {
    const { complete, client } = testApp();
    for (const prompt of ["ab", ["ab"], [97, 98], [[97, 98]]])
      expect((await complete({ prompt })).status).toBe(200);
    expect(client.sequences.map((one) => Array.from(one.request.promptTokenIds))).toEqual(
      Array.from({ length: 4 }, () => [97, 98]),
    );
    const body = await json(complete({ prompt: [[97], [98, 99]], n: 2 }));
    expect(body.choices.map((choice: { index: number }) => choice.index)).toEqual([0, 1, 2, 3]);
    expect(
      client.sequences
        .slice(4)
        .map(({ request }) => [request.promptTokenIds.length, request.sampling.choice]),
    ).toEqual([
      [1, 0],
      [1, 1],
      [2, 0],
      [2, 1],
    ]);
    expect(body.usage.prompt_tokens).toBe(3);
  });

  test("a text begins with BOS where the vocabulary says so, token ids are taken as they are", async () => {
    const { complete, client } = testApp({ tokenizer: new ByteTokenizer({ addBos: true }) });
    await complete({ prompt: "a" });
    await complete({ prompt: [97] });
    expect(client.sequences.map((one) => Array.from(one.request.promptTokenIds))).toEqual([
      [BOS_ID, 97],
      [97],
    ]);
  });

  test("max_tokens is 16 unless given, less where 16 do not fit", async () => {
    const { complete, client } = testApp();
    await complete({});
    await complete({ max_tokens: 40 });
    await complete({ prompt: "x".repeat(195) });
    expect(client.sequences.map((one) => one.request.sampling.maxTokens)).toEqual([16, 40, 5]);
  });

  test("logprobs: 0 gives the chosen token's, with offsets in characters", async () => {
    const { complete, client } = testApp();
    client.script = say("a𝄞b");
    const { logprobs } = (await json(complete({ logprobs: 0 }))).choices[0];
    expect(logprobs).toEqual({
      tokens: ["a", "\ufffd", "\ufffd", "\ufffd", "\ufffd", "b"],
      token_logprobs: [-0.125, -0.25, -0.375, -0.5, -0.625, -0.75],
      top_logprobs: [
        { a: -0.125 },
        { "\ufffd": -0.25 },
        { "\ufffd": -0.375 },
        { "\ufffd": -0.5 },
        { "\ufffd": -0.625 },
        { b: -0.75 },
      ],
      text_offset: [0, 1, 2, 3, 4, 5],
    });
    const chunks = (await events(complete({ logprobs: 0, stream: true })))
      .slice(0, -1)
      .map((one) => JSON.parse(one));
    expect(chunks.flatMap((chunk) => chunk.choices[0].logprobs.text_offset)).toEqual(
      logprobs.text_offset,
    );
    expect(chunks.map((chunk) => chunk.choices[0].text)).toEqual(["a", "𝄞", "b"]);
  });

  test("a log-probability of minus infinity is vLLM's floor, as JSON has none", async () => {
    const { complete, client } = testApp();
    client.script = (request) =>
      say("a")(request).map((event) => Object.assign({}, event, { logprobs: [-Infinity] }));
    expect((await json(complete({ logprobs: 0 }))).choices[0].logprobs.token_logprobs).toEqual([
      -9999,
    ]);
  });

  test("refuses prompts of other shapes and names the place", async () => {
    const { complete } = testApp();
    const cases: readonly (readonly [unknown, string])[] = [
      [undefined, "prompt"],
      [5, "prompt"],
      [{}, "prompt"],
      [[], "prompt"],
      [[{}], "prompt"],
      [["a", 1], "prompt[1]"],
      [[1, "a"], "prompt[1]"],
      [[1, -1], "prompt[1]"],
      [[1.5], "prompt[0]"],
      [[[1], []], "prompt[1]"],
      [[[1], [1, "x"]], "prompt[1][1]"],
      [[[1], "x"], "prompt[1]"],
      ["", "prompt"],
      [[300], "prompt"],
      [[4_294_967_295], "prompt"],
    ];
    for (const [prompt, param] of cases) {
      expect(await refusal(complete({ prompt }))).toMatchObject({
        status: 400,
        param,
        code: "invalid_request",
      });
    }
  });

  test("refuses more choices than one request may have", async () => {
    const { complete } = testApp();
    const answer = await refusal(
      complete({ prompt: Array.from({ length: 17 }, () => "a"), n: 128 }),
    );
    expect(answer).toMatchObject({ status: 400, param: "n" });
    expect(
      await refusal(complete({ prompt: Array.from({ length: 2049 }, () => "a") })),
    ).toMatchObject({ param: "prompt" });
  });

  test("one prompt too long refuses all, before any is queued", async () => {
    const { complete, client } = testApp();
    expect(await refusal(complete({ prompt: ["a", "x".repeat(200)] }))).toMatchObject({
      code: "context_length_exceeded",
    });
    expect(client.sequences).toHaveLength(0);
  });
});
