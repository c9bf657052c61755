import { describe, expect, test } from "bun:test";
import { EOS_ID } from "../../support/byte-tokenizer.ts";
import { NO_TIMING, say } from "../../support/fake-engine-client.ts";
import { events, json, refusal, testApp, TEMPLATE, USER } from "./test-app.ts";

const decode = (ids: Int32Array | undefined): string =>
  new TextDecoder().decode(Uint8Array.from(ids ?? []));

describe("POST /v1/chat/completions", () => {
  test("answers in OpenAI's shape", async () => {
    const { post, client } = testApp();
    client.script = say("Hello", { cachedTokens: 16 });
    const response = await post(
      "/v1/chat/completions",
      { model: "tiny", messages: USER },
      { "x-request-id": "r1" },
    );
    expect(response.status).toBe(200);
    const body = await json(response);
    expect(body).toEqual({
      id: "chatcmpl-r1",
      object: "chat.completion",
      created: expect.any(Number),
      model: "tiny",
      system_fingerprint: expect.stringMatching(/^fp_[0-9a-f]{10}$/),
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Hello", refusal: null },
          logprobs: null,
          finish_reason: "stop",
          stop_reason: null,
        },
      ],
      usage: {
        prompt_tokens: 19,
        completion_tokens: 6,
        total_tokens: 25,
        prompt_tokens_details: { cached_tokens: 16 },
        completion_tokens_details: { reasoning_tokens: 0 },
      },
    });
  });

  test("renders every role and text parts; developer is system", async () => {
    const { chat, client } = testApp();
    const messages = [
      { role: "developer", content: "be" },
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
        name: "Ann",
      },
      { role: "assistant", content: null, refusal: null, tool_calls: [], annotations: [] },
      { role: "tool", content: "t", tool_call_id: "c1" },
      { role: "system", content: "é" },
    ];
    expect((await chat({ messages })).status).toBe(200);
    expect(decode(client.sequences[0]?.request.promptTokenIds)).toBe(
      "[system]be[user]a\nb[assistant][tool]t[system]é[assistant]",
    );
  });

  test("gives templates the texts of BOS and EOS", async () => {
    const { chat, client } = testApp({
      chatTemplate: "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}",
    });
    await chat({});
    expect(decode(client.sequences[0]?.request.promptTokenIds)).toBe("<s>hi</s>");
  });

  test("a template that refuses the messages is the client's error", async () => {
    const { chat } = testApp({ chatTemplate: "{{ raise_exception('roles must alternate') }}" });
    expect(await refusal(chat({}))).toMatchObject({
      status: 400,
      param: "messages",
      message: expect.stringContaining("roles must alternate"),
    });
  });

  test("a model without a template refuses chats and names the other endpoint", async () => {
    const { chat } = testApp({ chatTemplate: undefined });
    expect(await refusal(chat({}))).toMatchObject({
      status: 400,
      message: expect.stringContaining("/v1/completions"),
    });
  });

  test("max_tokens defaults to all that fits", async () => {
    const { chat, client } = testApp();
    await chat({});
    const prompt = TEMPLATE.length === 0 ? 0 : "[user]hi[assistant]".length;
    expect(client.sequences[0]?.request.sampling.maxTokens).toBe(200 - prompt);
    client.info = { ...client.info, numBlocks: 3 };
    await chat({});
    expect(client.sequences[1]?.request.sampling.maxTokens).toBe(3 * 16 + 1 - prompt);
  });

  test("max_completion_tokens goes before max_tokens", async () => {
    const { chat, client } = testApp();
    await chat({ max_tokens: 5, max_completion_tokens: 2 });
    await chat({ max_tokens: 5 });
    expect(client.sequences.map((one) => one.request.sampling.maxTokens)).toEqual([2, 5]);
  });

  test("an answer cut at max_tokens finishes by length", async () => {
    const body = await json(testApp().chat({ max_tokens: 3 }));
    expect(body.choices[0]).toMatchObject({
      finish_reason: "length",
      stop_reason: null,
      message: { content: "Hel" },
    });
    expect(body.usage.completion_tokens).toBe(3);
  });

  test("stop strings never reach the text and are the stop reason", async () => {
    const { chat, client } = testApp();
    client.script = say("one STOP two");
    expect((await json(chat({ stop: "STOP" }))).choices[0]).toMatchObject({
      message: { content: "one " },
      finish_reason: "stop",
      stop_reason: "STOP",
    });
    const chunks = (await events(chat({ stop: ["x", "STOP"], stream: true })))
      .slice(0, -1)
      .map((one) => JSON.parse(one));
    expect(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("")).toBe("one ");
    expect(chunks.at(-1).choices[0]).toMatchObject({
      delta: {},
      finish_reason: "stop",
      stop_reason: "STOP",
    });
    client.script = say("one ST");
    expect((await json(chat({ stop: "STOP" }))).choices[0].message.content).toBe("one ST");
  });

  test("a stop token id is the stop reason, EOS is not unless the client named it", async () => {
    const { chat, client } = testApp();
    expect((await json(chat({ stop_token_ids: [111] }))).choices[0]).toMatchObject({
      message: { content: "Hell" },
      stop_reason: 111,
    });
    client.script = say("Hello", { eosId: EOS_ID });
    expect((await json(chat({}))).choices[0].stop_reason).toBeNull();
    expect((await json(chat({ stop_token_ids: [EOS_ID] }))).choices[0].stop_reason).toBe(EOS_ID);
  });

  test("ends at EOS unless it is to be ignored", async () => {
    const { chat, client } = testApp();
    await chat({ stop_token_ids: [5] });
    await chat({ stop_token_ids: [5, 5], ignore_eos: true });
    expect(client.sequences.map((one) => one.request.sampling.stopTokenIds)).toEqual([
      [EOS_ID, 5],
      [5],
    ]);
  });

  test("logprobs: the chosen token's, with its bytes, also where a character is spread over tokens", async () => {
    const { chat, client } = testApp();
    client.script = say("aé");
    const expected = [
      { token: "a", logprob: -0.125, bytes: [97], top_logprobs: [] },
      { token: "\ufffd", logprob: -0.25, bytes: [0xc3], top_logprobs: [] },
      { token: "\ufffd", logprob: -0.375, bytes: [0xa9], top_logprobs: [] },
    ];
    expect((await json(chat({ logprobs: true, top_logprobs: 0 }))).choices[0].logprobs).toEqual({
      content: expected,
      refusal: null,
    });
    const chunks = (await events(chat({ logprobs: true, stream: true })))
      .slice(0, -1)
      .map((one) => JSON.parse(one));
    expect(chunks.flatMap((chunk) => chunk.choices[0].logprobs?.content ?? [])).toEqual(expected);
    expect(chunks.map((chunk) => chunk.choices[0].delta.content)).toEqual([
      "",
      "a",
      "é",
      undefined,
    ]);
    expect((await json(chat({}))).choices[0].logprobs).toBeNull();
  });

  test("a character that max_tokens cuts in two ends the text as U+FFFD", async () => {
    const { chat, client } = testApp();
    client.script = say("aé");
    expect((await json(chat({ max_tokens: 2 }))).choices[0].message.content).toBe("a\ufffd");
  });

  test("n choices share the prompt and the seed, each with its index", async () => {
    const { chat, client } = testApp();
    client.script = (request) => say(`answer ${request.sampling.choice}`)(request);
    const body = await json(chat({ n: 3, seed: 42 }));
    expect(
      body.choices.map((choice: { index: number; message: { content: string } }) => [
        choice.index,
        choice.message.content,
      ]),
    ).toEqual([
      [0, "answer 0"],
      [1, "answer 1"],
      [2, "answer 2"],
    ]);
    expect(body.usage).toMatchObject({ prompt_tokens: 19, completion_tokens: 27 });
    expect(client.sequences.map((one) => one.request.sampling.seed)).toEqual([
      [42, 0],
      [42, 0],
      [42, 0],
    ]);
    expect(new Set(client.sequences.map((one) => one.request.id)).size).toBe(3);
  });

  test("one X-Request-Id twice makes different sequences", async () => {
    const { post, client } = testApp();
    const send = (): Promise<Response> =>
      post("/v1/chat/completions", { messages: USER }, { "x-request-id": "same" });
    const [first, second] = await Promise.all([send(), send()]);
    expect([first.headers.get("x-request-id"), second.headers.get("x-request-id")]).toEqual([
      "same",
      "same",
    ]);
    expect(new Set(client.sequences.map((one) => one.request.id)).size).toBe(2);
  });

  test("seeds are exact to 64 bits, and drawn where none is given", async () => {
    const { post, client } = testApp();
    const seeds: readonly (readonly [string, readonly [number, number]])[] = [
      ["0", [0, 0]],
      ["4294967296", [0, 1]],
      ["9007199254740993", [1, 2_097_152]],
      ["18446744073709551615", [0xffff_ffff, 0xffff_ffff]],
      ["-1", [0xffff_ffff, 0xffff_ffff]],
      ["-9223372036854775808", [0, 0x8000_0000]],
    ];
    for (const [seed] of seeds) {
      await post(
        "/v1/chat/completions",
        `{"messages": [{"role": "user", "content": "hi"}], "seed": ${seed}}`,
      );
    }
    expect(client.sequences.map((one) => one.request.sampling.seed)).toEqual(
      seeds.map(([, halves]) => halves),
    );
    await post("/v1/chat/completions", { messages: USER });
    await post("/v1/chat/completions", { messages: USER });
    expect(client.sequences.at(-1)?.request.sampling.seed).not.toEqual(
      client.sequences.at(-2)?.request.sampling.seed as [number, number],
    );
  });

  test("sampling defaults are OpenAI's", async () => {
    const { chat, client } = testApp();
    await chat({ temperature: null, top_p: null, stop: null, n: null, stream: null, seed: null });
    expect(client.sequences[0]?.request.sampling).toMatchObject({
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      stop: [],
      choice: 0,
    });
  });

  test("a top_p of 0 is the most probable token, a top_k past the vocabulary is all tokens", async () => {
    const { chat, client } = testApp();
    await chat({ top_p: 0 });
    await chat({ top_k: 4_000_000_000 });
    await chat({ top_k: -1 });
    expect(
      client.sequences.map(({ request: { sampling } }) => [sampling.topK, sampling.topP]),
    ).toEqual([
      [1, 1],
      [0, 1],
      [0, 1],
    ]);
  });

  test("harmless fields are ignored and named in a header", async () => {
    const { chat } = testApp();
    const response = await chat({
      user: "u",
      metadata: { a: "b" },
      store: null,
      service_tier: "auto",
    });
    expect(response.status).toBe(200);
    expect(response.headers.get("x-kvengine-warnings")).toBe(
      "ignored: user, metadata, service_tier",
    );
    expect((await chat({})).headers.get("x-kvengine-warnings")).toBeNull();
  });

  test("an engine error becomes its own status, a bug is told to the log and not to the client", async () => {
    const { chat, client, errors } = testApp();
    client.script = () => [
      {
        tokenIds: [],
        logprobs: [],
        finish: {
          reason: "error",
          error: { code: "out_of_memory", message: "no memory for the step" },
          usage: { promptTokens: 1, completionTokens: 0, cachedTokens: 0 },
          timing: NO_TIMING,
        },
      },
    ];
    expect(await refusal(chat({}))).toMatchObject({
      status: 503,
      code: "out_of_memory",
      message: "no memory for the step",
      type: "server_error",
    });
    client.script = () => {
      throw new TypeError("secret /home/someone");
    };
    const answer = await refusal(chat({}));
    expect(answer).toMatchObject({ status: 500, code: "internal" });
    expect(answer.message).not.toContain("secret");
    expect(errors.at(-1)?.message).toContain("secret");
  });

  test("the siblings of a failed choice are aborted", async () => {
    const { chat, client } = testApp();
    client.script = undefined;
    const answer = chat({ n: 3 });
    const [first, second, third] = await client.arrived(3);
    second?.send({
      tokenIds: [],
      logprobs: [],
      finish: {
        reason: "error",
        error: { code: "internal", message: "a kernel failed" },
        usage: { promptTokens: 1, completionTokens: 0, cachedTokens: 0 },
        timing: NO_TIMING,
      },
    });
    expect((await answer).status).toBe(500);
    expect(client.aborted).toEqual([first?.request.id, third?.request.id] as string[]);
  });
});
