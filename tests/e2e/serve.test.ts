import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { defaultModelPath } from "../support/default-model.ts";
import { events, metric, post, runCli, startServer, type TestServer } from "../support/server.ts";

const MODEL = "under-test";
let server: TestServer;

beforeAll(async () => {
  server = await startServer([
    "--served-model-name",
    MODEL,
    "--max-model-len",
    "2048",
    "--max-body-size",
    "1MiB",
  ]);
}, 60_000);

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

interface Completion {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

async function complete(fields: Record<string, unknown>): Promise<Completion> {
  const response = await post(server, "/v1/completions", {
    model: MODEL,
    temperature: 0,
    ...fields,
  });
  expect(response.status).toBe(200);
  return (await response.json()) as Completion;
}

async function streamedText(fields: Record<string, unknown>): Promise<string> {
  const response = await post(server, "/v1/completions", {
    model: MODEL,
    temperature: 0,
    stream: true,
    ...fields,
  });
  let text = "";
  for await (const event of events(response)) {
    const [choice] = event["choices"] as { text?: string }[];
    text += choice?.text ?? "";
  }
  return text;
}

/** Looks, a round trip each time, until a gauge says 0; the test's time limit ends it where that never comes. */
async function untilZero(name: string): Promise<void> {
  if ((await metric(server, name)) > 0) return untilZero(name);
}

async function refusal(
  path: string,
  body: unknown,
): Promise<{ status: number; message: string; param: unknown }> {
  const response = await post(server, path, body);
  const { error } = (await response.json()) as { error: { message: string; param?: unknown } };
  return { status: response.status, message: error.message, param: error.param };
}

describe("a running server", () => {
  test("streams 32 answers at once, each as it is alone", async () => {
    const prompts = Array.from({ length: 32 }, (_, i) => `Number ${i} is followed by`);
    const alone = await complete({ prompt: prompts[7], max_tokens: 16, ignore_eos: true });
    const texts = await Promise.all(
      prompts.map((prompt) => streamedText({ prompt, max_tokens: 16, ignore_eos: true })),
    );
    expect(texts[7]).toBe(alone.choices[0]?.text ?? "");
    expect(texts.filter((text) => text === "")).toEqual([]);
  }, 120_000);

  test("frees the blocks of a client that goes away mid-stream, and goes on", async () => {
    const gone = new AbortController();
    const response = await post(
      server,
      "/v1/completions",
      { model: MODEL, prompt: "Once", max_tokens: 1500, ignore_eos: true, stream: true },
      gone.signal,
    );
    const stream = events(response);
    await stream.next();
    expect(await metric(server, "vllm:num_requests_running")).toBe(1);
    gone.abort();
    await untilZero("vllm:num_requests_running");
    await untilZero("vllm:kv_cache_usage_perc");
    expect(
      (await complete({ prompt: "Still", max_tokens: 4, ignore_eos: true })).usage
        .completion_tokens,
    ).toBe(4);
  }, 60_000);

  test("answers the same for the same seed", async () => {
    const fields = { prompt: "A story about", max_tokens: 12, temperature: 1, seed: 7 };
    const first = await complete(fields);
    expect((await complete(fields)).choices[0]?.text).toBe(first.choices[0]?.text ?? "");
  });

  test("answers a chat", async () => {
    const messages = [{ role: "user", content: "What is two plus two?" }];
    const response = await post(server, "/v1/chat/completions", {
      model: MODEL,
      messages,
      max_tokens: 24,
      temperature: 0,
    });
    const body = (await response.json()) as { choices: { message: { content: string } }[] };
    expect(body.choices[0]?.message.content).toStartWith("Two plus two is");
  });
});

describe("a wrong request is refused and the server goes on:", () => {
  const CASES: readonly (readonly [
    what: string,
    path: string,
    body: unknown,
    status: number,
    says: RegExp,
  ])[] = [
    ["malformed JSON", "/v1/completions", '{"model": "under-test", ', 400, /JSON/],
    ["JSON that is no object", "/v1/completions", "[1,2]", 400, /object/],
    [
      "a wrong type",
      "/v1/completions",
      { model: MODEL, prompt: "a", max_tokens: "many" },
      400,
      /max_tokens/,
    ],
    [
      "a value out of range",
      "/v1/completions",
      { model: MODEL, prompt: "a", temperature: -1 },
      400,
      /temperature/,
    ],
    ["an unknown model", "/v1/completions", { model: "gpt-9", prompt: "a" }, 404, /gpt-9/],
    ["an empty prompt", "/v1/completions", { model: MODEL, prompt: "" }, 400, /prompt/],
    ["no messages", "/v1/chat/completions", { model: MODEL, messages: [] }, 400, /messages/],
    [
      "a prompt that is too long",
      "/v1/completions",
      { model: MODEL, prompt: "word ".repeat(4000), max_tokens: 1 },
      400,
      /2047|2048/,
    ],
    [
      "more tokens than fit",
      "/v1/completions",
      { model: MODEL, prompt: "a", max_tokens: 100_000 },
      400,
      /max_tokens/,
    ],
    [
      "a body that is too large",
      "/v1/completions",
      { model: MODEL, prompt: "x".repeat(2 ** 21) },
      413,
      /1048576|1 MiB|large/,
    ],
    ["an unknown path", "/v1/compeltions", {}, 404, /compeltions/],
  ];
  for (const [what, path, body, status, says] of CASES) {
    test(what, async () => {
      const refused = await refusal(path, body);
      expect([refused.status, refused.message]).toEqual([status, expect.stringMatching(says)]);
      expect((await fetch(`${server.url}/health`)).status).toBe(200);
    });
  }
});

describe("start-up", () => {
  test("says which port is in use, and exits with 1", async () => {
    const port = new URL(server.url).port;
    const result = await runCli(["serve", defaultModelPath(), "--port", port]);
    expect(result.stderr).toContain(`port ${port} of 127.0.0.1 is in use`);
    expect(result.stderr).toContain("--port");
    expect(result.code).toBe(1);
    expect(result.stdout).toBe("");
  }, 60_000);
});
