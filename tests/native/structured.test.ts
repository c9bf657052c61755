/**
 * Structured output over a real engine on the backend whose tokens depend on every KV slot that a request can see: what is answered follows its
 * schema and does not depend on company, preemption, chunks, cached prefixes or drafts.
 */

import { afterAll, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import type { EngineConfig } from "../../engine/config.ts";
import { randomSchemas, type Schema } from "../support/random-schemas.ts";
import { type ServedApp, serveTinyModel } from "../support/served-app.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const folder = temporaryFolder();
const started: ServedApp[] = [];
afterAll(async () => {
  for (const { client } of started) await client.shutdown(0);
});

async function serve(name: string, config: Partial<EngineConfig>): Promise<ServedApp> {
  const path = join(folder, name);
  await mkdir(path);
  const served = await serveTinyModel(path, {}, { backend: "witness", ...config });
  started.push(served);
  return served;
}

interface Answer {
  readonly text: string;
  readonly reason: string;
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
}

const bodyOf = (rest: object, seed: number): object => ({
  prompt: "The same beginning of all of these prompts, ",
  temperature: 1,
  seed,
  logprobs: 0,
  return_token_ids: true,
  ...rest,
});

async function ask(served: ServedApp, body: object): Promise<Answer> {
  const response = await served.send("POST", "/v1/completions", body);
  const answer = (await response.json()) as {
    choices?: [
      {
        text: string;
        finish_reason: string;
        token_ids: number[];
        logprobs: { token_logprobs: number[] };
      },
    ];
  };
  const choice = answer.choices?.[0];
  if (choice === undefined) throw new Error(JSON.stringify(answer));
  const { text, finish_reason: reason, token_ids: tokens, logprobs } = choice;
  return { text, reason, tokens, logprobs: logprobs.token_logprobs };
}

const SEED = 5;
const schemas = randomSchemas(24, SEED, true);
const structured = schemas.map((json, i) =>
  bodyOf({ structured_outputs: { json }, max_tokens: 240 }, i),
);
const others = [
  { structured_outputs: { regex: "(ab|cd){3,40}" } },
  { structured_outputs: { choice: ["yes", "no", "perhaps, and perhaps not"] } },
  { structured_outputs: { grammar: 'root ::= "(" root? ")" | [0-9]{2,4}' } },
  { structured_outputs: { json: { type: "string", maxLength: 30 } }, temperature: 0 },
  { structured_outputs: { json: { type: "integer" } }, min_tokens: 5, logit_bias: { "5": 3 } },
  { structured_outputs: { choice: ["abc"] }, allowed_token_ids: [3], bad_words: ["a"] },
].map((rest, i) => bodyOf({ max_tokens: 60, ...rest }, 100 + i));
const free = Array.from({ length: 6 }, (_, i) => bodyOf({ max_tokens: 40 }, 200 + i));
const all = [...structured, ...others, ...free];

test("answers follow their schemas, alone and in company that preempts them, with drafts and without", async () => {
  const roomy = await serve("roomy", {});
  const alone: Answer[] = [];
  for (const body of all) alone.push(await ask(roomy, body));
  const ajv = addFormats(new Ajv2020({ strict: false }));
  for (const [i, schema] of schemas.entries()) {
    const { text, reason } = alone[i] as Answer;
    expect(reason).toBe("stop");
    const isValid = ajv.validate(schema as Schema, JSON.parse(text));
    if (!isValid) throw new Error(`${text}\n${JSON.stringify(schema)}\n${ajv.errorsText()}`);
  }
  const [regex, choice, grammar] = alone.slice(schemas.length) as [Answer, Answer, Answer];
  expect(regex.text).toMatch(/^(ab|cd){0,40}(ab|cd|a|c)?$/);
  expect(choice.text).toBeOneOf(["yes", "no", "perhaps, and perhaps not"]);
  expect(grammar.text).toMatch(/^\(*([0-9]{2,4})?\)*$/);
  // What else is asked for does not break it.
  expect(alone[schemas.length + 5]?.text).toBe("abc");

  const crowded = {
    numGpuBlocksOverride: 38,
    blockSize: 8,
    maxNumBatchedTokens: 24,
    maxNumSeqs: 8,
  };
  for (const speculative of ["none", "ngram"] as const) {
    const narrow = await serve(`narrow ${speculative}`, { ...crowded, speculative });
    const together = await Promise.all(all.map((body) => ask(narrow, body)));
    expect(together).toEqual(alone);
    expect(narrow.client.stats().preemptions).toBeGreaterThan(0);
    if (speculative === "ngram") expect(narrow.client.stats().acceptedTokens).toBeGreaterThan(0);
  }
}, 60_000);

test("a bad schema is refused before anything runs, and one that would blow up soon", async () => {
  const served = await serve("refusing", {});
  const { steps } = served.client.stats();
  const either = Array.from({ length: 20 }, (_, i) => ({
    anyOf: [{ properties: { [`a${i}`]: true } }, { properties: { [`b${i}`]: true } }],
  }));
  const refused: readonly (readonly [object, string])[] = [
    [{ json: { type: "colour" } }, "structured_outputs.json"],
    [{ json: { allOf: [{ type: "string" }, { type: "integer" }] } }, "structured_outputs.json"],
    [{ regex: "(" }, "structured_outputs.regex"],
    [{ json: { type: "integer", multipleOf: 982_451_653 } }, "structured_outputs.json"],
    [{ json: { allOf: either } }, "structured_outputs.json"],
    [{ grammar: "start: other" }, "structured_outputs.grammar"],
    [{ grammar: 'start: start "a"' }, "structured_outputs.grammar"],
  ];
  for (const [structured_outputs, param] of refused) {
    const response = await served.send("POST", "/v1/completions", {
      prompt: "a",
      structured_outputs,
    });
    const { error } = (await response.json()) as { error?: { param: string } };
    expect([response.status, error?.param]).toEqual([400, param]);
  }
  expect(served.client.stats().steps).toBe(steps);
}, 30_000);

test("what a grammar leaves no choice of takes few steps, and is what masked steps would have picked", async () => {
  const forced = await serve("forced", {});
  // Drafts from the text so far find nothing here: one step a token.
  const stepwise = await serve("stepwise", { speculative: "ngram" });
  const text = "The quick brown fox jumps over the lazy dog, and then 12345.67890 more.";
  const body = bodyOf({ structured_outputs: { choice: [text] }, max_tokens: 200 }, 1);
  const [before, beforeToo] = [forced, stepwise].map(({ client }) => client.stats().steps);
  const answer = await ask(forced, body);
  expect(answer).toEqual(await ask(stepwise, body));
  expect(answer.text).toBe(text);
  const steps = forced.client.stats().steps - (before ?? 0);
  const stepsToo = stepwise.client.stats().steps - (beforeToo ?? 0);
  expect(stepsToo).toBeGreaterThanOrEqual(answer.tokens.length / 2);
  expect(steps).toBeLessThan(answer.tokens.length / 2);
}, 30_000);
