/**
 * JSON Schemas of varied shape through a real model at temperature 1, in company with requests that are free: every answer that ends by
 * itself is a document of its schema. `KVENGINE_TEST_SCHEMAS` says how many (`npm run test:schemas`: 300), `KVENGINE_TEST_SEED` which.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { randomSchemas, type Schema } from "../support/random-schemas.ts";
import { suiteSchemas } from "../support/schema-suite.ts";
import { post, startServer, type TestServer } from "../support/server.ts";

const COUNT = Number(process.env["KVENGINE_TEST_SCHEMAS"] ?? 24);
const SEED = Number(process.env["KVENGINE_TEST_SEED"] ?? 17);
/** Requests at a time, half of them free. */
const BATCH = 16;
const MAX_TOKENS = 512;
const FIELD = "response_format.json_schema.schema";
/** Half of them end whatever is picked; a quarter comes from the public suite. */
const bounded = randomSchemas(Math.ceil(COUNT / 2), SEED, true);
const numOfSuite = Math.floor(COUNT / 4);
const ajv = addFormats(new Ajv2020({ strict: false }));
let server: TestServer;

beforeAll(async () => {
  server = await startServer(["--no-access-log", "--max-num-seqs", String(BATCH)]);
}, 60_000);
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Of the suite, those that can be followed; every other is refused by its field. */
async function takenOfSuite(): Promise<Schema[]> {
  const all = suiteSchemas();
  const shuffled = all
    .map((schema, i) => [Bun.hash(`${SEED} ${i}`), schema] as const)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const taken: Schema[] = [];
  for (const [, schema] of shuffled) {
    if (taken.length === numOfSuite) break;
    const body = { ...bodyOf(schema, 0), max_tokens: 1 };
    const response = await post(server, "/v1/chat/completions/render", body);
    const { error } = (await response.json()) as { error?: { param: string } };
    if (error === undefined) taken.push(schema);
    else expect([response.status, error.param]).toEqual([400, FIELD]);
  }
  return taken;
}

interface Answer {
  readonly text: string;
  readonly reason: string;
}

async function ask(schema: Schema, seed: number): Promise<Answer> {
  const response = await post(server, "/v1/chat/completions", bodyOf(schema, seed));
  const body = (await response.json()) as {
    choices?: [{ message: { content: string }; finish_reason: string }];
  };
  const choice = body.choices?.[0];
  if (choice === undefined) throw new Error(`${JSON.stringify(schema)}: ${JSON.stringify(body)}`);
  return { text: choice.message.content, reason: choice.finish_reason };
}

function bodyOf(schema: Schema, seed: number): object {
  return {
    messages: [{ role: "user", content: `Write a short example of ${JSON.stringify(schema)}` }],
    response_format: {
      type: "json_schema",
      json_schema: { name: "example", schema, strict: true },
    },
    temperature: 1,
    seed,
    max_tokens: MAX_TOKENS,
  };
}

async function free(seed: number): Promise<void> {
  const body = { prompt: "Once upon a time", temperature: 1, seed, max_tokens: 48 };
  const response = await post(server, "/v1/completions", body);
  expect(response.status).toBe(200);
  await response.text();
}

/** Runs `work` for each item, at most `width` at a time. */
async function inCompany<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as T, index);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}

test(
  `${COUNT} schemas: every answer that ends by itself is a document of its schema`,
  async () => {
    const others = await takenOfSuite();
    const rest = randomSchemas(COUNT - bounded.length - others.length, SEED + 1, false);
    const schemas = [...bounded, ...others, ...rest];
    const [answers] = await Promise.all([
      inCompany(schemas, BATCH / 2, (schema, i) => ask(schema, SEED + i)),
      inCompany(schemas, BATCH / 2, (_, i) => free(SEED + i)),
    ]);
    const ended = answers.map(({ reason }) => reason === "stop");
    for (const [i, { text }] of answers.entries()) {
      if (ended[i] !== true) continue;
      const validate = ajv.compile(schemas[i] as Schema);
      const isValid = validate(JSON.parse(text));
      if (!isValid)
        throw new Error(
          `${text}\nis none of\n${JSON.stringify(schemas[i])}\n${ajv.errorsText(validate.errors)}`,
        );
    }
    const open = bounded.flatMap((schema, i) =>
      ended[i] === true ? [] : [{ schema, text: answers[i]?.text }],
    );
    expect(open).toEqual([]);
    const numEnded = ended.filter(Boolean).length;
    console.log(`${numEnded} of ${schemas.length} ended by themselves`);
    expect(numEnded).toBeGreaterThanOrEqual(Math.ceil((COUNT * 2) / 3));
  },
  COUNT * 10_000 + 60_000,
);
