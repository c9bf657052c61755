/** `kvengine explain` over a real socket, of the default model's answers. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  type Explanation,
  explanationSchema,
  type PromptExplanation,
} from "../../engine/server/explain/explanation.ts";
import { type Finished, post, runCli, startServer, type TestServer } from "../support/server.ts";

setDefaultTimeout(60_000);

const RULES = "Answer in one sentence. Say so when you do not know. Never guess. ".repeat(3);

/** Blocks for 640 tokens. */
const FLAGS = ["--num-gpu-blocks-override", "40", "--max-model-len", "512", "--threads", "1"];

let server: TestServer;
beforeAll(async () => {
  server = await startServer(FLAGS);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Asks one token; answers the id of the answer. */
async function chat(system: string, more: object = {}): Promise<string> {
  const messages = [
    { role: "system", content: system },
    { role: "user", content: "What does a KV cache keep?" },
  ];
  const response = await post(server, "/v1/chat/completions", { messages, max_tokens: 1, ...more });
  expect(response.status).toBe(200);
  const { id } = (await response.json()) as { id: string };
  expect(id).toBe(`chatcmpl-${response.headers.get("x-kvengine-explain")}`);
  return id;
}

async function explain(path: string): Promise<PromptExplanation> {
  const response = await fetch(`${server.url}/kv/explain/${path}`);
  expect(response.status).toBe(200);
  return explanationSchema.parse(await response.json()).prompts[0]!;
}

const cli = (...args: readonly string[]): Promise<Finished> =>
  runCli(["explain", ...args, "--url", server.url]);

describe("a served request", () => {
  test("is explained by a time stamp in its system prompt, to the token", async () => {
    const first = await chat(`${RULES}It is 2026-11-26 09:41. ${RULES}`);
    const second = await chat(`${RULES}It is 2026-11-26 09:42. ${RULES}`);
    const told = await explain(second);
    expect(told).toMatchObject({
      cause: "differs",
      difference: "time",
      token: { text: "2", part: "message", message: 0, role: "system", looks_like: "time" },
    });
    expect(told.token!.offset).toBe(`${RULES}It is 2026-11-26 09:4`.length);
    expect(told.hit_tokens).toBe(Math.floor(told.token!.position / 16) * 16);
    expect(told.hit_tokens).toBeGreaterThan(0);
    const both = await explain(`${second}?against=${first}`);
    expect(both.against).toMatchObject({
      common_tokens: told.token!.position,
      token: { text: "1" },
    });
    const { code, stdout } = await cli(second, "--against", first);
    expect(code).toBe(0);
    expect(stdout).toContain(`token ${told.token!.position} ("2") in message 0 (system)`);
    expect(stdout).toContain("it stands in what looks like a date or a time");
    expect(stdout).toMatch(/from +to +tokens +what\n +0 +\d+ +\d+ +cached \(device\)\n/);
    expect(stdout).toContain('goes on with "1"');
  });

  test("is explained by what was evicted, and by whom", async () => {
    await chat(`First. ${RULES}`);
    const other = await chat(`Other. ${RULES.repeat(6)}`, { max_tokens: 2 });
    const third = await chat(`Third. ${RULES.repeat(6)}`, { max_tokens: 2 });
    const numbers = [(await explain(other)).request, (await explain(third)).request];
    const told = await explain(await chat(`First. ${RULES}`));
    expect(told.cause).toBe("evicted");
    expect(numbers).toContain(told.removed!.by_request!);
    expect(told.runs.some(({ state }) => state === "evicted")).toBe(true);
    expect(told.hints.join()).toContain("--kv-connector cpu-offload");
  });

  test("is explained by its salt, and after a reset by the reset", async () => {
    const system = `Salted. ${RULES}`;
    await chat(system);
    const salted = await chat(system, { cache_salt: "a" });
    expect(await explain(salted)).toMatchObject({ cause: "other_salt", hit_tokens: 0 });
    await post(server, "/reset_prefix_cache", {});
    expect(await explain(await chat(system))).toMatchObject({ cause: "reset", hit_tokens: 0 });
  });

  test("as JSON is what the server says", async () => {
    const id = await chat(`As JSON. ${RULES}`);
    const { code, stdout } = await cli(id, "--json");
    expect(code).toBe(0);
    const told: Explanation = explanationSchema.parse(JSON.parse(stdout));
    expect(told.prompts).toEqual([await explain(id)]);
  });
});

describe("kvengine explain", () => {
  test("of an unknown id, without one, and without a server says what to do", async () => {
    const [unknown, none, nobody, odd] = await Promise.all([
      cli("nobody"),
      cli(),
      runCli(["explain", "x", "--url", "http://127.0.0.1:1"]),
      runCli(["explain", "x", "--url", "here"]),
    ]);
    expect([unknown.code, unknown.stderr]).toEqual([
      1,
      expect.stringContaining('no request "nobody" is remembered'),
    ]);
    expect(unknown.stderr).toContain("x-kvengine-explain");
    expect([none.code, none.stderr]).toEqual([2, expect.stringContaining("<id> is missing")]);
    expect([nobody.code, nobody.stderr]).toEqual([1, expect.stringContaining("--url")]);
    expect([odd.code, odd.stderr]).toEqual([2, expect.stringContaining("http://127.0.0.1:8000")]);
  });
});

test("a server with a key tells nobody without it; one with --no-explain tells nobody", async () => {
  await using locked = await startServer([...FLAGS, "--api-key", "secret", "--no-explain"]);
  const args = ["explain", "x", "--url", locked.url];
  const [stranger, friend] = await Promise.all([
    runCli(args),
    runCli([...args, "--api-key", "secret"]),
  ]);
  expect([stranger.code, stranger.stderr]).toEqual([1, expect.stringContaining("no API key")]);
  expect([friend.code, friend.stderr]).toEqual([1, expect.stringContaining("--no-explain")]);
});
