/** The official `openai` package, unchanged, against a real server. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from "openai";
import { startServer, type TestServer } from "../support/server.ts";

const MODEL = "under-test";
const MESSAGES = [{ role: "user" as const, content: "What is the capital of France?" }];
let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer(["--served-model-name", MODEL], {
    env: { ...process.env, KVENGINE_API_KEY: "secret" } as Record<string, string>,
  });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "secret", maxRetries: 0 });
}, 60_000);

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

test("a chat, whole and streamed, is the same text", async () => {
  const body = { model: MODEL, messages: MESSAGES, max_tokens: 16, temperature: 0 };
  const whole = await client.chat.completions.create(body);
  const text = whole.choices[0]?.message.content ?? "";
  expect(text).not.toBe("");
  expect(whole.usage?.total_tokens).toBe(
    (whole.usage?.prompt_tokens ?? 0) + (whole.usage?.completion_tokens ?? 0),
  );
  let streamed = "";
  let usage: number | undefined;
  const stream = await client.chat.completions.create({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage?.total_tokens ?? usage;
  }
  expect(streamed).toBe(text);
  expect(usage).toBe(whole.usage?.total_tokens);
}, 60_000);

test("a completion, whole and streamed, is the same text", async () => {
  const body = { model: MODEL, prompt: "Once upon a time", max_tokens: 16, temperature: 0 };
  const whole = await client.completions.create(body);
  let streamed = "";
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    streamed += chunk.choices[0]?.text ?? "";
  }
  expect(streamed).toBe(whole.choices[0]?.text ?? "");
  expect(whole.choices[0]?.finish_reason).toBe("length");
}, 60_000);

test("a stop string ends the text before it", async () => {
  const body = { model: MODEL, prompt: "1, 2, 3, 4,", max_tokens: 32, temperature: 0 };
  const free = (await client.completions.create(body)).choices[0]?.text ?? "";
  const stop = free.slice(6, 8);
  const stopped = (await client.completions.create({ ...body, stop })).choices[0];
  expect(stopped?.text).toBe(free.slice(0, free.indexOf(stop)));
  expect(stopped?.finish_reason).toBe("stop");
}, 60_000);

test("a stream can be left", async () => {
  const stream = await client.completions.create({
    model: MODEL,
    prompt: "On and on",
    max_tokens: 1000,
    stream: true,
  });
  for await (const chunk of stream) {
    expect(chunk.choices.length).toBe(1);
    break;
  }
  expect((await client.models.list()).data.map(({ id }) => id)).toContain(MODEL);
}, 60_000);

test("errors have the client's own classes", async () => {
  // Its promises are lazy: a request is made when one is awaited.
  const create = async (fields: object): Promise<unknown> =>
    await client.completions.create({ model: MODEL, prompt: "a", max_tokens: 1, ...fields });
  const list = async (apiKey: string): Promise<unknown> =>
    await new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 }).models.list();
  await expect(create({ model: "gpt-9" })).rejects.toBeInstanceOf(NotFoundError);
  await expect(create({ temperature: 9 })).rejects.toBeInstanceOf(BadRequestError);
  await expect(list("wrong")).rejects.toBeInstanceOf(AuthenticationError);
  await list("secret");
}, 60_000);
