/**
 * How soon a server answers whose folder of KV is full: from its start to the first token of a short prompt, without a connector, with the
 * host's pages alone, and with a disk besides, whose files are dropped from the page cache before each start. Sides take turns.
 *
 *   bun tests/measure/disk-start.ts FOLDER [--executable dist/kvengine] [--model smollm2-135m] [--bytes 1000000000] [--rounds 10]
 *
 * FOLDER is filled with the KV of random prompts where it holds less than that, and stays: a second run finds it filled.
 */
import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pairedInterval } from "../../cli/bench/ab/ratio-interval.ts";
import { median } from "../../cli/bench/engine/rates.ts";
import { dropCaches } from "./disk/flights.ts";
import { type Started, startAndAsk } from "./first-token.ts";
import { KVENGINE } from "./load-client.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    executable: { type: "string" },
    model: { type: "string", default: "smollm2-135m" },
    bytes: { type: "string", default: "1000000000" },
    rounds: { type: "string", default: "10" },
  },
});
const [folder] = positionals;
if (folder === undefined) throw new Error("usage: disk-start.ts FOLDER [--executable FILE] ...");
const bytes = Number(values.bytes);
const PROMPT_TOKENS = 2000;
const VOCABULARY = 40_000;
const POLL_MS = 250;
/** Everything is stored, also what may never be asked for. */
const EAGER = JSON.stringify({ "cpu-offload": { mode: "eager" } });

const serve = [
  ...(values.executable === undefined ? KVENGINE : [values.executable]),
  "serve",
  values.model,
];
const offload = ["--kv-connector", "cpu-offload"];
const disk = [...offload, "--kv-disk-path", folder, "--kv-disk-size", String(2 * bytes)];
const SIDES = [
  ["no connector", []],
  ["host pages", offload],
  ["disk", disk],
] as const;

/** Pages that wait to be written to the disk. */
async function numWaiting({ url }: Started): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.includes('tier="disk"'));
  const line = lines.find((one) => one.startsWith("kvengine_connector_tier_to_store{"));
  return Number(line?.slice(line.lastIndexOf(" ") + 1) ?? 0);
}

function folderBytes(path: string): number {
  const files = readdirSync(path).map((name) => statSync(join(path, name)).size);
  return files.reduce((sum, size) => sum + size, 0);
}

async function fill(into: string): Promise<void> {
  const server = await startAndAsk([...serve, ...disk, "--kv-connector-options", EAGER]);
  try {
    for (let number = 0; folderBytes(into) < bytes; number++) {
      const prompt = Array.from(
        { length: PROMPT_TOKENS },
        (_, i) => 1000 + ((i * 37 + number * 7919) % VOCABULARY),
      );
      const response = await fetch(`${server.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt, max_tokens: 1 }),
      });
      if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
      await response.json();
      while ((await numWaiting(server)) > 0) await Bun.sleep(POLL_MS);
    }
  } finally {
    await server.stop();
  }
}

mkdirSync(folder, { recursive: true });
if (folderBytes(folder) < bytes) await fill(folder);
console.log(`${folder} holds ${(folderBytes(folder) / 1e6).toFixed(0)} MB`);

const found = SIDES.map(() => ({ ready: [] as number[], first: [] as number[] }));
const rounds = Number(values.rounds);
// The first round counts for nothing.
for (let round = -1; round < rounds; round++) {
  const order = SIDES.map((side, i) => [i, side] as const);
  for (const [i, [, flags]] of round % 2 === 0 ? order : order.toReversed()) {
    dropCaches(folder);
    const server = await startAndAsk([...serve, ...flags]);
    await server.stop();
    if (round < 0) continue;
    found[i]?.ready.push(server.readyMs);
    found[i]?.first.push(server.firstTokenMs);
  }
}
const base = found[0]?.first ?? [];
for (const [i, [name]] of SIDES.entries()) {
  const { ready, first } = found[i] ?? { ready: [], first: [] };
  const pairs = base.map((a, round) => ({
    a,
    b: first[round] ?? Number.NaN,
    aFirst: round % 2 === 0,
  }));
  const interval = i === 0 ? undefined : pairedInterval(pairs);
  const ratio =
    interval === undefined
      ? ""
      : `, ${interval.ratio.toFixed(3)} [${interval.low.toFixed(3)}, ${interval.high.toFixed(3)}] of ${SIDES[0][0]}`;
  console.log(
    `${name.padEnd(14)} ready after ${median(ready).toFixed(0)} ms, first token after ${median(first).toFixed(0)} ms${ratio}`,
  );
}
