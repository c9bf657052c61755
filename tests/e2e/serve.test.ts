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

describe("fields that reach the sampler", () => {
  const prompt = "The capital of France is";
  const greedy = { prompt, max_tokens: 8, ignore_eos: true };

  async function choices(fields: Record<string, unknown>): Promise<Answered[]> {
    const { choices: all } = (await complete({ ...greedy, ...fields })) as unknown as {
      choices: Answered[];
    };
    return all;
  }
  interface Answered {
    readonly text: string;
    readonly logprobs: {
      readonly tokens: string[];
      readonly token_logprobs: number[];
      readonly top_logprobs: Record<string, number>[];
    } | null;
    readonly prompt_logprobs?: (Record<string, { logprob: number; rank: number }> | null)[];
  }

  test("greedy picks are the most probable tokens, and what is reported is ordered", async () => {
    const [answer] = await choices({ logprobs: 3 });
    const { tokens, token_logprobs: own, top_logprobs: tops } = answer!.logprobs!;
    expect(tokens.join("")).toBe(answer!.text);
    for (const [i, top] of tops.entries()) {
      const values = Object.values(top);
      expect(values).toHaveLength(3);
      expect(values).toEqual(values.toSorted((a, b) => b - a));
      expect(top[tokens[i]!]).toBe(own[i]!);
      expect(own[i]).toBe(values[0]!);
    }
  });

  test("a bias, an allowed list, bad words and penalties change the answer", async () => {
    const [free] = await choices({});
    const [first] = await choices({ logprobs: 1, max_tokens: 1 });
    const word = first!.logprobs!.tokens[0]!;
    expect(free!.text).toStartWith(word);
    for (const fields of [{ bad_words: [word.trim()] }, { bad_words: [word] }])
      expect((await choices(fields))[0]!.text).not.toStartWith(word);
    const [biased] = await choices({ logit_bias: { "100": 100 } });
    const [allowed] = await choices({ allowed_token_ids: [100] });
    expect(biased!.text).toBe(allowed!.text);
    const [repeated] = await choices({ allowed_token_ids: [100, 101], logit_bias: { "100": 50 } });
    const [varied] = await choices({
      allowed_token_ids: [100, 101],
      logit_bias: { "100": 1 },
      presence_penalty: 2,
    });
    expect(repeated!.text).toBe(allowed!.text);
    expect(varied!.text).not.toBe(allowed!.text);
  });

  test("min_tokens keeps an answer going", async () => {
    const { choices: all, usage } = await complete({
      prompt,
      max_tokens: 12,
      min_tokens: 12,
      logit_bias: { "2": 100 },
      stop_token_ids: [2],
    });
    expect([usage.completion_tokens, all[0]?.finish_reason]).toEqual([12, "length"]);
  });

  test("choices of one prompt are those of the seed, the first as it is alone", async () => {
    const drawn = { temperature: 1, seed: 3, n: 3 };
    const together = (await choices(drawn)).map(({ text }) => text);
    expect(new Set(together).size).toBeGreaterThan(1);
    expect((await choices(drawn)).map(({ text }) => text)).toEqual(together);
    expect((await choices({ ...drawn, n: 1 }))[0]!.text).toBe(together[0]!);
  });

  test("prompt_logprobs are those of the same text as an answer", async () => {
    const [answer] = await choices({ logprobs: 0, max_tokens: 6 });
    const whole = prompt + answer!.text;
    const [scored] = await choices({ prompt: whole, max_tokens: 1, prompt_logprobs: 1 });
    const own = scored!.prompt_logprobs!.slice(-6).map((one) => {
      const entries = Object.values(one!);
      return Math.max(...entries.filter(({ rank }) => rank === 1).map(({ logprob }) => logprob));
    });
    // The same numbers, computed in one chunk or token by token.
    expect(own).toEqual(answer!.logprobs!.token_logprobs);
    const [echoed] = await choices({ prompt: whole, echo: true, max_tokens: 0, logprobs: 0 });
    expect(echoed!.text).toBe(whole);
    expect(echoed!.logprobs!.token_logprobs.slice(-6)).toEqual(own);
  });
});

describe("the prefix cache", () => {
  async function cached(fields: Record<string, unknown> = {}): Promise<number> {
    const prompt = "One two three four five six seven. ".repeat(12);
    const { usage } = (await complete({ prompt, max_tokens: 2, ...fields })) as unknown as {
      usage: { prompt_tokens_details: { cached_tokens: number } };
    };
    return usage.prompt_tokens_details.cached_tokens;
  }

  test("serves a prompt's blocks again, per salt, until it is reset", async () => {
    await post(server, "/reset_prefix_cache", "");
    expect(await cached()).toBe(0);
    const hits = await cached();
    expect(hits).toBeGreaterThan(32);
    expect(hits % 16).toBe(0);
    expect(await cached({ cache_salt: "tenant" })).toBe(0);
    expect(await cached({ cache_salt: "tenant" })).toBe(hits);
    expect((await post(server, "/reset_prefix_cache", "")).status).toBe(200);
    expect(await cached()).toBe(0);
    expect(await metric(server, "vllm:prefix_cache_hits_total")).toBeGreaterThanOrEqual(2 * hits);
  });

  test("has the same answer with and without", async () => {
    const fields = { prompt: "Once upon a time there was a king who ".repeat(4), max_tokens: 12 };
    await post(server, "/reset_prefix_cache", "");
    const cold = await complete(fields);
    const warm = await complete(fields);
    expect(warm.choices[0]?.text).toBe(cold.choices[0]?.text ?? "");
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

test("a stop string within the first min_tokens tokens ends nothing, streaming or not", async () => {
  // The only token that may be picked, so that the text is the same on every instruction set.
  const comma = 28;
  const asked = { prompt: "One, two,", max_tokens: 24, allowed_token_ids: [comma] };
  expect((await complete(asked)).choices[0]!.text).toBe(",".repeat(24));
  const early = await complete({ ...asked, stop: "," });
  const late = await complete({ ...asked, stop: ",", min_tokens: 8 });
  expect(early.choices[0]).toMatchObject({ text: "", finish_reason: "stop" });
  expect(late.choices[0]).toMatchObject({ text: ",".repeat(8), finish_reason: "stop" });
  expect(late.usage.completion_tokens).toBe(9);
  expect(await streamedText({ ...asked, stop: ",", min_tokens: 8 })).toBe(",".repeat(8));
});
