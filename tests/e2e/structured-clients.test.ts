/** Structured output and forced calls through the `openai` and `ai` packages, unchanged, against a real process. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, Output, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { startServer, type TestServer } from "../support/server.ts";

const MODEL = "under-test";
const QUESTION = "Tell me about a city.";
const city = z.object({
  name: z.string().max(12),
  size: z.enum(["small", "large"]),
  rivers: z.array(z.string().max(8)).max(2),
  capital: z.boolean(),
});
let server: TestServer;

beforeAll(async () => {
  server = await startServer(["--served-model-name", MODEL, "--no-access-log"]);
}, 60_000);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("the openai package", () => {
  const client = (): OpenAI =>
    new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
  const messages = [{ role: "user" as const, content: QUESTION }];

  test("zodResponseFormat, whole and streamed", async () => {
    const body = {
      model: MODEL,
      messages,
      seed: 3,
      response_format: zodResponseFormat(city, "city"),
    };
    const whole = await client().chat.completions.parse(body);
    const parsed = whole.choices[0]?.message.parsed;
    expect(city.safeParse(parsed).success).toBe(true);
    const streamed = await client().chat.completions.stream(body).finalChatCompletion();
    expect(streamed.choices[0]?.message.parsed).toEqual(parsed ?? null);
    expect(streamed.choices[0]?.finish_reason).toBe("stop");
  }, 60_000);

  test("zodTextFormat of a response", async () => {
    const body = { model: MODEL, input: QUESTION, text: { format: zodTextFormat(city, "city") } };
    const response = await client().responses.parse(body);
    expect(city.safeParse(response.output_parsed).success).toBe(true);
  }, 60_000);

  test("a call that is required, and one that is named, keep to their parameters", async () => {
    const functions = ["weather", "time"].map((name) => ({
      type: "function" as const,
      function: {
        name,
        parameters: {
          type: "object",
          properties: {
            city: { type: "string", maxLength: 10 },
            days: { type: "integer", minimum: 1, maximum: 7 },
          },
          required: ["city", "days"],
          additionalProperties: false,
        },
      },
    }));
    for (const choice of ["required", { type: "function", function: { name: "time" } }] as const) {
      const body = {
        model: MODEL,
        messages,
        tools: functions,
        tool_choice: choice,
        seed: 5,
        parallel_tool_calls: false,
      };
      const answer = (await client().chat.completions.create(body)).choices[0];
      expect(answer?.finish_reason).toBe("tool_calls");
      const [call, ...more] = answer?.message.tool_calls ?? [];
      if (call?.type !== "function") throw new Error("no call of a function");
      expect(more).toEqual([]);
      expect(call.function.name).toBeOneOf(choice === "required" ? ["weather", "time"] : ["time"]);
      const args = JSON.parse(call.function.arguments) as { city: string; days: number };
      expect(Object.keys(args)).toEqual(["city", "days"]);
      expect(args.days).toBeWithin(1, 8);
    }
  }, 60_000);

  test("a schema that cannot be followed is a 400 that names its field", async () => {
    const schema = {
      type: "object",
      properties: { a: { not: { type: "string" } } },
      additionalProperties: false,
    };
    const format = { type: "json_schema" as const, json_schema: { name: "x", schema } };
    const call = client().chat.completions.create({
      model: MODEL,
      messages,
      response_format: format,
    });
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ status: 400, param: "response_format.json_schema.schema" });
  });
});

describe("the ai package", () => {
  const model = (): ReturnType<ReturnType<typeof createOpenAICompatible>> =>
    createOpenAICompatible({
      name: "kvengine",
      baseURL: `${server.url}/v1`,
      supportsStructuredOutputs: true,
    })(MODEL);

  test("an object", async () => {
    const { output } = await generateText({
      model: model(),
      prompt: QUESTION,
      output: Output.object({ schema: city }),
      seed: 4,
      maxRetries: 0,
    });
    expect(city.safeParse(output).success).toBe(true);
  }, 60_000);

  test("a tool that has to be called", async () => {
    const given: unknown[] = [];
    const tools = {
      weather: tool({
        description: "The weather in a city",
        inputSchema: z.object({ city: z.string().max(10), unit: z.enum(["C", "F"]) }),
        execute: (input) => {
          given.push(input);
          return "Sunny.";
        },
      }),
    };
    await generateText({
      model: model(),
      prompt: QUESTION,
      tools,
      toolChoice: "required",
      stopWhen: isStepCount(1),
      seed: 6,
      maxRetries: 0,
    });
    expect(given.length).toBeGreaterThan(0);
  }, 60_000);
});
