/** The `openai` and `ai` packages, unchanged, call tools through a real model that a template shows how. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, streamText, tool } from "ai";
import OpenAI from "openai";
import { z } from "zod";
import { startServer, type TestServer } from "../support/server.ts";

const TEMPLATE = join(import.meta.dir, "../support/templates/calls.jinja");
const QUESTION = "What is the weather in Berlin?";
const MODEL = "under-test";
let server: TestServer;

beforeAll(async () => {
  const args = ["--served-model-name", MODEL, "--chat-template", TEMPLATE, "--no-access-log"];
  server = await startServer(args);
}, 60_000);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("the openai package", () => {
  const tools = [
    {
      type: "function" as const,
      function: { name: "get_weather", parameters: { type: "object" } },
    },
  ];
  const messages = [{ role: "user" as const, content: QUESTION }];
  const client = (): OpenAI =>
    new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });

  test("a call in a chat, whole and streamed", async () => {
    const body = { model: MODEL, messages, tools, temperature: 0, max_tokens: 64 };
    const whole = (await client().chat.completions.create(body)).choices[0];
    expect(whole?.finish_reason).toBe("tool_calls");
    const call = whole?.message.tool_calls?.[0];
    if (call?.type !== "function") throw new Error("no call of a function");
    expect(call.function.name).toBe("get_weather");
    expect(JSON.parse(call.function.arguments)).toEqual({ city: "Berlin" });

    const streamed = (await client().chat.completions.stream(body).finalChatCompletion())
      .choices[0];
    expect(
      streamed?.message.tool_calls?.map((one) => "function" in one && one.function.arguments),
    ).toEqual([call.function.arguments]);
    expect(streamed?.finish_reason).toBe("tool_calls");

    const result = { role: "tool" as const, tool_call_id: call.id, content: "Sunny." };
    const answer = await client().chat.completions.create({
      ...body,
      messages: [...messages, { role: "assistant", tool_calls: [call] }, result],
    });
    expect(answer.usage?.prompt_tokens).toBeGreaterThan(100);
  }, 60_000);

  test("a strict tool binds the call that the model chooses to make", async () => {
    const parameters = {
      type: "object",
      properties: { town: { type: "string", maxLength: 20 }, unit: { enum: ["C", "F"] } },
      required: ["town", "unit"],
      additionalProperties: false,
    };
    const strict = {
      type: "function" as const,
      function: { name: "get_weather", parameters, strict: true },
    };
    const body = { model: MODEL, messages, tools: [strict], temperature: 0, max_tokens: 64 };
    const answer = (await client().chat.completions.create(body)).choices[0];
    const call = answer?.message.tool_calls?.[0];
    if (call?.type !== "function") throw new Error(`no call: ${answer?.message.content}`);
    expect(Object.keys(JSON.parse(call.function.arguments) as object)).toEqual(["town", "unit"]);
  }, 60_000);

  test("a call in a response, whole and streamed", async () => {
    const body = {
      model: MODEL,
      input: QUESTION,
      temperature: 0,
      max_output_tokens: 64,
      tools: [
        {
          type: "function" as const,
          name: "get_weather",
          parameters: { type: "object" },
          strict: false,
        },
      ],
    };
    const whole = await client().responses.create(body);
    const [call] = whole.output;
    if (call?.type !== "function_call") throw new Error("no call");
    expect(JSON.parse(call.arguments)).toEqual({ city: "Berlin" });

    const seen: string[] = [];
    const stream = client().responses.stream(body);
    for await (const event of stream) seen.push(event.type);
    const [again] = (await stream.finalResponse()).output;
    expect(again?.type === "function_call" && again.arguments).toBe(call.arguments);
    expect(seen).toContain("response.function_call_arguments.delta");

    const later = await client().responses.create({
      ...body,
      previous_response_id: whole.id,
      input: [{ type: "function_call_output", call_id: call.call_id, output: "Sunny." }],
    });
    expect(later.status).toBeOneOf(["completed", "incomplete"]);
    expect(later.usage?.input_tokens).toBeGreaterThan(whole.usage?.input_tokens ?? 0);
  }, 60_000);

  test("a response that is left, and one that is cancelled", async () => {
    const stream = await client().responses.create({
      model: MODEL,
      input: "On and on",
      stream: true,
    });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    const { id } = await client().responses.create({
      model: MODEL,
      input: "Count.",
      background: true,
    });
    await client().responses.cancel(id);
    expect((await client().responses.retrieve(id)).status).toBe("cancelled");
  }, 60_000);
});

describe("the ai package", () => {
  const provider = (): ReturnType<typeof createOpenAICompatible> =>
    createOpenAICompatible({ name: "kvengine", baseURL: `${server.url}/v1`, includeUsage: true });
  const ask = { prompt: QUESTION, temperature: 0, maxOutputTokens: 64, maxRetries: 0 };

  test("text, whole and streamed", async () => {
    const model = provider().completionModel(MODEL);
    const body = {
      model,
      prompt: "Once upon a time",
      temperature: 0,
      maxOutputTokens: 16,
      maxRetries: 0,
    };
    const whole = await generateText(body);
    expect(whole.text).not.toBe("");
    const streamed = streamText(body);
    let text = "";
    for await (const piece of streamed.textStream) text += piece;
    expect(text).toBe(whole.text);
    expect((await streamed.usage).outputTokens).toBe(whole.usage.outputTokens);
  }, 60_000);

  test("tools are called and their results are sent back", async () => {
    const cities: string[] = [];
    const tools = {
      get_weather: tool({
        description: "The weather in a city",
        inputSchema: z.object({ city: z.string() }),
        execute: ({ city }) => {
          cities.push(city);
          return "Sunny.";
        },
      }),
    };
    const whole = await generateText({
      model: provider()(MODEL),
      ...ask,
      tools,
      stopWhen: isStepCount(2),
    });
    expect(cities[0]).toBe("Berlin");
    expect(whole.steps.length).toBe(2);

    const streamed = streamText({ model: provider()(MODEL), ...ask, tools });
    const seen: string[] = [];
    for await (const part of streamed.fullStream) seen.push(part.type);
    expect(seen).toContain("tool-input-delta");
    expect((await streamed.toolCalls).map(({ input }) => input)).toEqual([{ city: "Berlin" }]);
  }, 60_000);

  test("a stream can be aborted", async () => {
    const leave = new AbortController();
    const body = { model: provider().completionModel(MODEL), prompt: "On", maxRetries: 0 };
    const streamed = streamText({ ...body, abortSignal: leave.signal, onError: () => {} });
    for await (const _ of streamed.textStream) leave.abort();
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  }, 60_000);
});
