/**
 * A load that preempts, with a host to swap to and without: streams that fit when they come and not with what they generate. Prints the
 * tokens that steps computed, which is what a preemption costs, and what was decided. Servers take turns; each run begins with empty caches.
 *
 *   bun tests/measure/swap.ts [--rounds 3] [--streams 8] [--prompt 200] [--output 400] [--blocks 160] [--connector cpu-offload] [MODEL]
 */
import { parseArgs } from "node:util";
import { median } from "../../cli/bench/engine/rates.ts";
import { KVENGINE, type StartedServer, startServer } from "./load-client.ts";

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    streams: { type: "string", default: "8" },
    prompt: { type: "string", default: "200" },
    output: { type: "string", default: "400" },
    blocks: { type: "string", default: "160" },
    connector: { type: "string", default: "cpu-offload" },
  },
  allowPositionals: true,
});
const [model = "smollm2-135m"] = positionals;
const [rounds, streams, prompt, output, blocks] = [
  values.rounds,
  values.streams,
  values.prompt,
  values.output,
  values.blocks,
].map(Number) as [number, number, number, number, number];

/** The sum of the series that begin so. */
async function counter({ url }: StartedServer, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(name));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

async function complete({ url }: StartedServer, stream: number): Promise<void> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      prompt: Array.from({ length: prompt }, (_, i) => 1000 + ((i * 37 + stream * 101) % 40_000)),
      ...{ max_tokens: output, ignore_eos: true, temperature: 0 },
    }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  await response.json();
}

const COUNTERS = {
  computed: "vllm:iteration_tokens_total_sum",
  preemptions: "vllm:num_preemptions_total",
  swapped: 'kvengine:kv_swap_decisions_total{decision="swap"',
} as const;

async function serve(server: StartedServer): Promise<Record<string, number>> {
  await fetch(`${server.url}/reset_prefix_cache`, { method: "POST" });
  const before = await Promise.all(Object.values(COUNTERS).map((name) => counter(server, name)));
  const began = performance.now();
  await Promise.all(Array.from({ length: streams }, (_, stream) => complete(server, stream)));
  const seconds = (performance.now() - began) / 1000;
  const after = await Promise.all(Object.values(COUNTERS).map((name) => counter(server, name)));
  const found = Object.keys(COUNTERS).map((key, i) => [key, after[i]! - before[i]!] as const);
  return { ...Object.fromEntries(found), seconds };
}

const flags = ["--num-gpu-blocks-override", String(blocks + 1), "--max-num-seqs", String(streams)];
const length = ["--max-model-len", String(prompt + output)];
const start = (more: readonly string[]): Promise<StartedServer> =>
  startServer([...KVENGINE, "serve", model, "--port", "PORT", ...flags, ...length, ...more]);
const sides = {
  off: await start([]),
  on: await start(["--kv-connector", values.connector, "--kv-offload-size", "1GiB"]),
};
const least = streams * (prompt + output - 1);
console.log(
  `${streams} streams of ${prompt} + ${output} tokens, ${blocks} blocks: ${least} tokens at least`,
);
const runs: Record<string, Record<string, number>[]> = { off: [], on: [] };
for (let round = 0; round <= rounds; round++) {
  const order = Object.entries(sides);
  for (const [name, server] of round % 2 === 0 ? order : order.toReversed()) {
    const run = await serve(server);
    // The first one warms up.
    if (round > 0) runs[name]!.push(run);
    console.log(name, JSON.stringify(run));
  }
}
for (const [name, some] of Object.entries(runs)) {
  const of = (key: string): number => median(some.map((run) => run[key]!));
  const again = of("computed") - least;
  console.log(
    `${name}: ${of("seconds").toFixed(1)} s, ${of("preemptions")} preemptions, ${of("swapped")} swapped, ${again} tokens computed again`,
  );
}
for (const server of Object.values(sides)) await server.stop();
