/**
 * What structured output costs: `bun tests/measure/structured.ts [--rounds N] [--tokens N] [--streams N] [--backend NAME]`.
 *
 * A server with the default model decodes so many streams at a time, free ones and ones that follow a JSON Schema without an end, in turns;
 * all run to their last token. Prints tokens a second and processor time of each round, and the ratios of the medians.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { post, startServer } from "../support/server.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    tokens: { type: "string", default: "96" },
    streams: { type: "string", default: "16" },
    backend: { type: "string", default: "auto" },
  },
});
const [rounds, tokens, streams] = [values.rounds, values.tokens, values.streams].map(Number) as [
  number,
  number,
  number,
];

/** Long lists of small objects: much that is forced, strings, numbers and choices. */
const schema = {
  type: "object",
  properties: {
    people: {
      type: "array",
      minItems: 100,
      items: {
        type: "object",
        properties: {
          name: { type: "string", maxLength: 20 },
          age: { type: "integer", minimum: 0, maximum: 120 },
          role: { enum: ["user", "admin"] },
          note: { type: "string", maxLength: 40 },
        },
        required: ["name", "age", "role", "note"],
        additionalProperties: false,
      },
    },
  },
  required: ["people"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "people", schema } };

await using server = await startServer([
  "--no-access-log",
  "--max-num-seqs",
  String(streams),
  "--backend",
  values.backend,
]);

interface Measured {
  /** Tokens a second of all streams together, prompts included. */
  readonly rate: number;
  /** Milliseconds of processor time of the server for each token: what a busy machine changes least. */
  readonly cpuMs: number;
}

/** Processor time of the server, in hundredths of a second. */
function cpuTicks(): number {
  const fields = readFileSync(`/proc/${server.pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

async function measure(isFree: boolean, seed: number): Promise<Measured> {
  const start = performance.now();
  const before = cpuTicks();
  const used = await Promise.all(
    Array.from({ length: streams }, async (_, i) => {
      const response = await post(server, "/v1/chat/completions", {
        messages: [{ role: "user", content: "List people who live in a small town." }],
        temperature: 1,
        seed: seed + i,
        max_tokens: tokens,
        // Else free streams end before the others.
        ...(isFree ? { ignore_eos: true } : { response_format: format }),
      });
      const { usage } = (await response.json()) as { usage: { completion_tokens: number } };
      return usage.completion_tokens;
    }),
  );
  const total = used.reduce((a, b) => a + b, 0);
  return {
    rate: (total * 1000) / (performance.now() - start),
    cpuMs: ((cpuTicks() - before) * 10) / total,
  };
}

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

await measure(false, 0);
await measure(true, 0);
const found = { free: [] as Measured[], structured: [] as Measured[] };
for (let round = 0; round < rounds; round++) {
  found.free.push(await measure(true, 100 * round));
  found.structured.push(await measure(false, 100 * round));
  const shown = [found.free, found.structured]
    .map((all) => all.at(-1))
    .map((one) => `${one?.rate.toFixed(1)} tok/s, ${one?.cpuMs.toFixed(2)} ms of CPU a token`);
  console.log(`free ${shown[0]}; structured ${shown[1]}`);
}
const ratioOf = (value: (one: Measured) => number): number =>
  median(found.structured.map(value)) / median(found.free.map(value));
console.log(
  `${streams} streams, medians of ${rounds}: structured ${ratioOf(({ rate }) => rate).toFixed(3)}x of free; ` +
    `CPU time ${ratioOf(({ cpuMs }) => cpuMs).toFixed(3)}x`,
);
