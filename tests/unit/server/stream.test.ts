import { describe, expect, test } from "bun:test";
import { NO_TIMING, say } from "../../support/fake-engine-client.ts";
import { events, testApp, USER } from "./test-app.ts";

const CHAT_HEAD =
  '{"id":"chatcmpl-r1","object":"chat.completion.chunk","created":0,"model":"tiny","system_fingerprint":"fp_0","choices":[';
const TEXT_HEAD =
  '{"id":"cmpl-r1","object":"text_completion","created":0,"model":"tiny","system_fingerprint":"fp_0","choices":[';

/** The raw stream with what changes between runs made constant. */
async function golden(response: Response): Promise<string> {
  return (await response.text())
    .replace(/"created":\d+/g, '"created":0')
    .replace(/fp_[0-9a-f]{10}/g, "fp_0");
}

const END = {
  reason: "stop",
  usage: { promptTokens: 19, completionTokens: 2, cachedTokens: 0 },
  timing: NO_TIMING,
} as const;

describe("a chat stream", () => {
  const send = async (body: object, text = "Hi"): Promise<Response> => {
    const { post, client } = testApp();
    client.script = say(text);
    return post(
      "/v1/chat/completions",
      { messages: USER, stream: true, ...body },
      { "x-request-id": "r1" },
    );
  };

  test("frames", async () => {
    expect(await golden(await send({}))).toBe(
      `data: ${CHAT_HEAD}{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}\n\n` +
        `data: ${CHAT_HEAD}{"index":0,"delta":{"content":"H"},"logprobs":null,"finish_reason":null}]}\n\n` +
        `data: ${CHAT_HEAD}{"index":0,"delta":{"content":"i"},"logprobs":null,"finish_reason":null}]}\n\n` +
        `data: ${CHAT_HEAD}{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}\n\n` +
        "data: [DONE]\n\n",
    );
  });

  test("frames with usage and log-probabilities", async () => {
    expect(
      await golden(
        await send({ stream_options: { include_usage: true }, logprobs: true, max_tokens: 1 }),
      ),
    ).toBe(
      `data: ${CHAT_HEAD}{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}\n\n` +
        `data: ${CHAT_HEAD}{"index":0,"delta":{"content":"H"},"logprobs":{"content":[{"token":"H","logprob":-0.125,"bytes":[72],"top_logprobs":[]}],"refusal":null},"finish_reason":null}],"usage":null}\n\n` +
        `data: ${CHAT_HEAD}{"index":0,"delta":{},"logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null}\n\n` +
        `data: ${CHAT_HEAD}],"usage":{"prompt_tokens":19,"completion_tokens":1,"total_tokens":20,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}\n\n` +
        "data: [DONE]\n\n",
    );
  });

  test("usage so far in every chunk", async () => {
    const chunks = (await events(send({ stream_options: { continuous_usage_stats: true } }))).slice(
      0,
      -1,
    );
    expect(chunks.map((one) => JSON.parse(one).usage.completion_tokens)).toEqual([0, 1, 3, 3]);
  });

  test("usage says what was cached, in the last chunk and where it stands in every one", async () => {
    const { chat, client } = testApp();
    client.script = say("Hi", { cachedTokens: 16 });
    for (const option of ["include_usage", "continuous_usage_stats"]) {
      const frames = await events(chat({ stream: true, stream_options: { [option]: true } }));
      expect(JSON.parse(frames.at(-2) as string).usage.prompt_tokens_details).toEqual({
        cached_tokens: 16,
      });
    }
  });

  test("is not to be cached or held back", async () => {
    const { headers } = await send({});
    expect(headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(headers.get("cache-control")).toBe("no-cache");
    expect(headers.get("x-request-id")).toBe("r1");
  });

  test("text that JSON and SSE must escape comes back whole", async () => {
    const text = 'a"b\\c\n\ndata: [DONE]\n\u2028𝄞\u0007';
    const chunks = (await events(send({}, text))).slice(0, -1).map((one) => JSON.parse(one));
    expect(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("")).toBe(text);
  });

  test("interleaves choices as their tokens come, and finishes each", async () => {
    const { chat, client } = testApp();
    client.script = undefined;
    const response = await chat({ n: 2, stream: true });
    const [first, second] = await client.arrived(2);
    second?.sendText("b");
    second?.send({ tokenIds: [], logprobs: [], finish: END });
    first?.sendText("a");
    first?.send({ tokenIds: [], logprobs: [], finish: { ...END, reason: "length" } });
    const chunks = (await events(response)).slice(0, -1).map((one) => JSON.parse(one).choices[0]);
    const of = (index: number): unknown[] =>
      chunks
        .filter((one) => one.index === index)
        .map((one) => one.delta.content ?? one.finish_reason);
    expect(of(0)).toEqual(["", "a", "length"]);
    expect(of(1)).toEqual(["", "b", "stop"]);
  });

  test("an error after the start is an event of its own and ends the stream", async () => {
    const { chat, client, errors } = testApp();
    client.script = undefined;
    const response = await chat({ stream: true });
    const [sequence] = await client.arrived(1);
    sequence?.sendText("a");
    sequence?.send({
      tokenIds: [],
      logprobs: [],
      finish: {
        ...END,
        reason: "error",
        error: { code: "internal", message: "a kernel failed" },
      } as never,
    });
    const frames = await events(response);
    expect(JSON.parse(frames.at(-2) as string)).toEqual({
      error: { message: "a kernel failed", type: "server_error", param: null, code: "internal" },
    });
    expect(frames.at(-1)).toBe("[DONE]");
    expect(errors).toHaveLength(1);
  });

  test("a sequence that the server aborts ends with an error, not as if it were whole", async () => {
    const { chat, client } = testApp();
    client.script = () => [
      { tokenIds: [97], logprobs: [0] },
      { tokenIds: [], logprobs: [], finish: { ...END, reason: "abort" } },
    ];
    expect(JSON.parse((await events(chat({ stream: true }))).at(-2) as string).error.code).toBe(
      "unavailable",
    );
    expect((await chat({})).status).toBe(503);
  });

  test("what the engine refuses at once has its status, not a stream", async () => {
    const { chat, client } = testApp();
    client.script = () => {
      throw new Error("no");
    };
    const response = await chat({ stream: true });
    expect(response.status).toBe(500);
    expect(response.headers.get("content-type")).toStartWith("application/json");
  });

  test("tokens that are there together go out in one write, as an event each", async () => {
    const { chat, client } = testApp();
    client.script = undefined;
    const reader = (await chat({ stream: true })).body?.getReader();
    await reader?.read();
    const [sequence] = await client.arrived(1);
    sequence?.sendText("abc");
    const texts: string[] = [];
    while (texts.join("") !== "abc") {
      const { value } = (await reader?.read()) ?? {};
      for (const event of new TextDecoder().decode(value).split("\n\n").slice(0, -1))
        texts.push(JSON.parse(event.slice("data: ".length)).choices[0].delta.content);
    }
    expect(texts).toEqual(["a", "b", "c"]);
    await reader?.cancel();
  });

  test("is asked of the engine only as fast as it is read", async () => {
    const { chat, client } = testApp();
    client.info = { ...client.info, maxModelLen: 4000, numBlocks: 1000 };
    client.script = say("x".repeat(2000));
    const reader = (await chat({ stream: true })).body?.getReader();
    const untaken: number[] = [];
    for (let i = 0; i < 4; i++) {
      expect((await reader?.read())?.value?.length).toBeLessThan(20_000);
      untaken.push(client.sequences[0]?.untaken ?? 0);
    }
    expect(untaken).toEqual(untaken.toSorted((a, b) => b - a));
    expect(untaken.at(-1)).toBeGreaterThan(1500);
    await reader?.cancel();
  });
});

describe("a completions stream", () => {
  test("frames", async () => {
    const { post, client } = testApp();
    client.script = say("Hi");
    const body = {
      prompt: "a",
      stream: true,
      logprobs: 0,
      stream_options: { include_usage: true },
    };
    const logprobs = (token: string, value: number, offset: number): string =>
      `{"tokens":["${token}"],"token_logprobs":[${value}],"top_logprobs":[{"${token}":${value}}],"text_offset":[${offset}]}`;
    expect(await golden(await post("/v1/completions", body, { "x-request-id": "r1" }))).toBe(
      `data: ${TEXT_HEAD}{"index":0,"text":"H","logprobs":${logprobs("H", -0.125, 0)},"finish_reason":null}],"usage":null}\n\n` +
        `data: ${TEXT_HEAD}{"index":0,"text":"i","logprobs":${logprobs("i", -0.25, 1)},"finish_reason":"stop","stop_reason":null}],"usage":null}\n\n` +
        `data: ${TEXT_HEAD}],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4,"prompt_tokens_details":{"cached_tokens":0}}}\n\n` +
        "data: [DONE]\n\n",
    );
  });
});

describe("a client that leaves", () => {
  test("while it streams: every sequence of the request is aborted", async () => {
    const { chat, client, errors } = testApp();
    client.script = undefined;
    const reader = (await chat({ stream: true, n: 3 })).body?.getReader();
    await reader?.read();
    await client.arrived(3);
    const pending = reader?.read();
    await reader?.cancel();
    expect((await pending)?.done).toBe(true);
    expect(errors).toEqual([]);
    expect(client.aborted).toHaveLength(3);
    expect(client.sequences.every((one) => one.returned)).toBe(true);
  });

  test("while it waits for a whole answer", async () => {
    const { app, client } = testApp();
    client.script = undefined;
    const controller = new AbortController();
    const request = new Request("http://localhost/v1/completions", {
      method: "POST",
      body: '{"prompt":"a"}',
      headers: { "content-type": "application/json" },
      signal: controller.signal,
    });
    const answer = app.request(request);
    await client.arrived(1);
    controller.abort();
    await client.abortsArrived(1);
    await answer;
    expect(client.sequences[0]?.returned).toBe(true);
  });

  test("after the end: nothing is aborted", async () => {
    const { chat, client } = testApp();
    await (await chat({ stream: true })).text();
    await chat({});
    expect(client.aborted).toEqual([]);
  });
});
