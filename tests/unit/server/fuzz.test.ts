import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { testApp, USER } from "./test-app.ts";

const FIELDS = [
  "messages", "prompt", "model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature",
  "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "ignore_eos", "logprobs", "top_logprobs", "echo", "tools",
  "response_format", "logit_bias", "user", "metadata", "best_of", "suffix", "presence_penalty", "__proto__", "constructor",
  "frequency_penalty", "repetition_penalty", "min_tokens", "allowed_token_ids", "bad_words", "prompt_logprobs", "cache_salt",
  "priority",
]; // prettier-ignore

const scalar = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    0,
    1,
    -1,
    0.5,
    2,
    16,
    1e308,
    -1e308,
    2 ** 53,
    "",
    "tiny",
    "a",
    "text",
    "user",
    "\ud800",
    "<|im_end|>",
  ),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.string({ unit: "binary", maxLength: 12 }),
);
const message = fc.record(
  {
    role: fc.oneof(fc.constantFrom("user", "system", "assistant", "tool", "developer"), scalar),
    content: fc.oneof(fc.string({ unit: "binary" }), scalar),
    name: scalar,
  },
  { requiredKeys: [] },
);
const value = fc.oneof(
  { weight: 4, arbitrary: scalar },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 4 }) },
  {
    weight: 1,
    arbitrary: fc.array(fc.array(fc.integer({ min: -1, max: 300 }), { maxLength: 3 }), {
      maxLength: 3,
    }),
  },
  { weight: 1, arbitrary: fc.array(message, { maxLength: 3 }) },
  {
    weight: 1,
    arbitrary: fc.object({
      maxDepth: 2,
      key: fc.constantFrom("type", "text", "include_usage", "a", "__proto__"),
    }),
  },
);
/** Valid but for what is drawn over it, so that many bodies get far. */
const body = fc
  .tuple(fc.boolean(), fc.array(fc.tuple(fc.constantFrom(...FIELDS), value), { maxLength: 3 }))
  .map(([chat, drawn]) => {
    const fields = [
      ...(chat ? [["messages", USER] as const] : [["prompt", "hi"] as const]),
      ...drawn,
    ];
    const text = `{${fields.map(([name, one]) => `${JSON.stringify(name)}:${JSON.stringify(one)}`).join(",")}}`;
    return { path: chat ? "/v1/chat/completions" : "/v1/completions", text };
  });

test("1,000 random bodies get a JSON answer or a stream, and never a server error", async () => {
  const { post, errors } = testApp();
  const seen = new Map<number, number>();
  await fc.assert(
    fc.asyncProperty(body, async ({ path, text }) => {
      const response = await post(path, text);
      seen.set(response.status, (seen.get(response.status) ?? 0) + 1);
      expect(response.status).toBeGreaterThanOrEqual(200);
      expect(response.status).toBeLessThan(500);
      const answer = await response.text();
      if (response.headers.get("content-type")?.startsWith("text/event-stream") === true)
        expect(answer).toEndWith("data: [DONE]\n\n");
      else JSON.parse(answer);
    }),
    { seed: 20, numRuns: 1000 },
  );
  expect(errors).toEqual([]);
  // Both outcomes must be common, or the bodies test nothing.
  expect(seen.get(200)).toBeGreaterThan(100);
  expect(seen.get(400)).toBeGreaterThan(100);
});

test("1,000 random edits of a valid body's text get a JSON answer below 500", async () => {
  const { post, errors } = testApp();
  const valid = new TextEncoder().encode(
    JSON.stringify({ messages: USER, temperature: 0.5, stop: ["a", "b"], seed: 12 }),
  );
  const edit = fc.record({
    at: fc.nat(valid.length - 1),
    byte: fc.integer({ min: 0, max: 255 }),
    remove: fc.nat(3),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 3 }), async (edits) => {
      const bytes = [...valid];
      for (const { at, byte, remove } of edits) bytes.splice(at, remove, byte);
      const response = await post("/v1/chat/completions", Uint8Array.from(bytes));
      expect(response.status).toBeLessThan(500);
      JSON.parse(await response.text());
    }),
    { seed: 21, numRuns: 1000 },
  );
  expect(errors).toEqual([]);
});
