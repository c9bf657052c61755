/** Calls of tools and reasoning in each family's form, with tokens picked by chance among those that the grammar allows: what is read is what was asked for. */

import { afterAll, describe, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { AppDeps } from "../../engine/server/deps.ts";
import { type ServedApp, serveTinyModel } from "../support/served-app.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
const started: ServedApp[] = [];
afterAll(async () => {
  for (const { client } of started) await client.shutdown(0);
});

async function serve(name: string, deps: Partial<AppDeps>): Promise<ServedApp> {
  const path = join(folder, name);
  await mkdir(path);
  const served = await serveTinyModel(path, deps, { backend: "witness" });
  started.push(served);
  return served;
}

const parameters = {
  type: "object",
  properties: {
    city: { type: "string", maxLength: 5 },
    days: { $ref: "#/$defs/days" },
    ok: { type: "boolean" },
  },
  required: ["city", "days"],
  additionalProperties: false,
  $defs: { days: { type: "integer", minimum: 1, maximum: 31 } },
};
const tools = ["weather", "time"].map((name) => ({
  type: "function",
  function: { name, parameters, strict: true },
}));
const ajv = new Ajv2020();

interface Choice {
  readonly finish_reason: string;
  readonly message: {
    readonly content: string | null;
    readonly reasoning?: string;
    readonly tool_calls?: readonly {
      readonly function: { readonly name: string; readonly arguments: string };
    }[];
  };
}

async function ask({ app }: ServedApp, body: object, seed: number): Promise<Choice> {
  const response = await app.request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      messages: [{ role: "user", content: "hi" }],
      temperature: 1,
      seed,
      max_tokens: 400,
      ...body,
    }),
  });
  const { choices, error } = (await response.json()) as { choices?: Choice[]; error?: object };
  if (choices?.[0] === undefined) throw new Error(JSON.stringify(error));
  return choices[0];
}

function checkCalls({ message, finish_reason: reason }: Choice, names: readonly string[]): void {
  const calls = message.tool_calls ?? [];
  expect(calls.length).toBeGreaterThan(0);
  // Of a row that was cut off all but the last are whole.
  for (const { function: called } of reason === "tool_calls" ? calls : calls.slice(0, -1)) {
    expect(called.name).toBeOneOf([...names]);
    const args: unknown = JSON.parse(called.arguments);
    if (!ajv.validate(parameters, args))
      throw new Error(`${called.arguments}: ${ajv.errorsText()}`);
  }
  expect(message.content ?? "").toBe("");
}

const FORMATS = ["hermes", "mistral", "llama3_json", "pythonic", "json"];
const mistralOfNow = "{{ messages[0].content }}{# tools [ARGS] #}";

describe.each([
  ...FORMATS.map((name) => [name, "{{ messages[0].content }}{# tools #}"] as const),
  ["mistral", mistralOfNow] as const,
])("%s %s", (format, chatTemplate) => {
  test("calls that have to be made keep to their parameters", async () => {
    const served = await serve(`${format} ${chatTemplate.length}`, {
      toolCallParser: format,
      chatTemplate,
    });
    const named = { type: "function", function: { name: "time" } };
    for (let seed = 0; seed < 8; seed++) {
      checkCalls(await ask(served, { tools, tool_choice: "required" }, seed), ["weather", "time"]);
      const one = await ask(
        served,
        { tools, tool_choice: named, parallel_tool_calls: false },
        seed,
      );
      checkCalls(one, ["time"]);
      expect([one.message.tool_calls?.length, one.finish_reason]).toEqual([1, "tool_calls"]);
    }
    // One that may be made is bound too; what is said by chance is seldom one.
    const free = await ask(served, { tools, max_tokens: 40 }, 1);
    expect(free.finish_reason).toBeOneOf(["stop", "length", "tool_calls"]);
    expect(free.message.tool_calls ?? []).toEqual([]);
  }, 60_000);
});

test("beside a form for the text, an answer is that or calls", async () => {
  const chatTemplate = "{{ messages[0].content }}{# tools #}";
  const served = await serve("either", { toolCallParser: "hermes", chatTemplate });
  const structured_outputs = { choice: ["yes", "no"] };
  let numCalls = 0;
  for (let seed = 0; seed < 24; seed++) {
    const choice = await ask(served, { tools, structured_outputs }, seed);
    if (choice.message.tool_calls === undefined)
      expect(choice.message.content).toBeOneOf(["yes", "no"]);
    else {
      numCalls++;
      checkCalls(choice, ["weather", "time"]);
    }
  }
  expect(numCalls).toBeWithin(1, 24);
}, 60_000);

test("reasoning comes before the document, and is free", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "x", schema: parameters } };
  const inside = await serve("inside", { chatTemplate: "{{ messages[0].content }}<think>" });
  const outside = await serve("outside", {
    chatTemplate: "{{ messages[0].content }}{# <think> #}",
  });
  let numEnded = 0;
  for (let seed = 0; seed < 12; seed++) {
    for (const served of [inside, outside]) {
      const { message, finish_reason: reason } = await ask(served, { response_format }, seed);
      if (reason !== "stop") continue;
      numEnded++;
      const document: unknown = JSON.parse(message.content ?? "");
      if (!ajv.validate(parameters, document)) throw new Error(`${message.content}`);
    }
  }
  expect(numEnded).toBeGreaterThan(3);
}, 60_000);
