/** The HTTP side over a real engine: streams say what whole answers say, and keys keep their KV to themselves. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import type { ApiKey } from "../../engine/server/access/api-keys.ts";
import { propertyRuns } from "../support/property-runs.ts";
import { type ServedApp, serveTinyModel } from "../support/served-app.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const KEYS: readonly ApiKey[] = [
  { name: "a", key: "key-a", cacheSalt: "salt a" },
  { name: "b", key: "key-b", cacheSalt: "salt b" },
  { name: "plain", key: "key-plain" },
];
const folder = temporaryFolder();
let served: ServedApp;

beforeAll(async () => {
  served = await serveTinyModel(folder, { apiKeys: KEYS });
});
afterAll(() => served.client.shutdown(0));

interface Choice {
  readonly index: number;
  readonly text: string;
  readonly tokenIds: number[];
  readonly logprobs: unknown[];
  readonly finish: string | null;
}

// oxlint-disable-next-line typescript/no-explicit-any -- bodies of two endpoints
type Json = any;

/** The choices of a whole answer, or of all chunks of a stream. */
function choicesOf(bodies: readonly Json[]): Choice[] {
  const choices: Choice[] = [];
  for (const { choices: told } of bodies) {
    for (const {
      index,
      text,
      message,
      delta,
      logprobs,
      token_ids: ids,
      finish_reason: finish,
    } of told) {
      const before = choices[index] ?? {
        index,
        text: "",
        tokenIds: [],
        logprobs: [],
        finish: null,
      };
      choices[index] = {
        index,
        text: before.text + (text ?? message?.content ?? delta?.content ?? ""),
        tokenIds: [...before.tokenIds, ...(ids ?? [])],
        logprobs: [...before.logprobs, ...(logprobs?.content ?? logprobs?.token_logprobs ?? [])],
        finish: finish ?? before.finish,
      };
    }
  }
  return choices;
}

test("a stream has the text, tokens and log-probabilities of the whole answer", async () => {
  const body = fc.record({
    seed: fc.integer({ min: 0, max: 1000 }),
    max_tokens: fc.integer({ min: 1, max: 12 }),
    n: fc.integer({ min: 1, max: 3 }),
    stop: fc.array(fc.string({ minLength: 1, maxLength: 2 }), { maxLength: 3 }),
    ignore_eos: fc.boolean(),
    return_token_ids: fc.boolean(),
    logprobs: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(body, fc.boolean(), async ({ logprobs, ...fields }, isChat) => {
      const path = isChat ? "/v1/chat/completions" : "/v1/completions";
      const asked = {
        ...fields,
        ...(isChat
          ? { messages: [{ role: "user", content: "hi" }], logprobs }
          : { prompt: "hi", ...(logprobs ? { logprobs: 1 } : {}) }),
      };
      const whole = await (await served.send("POST", path, asked, "key-plain")).json();
      const text = await (
        await served.send("POST", path, { ...asked, stream: true }, "key-plain")
      ).text();
      const chunks = text.split("\n\n").filter((one) => one.startsWith("data: {"));
      const streamed = choicesOf(chunks.map((one) => JSON.parse(one.slice("data: ".length))));
      expect(streamed).toEqual(choicesOf([whole]));
    }),
    propertyRuns(200),
  );
}, 60_000);

describe("keys with salts", () => {
  const prompt =
    "a prompt that is long enough to fill a few blocks of sixteen tokens, and a bit more than that";
  const cached = async (key: string, salt?: string): Promise<number> => {
    const fields = { prompt, max_tokens: 1, ...(salt === undefined ? {} : { cache_salt: salt }) };
    const answer = (await (
      await served.send("POST", "/v1/completions", fields, key)
    ).json()) as Json;
    return answer.usage.prompt_tokens_details.cached_tokens;
  };

  test("share cached KV with themselves and with nobody else", async () => {
    const first: number[] = [];
    for (const key of ["key-a", "key-b", "key-plain"]) first.push(await cached(key));
    expect(first).toEqual([0, 0, 0]);
    for (const key of ["key-a", "key-b", "key-plain"]) expect(await cached(key)).toBeGreaterThan(0);
  });

  test("keep apart what a request's own salt keeps apart, and cannot be guessed by one", async () => {
    expect(await cached("key-a", "x")).toBe(0);
    expect(await cached("key-a", "x")).toBeGreaterThan(0);
    expect(await cached("key-plain", "x")).toBe(0);
    expect(await cached("key-plain", "salt b")).toBe(0);
  });
});
