/** Python's `openai` package, unchanged, against a real server, and its models against what the server answers. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { HAS_PYTHON, runPython } from "../support/python-openai.ts";
import { events, post, startServer, type TestServer } from "../support/server.ts";
import { say } from "../support/fake-engine-client.ts";
import { testApp, USER } from "../unit/server/test-app.ts";

let server: TestServer;

beforeAll(async () => {
  server = await startServer(["--served-model-name", "under-test", "--no-access-log"]);
}, 60_000);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Case {
  readonly type: string;
  readonly json: unknown;
}

/** Fields that answers have beyond OpenAI's, as README.md lists them. */
const OURS: readonly string[] = [
  "ChatCompletion.prompt_logprobs",
  "ChatCompletion.prompt_token_ids",
  "ChatCompletion.timing",
  "ChatCompletionChunk.prompt_token_ids",
  "ChatCompletionChunk.timing",
  "ChatCompletionMessage.reasoning",
  "ChatCompletionMessage.reasoning_content",
  "Choice.stop_reason",
  "Choice.token_ids",
  "ChoiceDelta.reasoning",
  "ChoiceDelta.reasoning_content",
  "Completion.timing",
  "CompletionChoice.prompt_logprobs",
  "CompletionChoice.prompt_token_ids",
  "CompletionChoice.stop_reason",
  "CompletionChoice.token_ids",
  "InputTokensDetails.cached_tokens_details",
  "InputTokensDetails.load_ms",
  "InputTokensDetails.saved_ms",
  "Model.max_model_len",
  "Model.parent",
  "Model.root",
  "PromptTokensDetails.cached_tokens_details",
  "PromptTokensDetails.load_ms",
  "PromptTokensDetails.saved_ms",
  "Response.store",
];

describe.skipIf(!HAS_PYTHON)("with python3", () => {
  test("the client does all that it is used for", async () => {
    const got = JSON.parse(await runPython("client.py", [server.url, "any"]));
    expect(got.model).toBe("under-test");
    expect(got.chat).not.toBe("");
    expect(got).toMatchObject({
      chat_tokens: got.chat,
      streamed_chat: got.chat,
      accumulated_chat: got.chat.slice(0, got.chat.indexOf(got.chat_stop)),
      usage: true,
      streamed_usage: true,
      streamed_completion: got.completion,
      retrieved: got.response,
      streamed_response: got.response.slice(0, got.response.indexOf(got.response_stop)),
      input_items: ["Say hello."],
      later_input: true,
      cancelled: "cancelled",
      errors: ["NotFoundError", "NotFoundError", "BadRequestError", null],
    });
    expect(got.event_types.slice(0, 2)).toEqual(["response.created", "response.in_progress"]);
    expect(got.event_types.at(-1)).toBe("response.completed");
  }, 180_000);

  test("answers are what its models say, and every further field is listed", async () => {
    const cases = [...(await realAnswers()), ...(await scriptedAnswers())];
    const lines = cases.map((one) => JSON.stringify(one)).join("\n");
    const verdicts = (await runPython("validate.py", [], lines))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(verdicts).toHaveLength(cases.length);
    for (const [i, { error }] of verdicts.entries())
      expect(error === null ? "" : `${JSON.stringify(cases[i])}: ${error}`).toBe("");
    const extra = new Set(verdicts.flatMap((verdict) => verdict.extra));
    expect([...extra].toSorted(byName)).toEqual(OURS.toSorted(byName));
  }, 180_000);
});

const byName = (a: string, b: string): number => (a < b ? -1 : 1);

const CHAT = "openai.types.chat:ChatCompletion";
const CHUNK = "openai.types.chat:ChatCompletionChunk";
const COMPLETION = "openai.types:Completion";
const RESPONSE = "openai.types.responses:Response";
const EVENT = "openai.types.responses:ResponseStreamEvent";

async function realAnswers(): Promise<Case[]> {
  const whole = async (type: string, path: string, body: object): Promise<Case> => {
    const response = await post(server, path, body);
    const json: unknown = await response.json();
    if (response.status !== 200) throw new Error(JSON.stringify(json));
    return { type, json };
  };
  const streamed = async (type: string, path: string, body: object): Promise<Case[]> => {
    const cases: Case[] = [];
    for await (const json of events(await post(server, path, { ...body, stream: true })))
      cases.push({ type, json });
    return cases;
  };
  const more = { max_tokens: 4, return_timing: true, return_token_ids: true };
  const prompted = { prompt: ["Hello there, who are you", "I"], ...more };
  const stream = { ...more, stream_options: { include_usage: true } };
  const chat = { messages: USER, ...more };
  const list = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: unknown[] };
  return [
    ...list.data.map((json) => ({ type: "openai.types:Model", json })),
    await whole(CHAT, "/v1/chat/completions", chat),
    await whole(CHAT, "/v1/chat/completions", { ...chat, n: 2, logprobs: true, top_logprobs: 3, prompt_logprobs: 1 }),
    await whole(CHAT, "/v1/chat/completions", { ...chat, messages: [{ role: "user", content: "again ".repeat(40) }] }),
    await whole(CHAT, "/v1/chat/completions", { ...chat, messages: [{ role: "user", content: "again ".repeat(40) }] }),
    ...(await streamed(CHUNK, "/v1/chat/completions", { ...stream, messages: USER, logprobs: true })),
    await whole(COMPLETION, "/v1/completions", prompted),
    await whole(COMPLETION, "/v1/completions", { ...prompted, logprobs: 2, prompt_logprobs: 1 }),
    ...(await streamed(COMPLETION, "/v1/completions", { ...stream, prompt: "Hello", logprobs: 1 })).map(withReason),
    await whole(RESPONSE, "/v1/responses", { input: "again ".repeat(40), max_output_tokens: 4 }),
    await whole(RESPONSE, "/v1/responses", { input: "again ".repeat(40), max_output_tokens: 4, include: ["message.output_text.logprobs"], top_logprobs: 2 }),
    ...(await responseEvents(await post(server, "/v1/responses", { input: "Hi", max_output_tokens: 4, stream: true }))),
  ]; // prettier-ignore
}

/** OpenAI's own chunks have null here, which its model does not. */
function withReason({ type, json }: Case): Case {
  const text = JSON.stringify(json).replace('"finish_reason":null', '"finish_reason":"stop"');
  return { type, json: JSON.parse(text) };
}

async function responseEvents(response: Response): Promise<Case[]> {
  const frames = (await response.text()).split("\n\n").filter((text) => text !== "");
  return frames.map((text) => ({ type: EVENT, json: JSON.parse(text.replace(/^.*\ndata: /, "")) }));
}

/** What the small model does not do by itself. */
async function scriptedAnswers(): Promise<Case[]> {
  const template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}<think>";
  const { client, chat, post: send } = testApp({ chatTemplate: `${template}<tool_call>` });
  client.script = say(
    '<think>Well.</think>Yes.\n<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>',
  );
  const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
  const flat = [{ type: "function", name: "f", parameters: { type: "object" } }];
  const chunks = (await (await chat({ tools, stream: true })).text()).split("\n\n");
  return [
    { type: CHAT, json: await (await chat({ tools })).json() },
    ...chunks
      .filter((text) => text.startsWith("data: {"))
      .map((text) => ({ type: CHUNK, json: JSON.parse(text.slice("data: ".length)) })),
    {
      type: RESPONSE,
      json: await (await send("/v1/responses", { input: "a", tools: flat })).json(),
    },
    ...(await responseEvents(
      await send("/v1/responses", { input: "a", tools: flat, stream: true }),
    )),
  ];
}
