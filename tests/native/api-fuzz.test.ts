/** Bodies that are almost right, at every endpoint, over a real engine: none breaks the server, hangs it or leaves anything behind. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import * as fc from "fast-check";
import type { KvEngineError } from "../../engine/errors.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import { type ServedApp, serveTinyModel } from "../support/served-app.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
const errors: KvEngineError[] = [];
let served: ServedApp;

beforeAll(async () => {
  const chatTemplate =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}" +
    "{{ tools }}{{ enable_thinking }}{% if add_generation_prompt %}<tool_call></think>{% endif %}";
  const onError = (error: KvEngineError): number => errors.push(error);
  served = await serveTinyModel(folder, { chatTemplate, onError, maxStoredResponses: 100 });
});
afterAll(() => served.client.shutdown(0));

type Body = Readonly<Record<string, unknown>>;

const call = { id: "c1", type: "function", function: { name: "f", arguments: '{"a": 1}' } };
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "hi" }] },
  { role: "assistant", content: null, tool_calls: [call] },
  { role: "tool", tool_call_id: "c1", content: "1" },
  { role: "assistant", content: "ok", reasoning_content: "hm" },
  { role: "user", content: "and" },
];
const parameters = { type: "object", properties: { a: { type: "integer" } } };
const sampling = {
  model: "tiny",
  temperature: 0.5,
  top_p: 0.9,
  top_k: 5,
  min_p: 0.1,
  seed: 7,
  stop: ["zz"],
  stop_token_ids: [3],
  presence_penalty: 0.5,
  frequency_penalty: 0.5,
  repetition_penalty: 1.1,
  logit_bias: { "5": 1 },
  allowed_token_ids: [5, 6, 7],
  bad_words: ["x"],
  ignore_eos: true,
  priority: 0,
  cache_salt: "s",
};
const chat = {
  ...sampling,
  messages,
  max_tokens: 4,
  min_tokens: 1,
  n: 2,
  logprobs: true,
  top_logprobs: 2,
  tools: [{ type: "function", function: { name: "f", description: "d", parameters } }],
  tool_choice: "auto",
  parallel_tool_calls: false,
  add_generation_prompt: true,
  chat_template_kwargs: { a: 1 },
  reasoning_effort: "low",
  include_reasoning: true,
  return_token_ids: true,
  return_timing: true,
  metadata: { a: "b" },
  user: "u",
};
const schema = { ...parameters, required: ["a"], additionalProperties: false };
const structured = {
  messages,
  max_tokens: 4,
  tools: [{ type: "function", function: { name: "f", parameters: schema, strict: true } }],
  response_format: { type: "json_schema", json_schema: { name: "x", schema, strict: true } },
};
const completion = {
  ...sampling,
  prompt: ["a", "bc"],
  max_tokens: 3,
  n: 2,
  logprobs: 1,
  echo: true,
  prompt_logprobs: 1,
  return_token_ids: true,
};
const response = {
  ...sampling,
  input: [
    { role: "user", content: [{ type: "input_text", text: "hi" }] },
    {
      type: "reasoning",
      id: "rs_1",
      summary: [],
      content: [{ type: "reasoning_text", text: "hm" }],
    },
    { type: "function_call", call_id: "c1", name: "f", arguments: "{}" },
    { type: "function_call_output", call_id: "c1", output: "1" },
    {
      type: "message",
      role: "assistant",
      content: [{ type: "output_text", text: "ok", annotations: [] }],
    },
  ],
  instructions: "Be brief.",
  max_output_tokens: 3,
  tools: [{ type: "function", name: "f", parameters, strict: false }],
  tool_choice: "auto",
  reasoning: { effort: "low" },
  text: { format: { type: "text" } },
  include: ["message.output_text.logprobs"],
  top_logprobs: 1,
  metadata: { a: "b" },
  store: true,
  truncation: "disabled",
};

/** Requests that are right as they are. */
const VALID: readonly (readonly [method: string, path: string, body: Body | undefined])[] = [
  ["POST", "/v1/chat/completions", chat],
  ["POST", "/v1/chat/completions", { messages, stream: true, stream_options: { include_usage: true }, max_tokens: 3 }],
  ["POST", "/v1/chat/completions", structured],
  ["POST", "/v1/chat/completions", { messages, max_tokens: 4, tools: structured.tools, tool_choice: { type: "function", function: { name: "f" } } }],
  ["POST", "/v1/completions", { prompt: "a", max_tokens: 4, structured_outputs: { json: schema } }],
  ["POST", "/v1/completions", { prompt: "a", max_tokens: 4, structured_outputs: { grammar: 'root ::= "a" [b-c]* (root | "d"){1,3}' } }],
  ["POST", "/v1/responses", { input: "hi", max_output_tokens: 4, text: { format: { type: "json_schema", name: "x", schema } } }],
  ["POST", "/v1/chat/completions/render", chat],
  ["POST", "/v1/completions", completion],
  ["POST", "/v1/completions", { prompt: [[1, 2], [3]], stream: true, max_tokens: 2, logprobs: 0 }],
  ["POST", "/v1/completions/render", completion],
  ["POST", "/v1/responses", response],
  ["POST", "/v1/responses", { input: "hi", stream: true, max_output_tokens: 3 }],
  ["POST", "/v1/responses", { input: "hi", background: true, max_output_tokens: 3 }],
  ["POST", "/tokenize", { prompt: "hi", add_special_tokens: true, return_token_strs: true }],
  ["POST", "/tokenize", { messages, add_generation_prompt: true, return_token_strs: true }],
  ["POST", "/detokenize", { tokens: [5, 6, 7] }],
  ["GET", "/v1/models", undefined],
  ["GET", "/openapi.json", undefined],
  ["GET", "/v1/responses/resp_none", undefined],
  ["POST", "/v1/responses/resp_none/cancel", undefined],
  ["DELETE", "/v1/responses/resp_none", undefined],
]; // prettier-ignore

const NAMES = [
  ...new Set([chat, completion, response].flatMap((body) => Object.keys(body))),
  "stream", "stream_options", "background", "previous_response_id", "max_completion_tokens", "continue_final_message",
  "response_format", "structured_outputs", "json", "regex", "choice", "grammar", "schema", "not", "$ref", "pattern", "best_of", "suffix", "conversation", "type", "content", "role", "function",
  "__proto__", "constructor", "toString", "", "unknown_field",
]; // prettier-ignore
const value = fc.oneof(
  fc.constantFrom<unknown>(
    null, true, false, 0, 1, -1, 0.5, 2, 16, 200, 1e308, -1e308, 2 ** 31, 2 ** 53, "", "tiny", "a", "none", "required", "user",
    "\ud800", "(", "a{9}{9}", "start: x", "<tool_call>", "</think>", [], {}, [[]], [0], ["a"], [null], [{}], { type: "text" }, { a: { b: [] } }, "[".repeat(50),
  ),
  fc.integer(),
  fc.string({ unit: "binary", maxLength: 8 }),
); // prettier-ignore
/** A step into the body for each number, then what is done there. */
const mutation = fc.record({
  steps: fc.array(fc.nat(1000), { minLength: 1, maxLength: 5 }),
  name: fc.constantFrom(...NAMES),
  act: fc.constantFrom("replace", "replace", "remove", "add"),
  value,
});
type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

/** Changes one place of a body. */
function mutate(body: unknown, { steps, name, act, value: given }: Mutation): void {
  let at: unknown = body;
  for (const [i, step] of steps.entries()) {
    if (typeof at !== "object" || at === null) return;
    const holder = at as Record<string, unknown>;
    const keys = Object.keys(holder);
    const key = keys[step % Math.max(1, keys.length)];
    if (act === "add" && i === steps.length - 1) {
      Object.defineProperty(holder, name, {
        value: given,
        enumerable: true,
        configurable: true,
        writable: true,
      });
      return;
    }
    if (key === undefined) return;
    const inner = holder[key];
    if (i < steps.length - 1 && typeof inner === "object" && inner !== null) {
      at = inner;
      continue;
    }
    if (act === "remove") delete holder[key];
    else holder[key] = given;
    return;
  }
}

const RUNS = propertyRuns(10_000);

test(
  `${RUNS.numRuns} mutated requests: no server error, and every refusal names its field`,
  async () => {
    const seen = new Map<number, number>();
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...VALID),
        fc.array(mutation, { maxLength: 3 }),
        async ([method, path, valid], mutations) => {
          const body = valid === undefined ? undefined : structuredClone(valid);
          for (const one of mutations) mutate(body, structuredClone(one));
          const answer = await served.send(method, path, body);
          const text = await answer.text();
          const { status } = answer;
          seen.set(status, (seen.get(status) ?? 0) + 1);
          expect(status).toBeOneOf([200, 400, 404, 429]);
          if (status === 400 || status === 404) expect(JSON.parse(text).error.param).toBeString();
          // An answer that fails on its way says so in its own words.
          expect(text).not.toContain('"code":"internal"');
        },
      ),
      RUNS,
    );
    expect(errors).toEqual([]);
    // All outcomes must be common, or the requests test nothing.
    expect(seen.get(200) ?? 0).toBeGreaterThan(RUNS.numRuns / 10);
    expect(seen.get(400) ?? 0).toBeGreaterThan(RUNS.numRuns / 10);
  },
  PROPERTY_LIMIT_MS,
);

test("nothing is left behind", async () => {
  // It ends once everything has: what was asked for in the background, too.
  await served.client.shutdown(60_000);
  const { running, waiting, usedBlocks } = served.client.stats();
  expect({ running, waiting, usedBlocks }).toEqual({ running: 0, waiting: 0, usedBlocks: 0 });
}, 70_000);
