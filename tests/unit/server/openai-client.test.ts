/** The official client of OpenAI, unchanged, over a socket. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import OpenAI, {
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
} from "openai";
import { serveHttp } from "../../../engine/server/listen.ts";
import { NO_TIMING, say } from "../../support/fake-engine-client.ts";
import { apiKeys } from "../../support/api-keys.ts";
import { testApp, USER } from "./test-app.ts";

let draining = false;
const { app, client } = testApp({ apiKeys: apiKeys("right"), isDraining: () => draining });
const server = serveHttp(app, { host: "127.0.0.1", port: 0 });
const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "right", maxRetries: 0 });
const messages = [...USER];

beforeEach(() => {
  client.script = say("Hello");
});
afterAll(async () => {
  await server.stop(true);
});

describe("the openai client", () => {
  test("chat", async () => {
    const answer = await openai.chat.completions.create({
      model: "tiny",
      messages,
      seed: 1,
      logprobs: true,
    });
    expect(answer.choices[0]?.message.content).toBe("Hello");
    expect(answer.choices[0]?.finish_reason).toBe("stop");
    expect(answer.choices[0]?.logprobs?.content?.map((one) => one.token).join("")).toBe("Hello");
    expect(answer.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    expect(answer._request_id).toBeString();
  });

  test("chat, streaming, with usage", async () => {
    const stream = await openai.chat.completions.create({
      model: "tiny",
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage: unknown;
    const finishes: unknown[] = [];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      const reason = chunk.choices[0]?.finish_reason ?? undefined;
      if (reason !== undefined) finishes.push(reason);
      usage = chunk.usage ?? usage;
    }
    expect([text, finishes, usage]).toEqual([
      "Hello",
      ["stop"],
      {
        prompt_tokens: 19,
        completion_tokens: 6,
        total_tokens: 25,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 0 },
      },
    ]);
  });

  test("chat, by its stream helper, with several choices", async () => {
    client.script = (request) => say(`answer ${request.sampling.choice}`)(request);
    const final = await openai.chat.completions
      .stream({ model: "tiny", messages, n: 2 })
      .finalChatCompletion();
    expect(final.choices.map((choice) => choice.message.content)).toEqual(["answer 0", "answer 1"]);
  });

  test("completions", async () => {
    const answer = await openai.completions.create({
      model: "tiny",
      prompt: "a",
      logprobs: 0,
      max_tokens: 2,
    });
    expect(answer.choices[0]).toMatchObject({ text: "He", finish_reason: "length", index: 0 });
    expect(answer.choices[0]?.logprobs?.token_logprobs).toEqual([-0.125, -0.25]);
  });

  test("completions, streaming", async () => {
    const stream = await openai.completions.create({ model: "tiny", prompt: "a", stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
    expect(text).toBe("Hello");
  });

  test("models", async () => {
    const ids: string[] = [];
    for await (const model of openai.models.list()) ids.push(model.id);
    expect(ids).toEqual(["tiny", "org/tiny"]);
    expect((await openai.models.retrieve("org/tiny")).id).toBe("org/tiny");
  });

  test("leaving a stream aborts the sequence", async () => {
    client.script = undefined;
    const before = client.sequences.length;
    const stream = await openai.chat.completions.create({ model: "tiny", messages, stream: true });
    const sequence = (await client.arrived(before + 1)).at(-1);
    sequence?.sendText("a");
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content === "a") break;
    await client.abortsArrived(1);
    expect(client.aborted).toEqual([sequence?.request.id as string]);
  });

  test("errors come as its own classes, with code and param", async () => {
    const thrown = (call: Promise<unknown>): Promise<unknown> =>
      call.then(
        () => "no error",
        (error: unknown) => error,
      );
    const chat = (more: object, by = openai): Promise<unknown> =>
      thrown(by.chat.completions.create({ model: "tiny", messages, ...more }));
    const wrongField = await chat({ temperature: 3 });
    expect(wrongField).toBeInstanceOf(BadRequestError);
    expect(wrongField).toMatchObject({
      status: 400,
      code: "invalid_request",
      param: "temperature",
      type: "invalid_request_error",
    });
    expect(await chat({ model: "other" })).toBeInstanceOf(NotFoundError);
    expect(await chat({ max_tokens: 10_000 })).toMatchObject({ code: "context_length_exceeded" });
    const other = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "wrong", maxRetries: 0 });
    expect(await chat({}, other)).toBeInstanceOf(AuthenticationError);
    draining = true;
    expect(await chat({})).toBeInstanceOf(InternalServerError);
    draining = false;
  });

  test("an error in a stream is thrown where it is read", async () => {
    client.script = () => [
      { tokenIds: [97], logprobs: [0] },
      {
        tokenIds: [],
        logprobs: [],
        finish: {
          reason: "error",
          error: { code: "out_of_memory", message: "no memory" },
          usage: { promptTokens: 1, completionTokens: 1, cachedTokens: 0 },
          timing: NO_TIMING,
        },
      },
    ];
    const stream = await openai.chat.completions.create({ model: "tiny", messages, stream: true });
    let thrown: unknown;
    try {
      for await (const chunk of stream) expect(chunk.id).toStartWith("chatcmpl-");
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({
      code: "out_of_memory",
      message: expect.stringContaining("no memory"),
    });
  });
});
