/**
 * Prompt and generation rates against llama.cpp's `llama-bench` on the same file, in one interleaved run: each round
 * measures both sides, the order swaps from round to round, and the medians are compared.
 *
 *   bun tests/measure/against-llama-cpp.ts MODEL.gguf DIR_OF_LLAMA_CPP_PROGRAMS [--rounds 5] [--threads 2]
 *
 * The peer is taken at the best of its settings: each of those below is tried once, and for each workload the fastest is
 * the one that is measured.
 */
import { parseArgs } from "node:util";
import { join } from "node:path";

const WORKLOADS = [
  { name: "prompt 512", prompt: 512, generate: 0 },
  { name: "generate 128", prompt: 0, generate: 128 },
];
const PEER_SETTINGS = [
  ["-fa", "0"],
  ["-fa", "1"],
  ["-fa", "1", "-ub", "128"],
];

interface Row {
  readonly n_prompt: number;
  readonly n_gen: number;
  readonly avg_ts: number;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "5" }, threads: { type: "string", default: "2" } },
});
const [model, programs] = positionals;
if (model === undefined || programs === undefined) {
  throw new Error(
    "usage: against-llama-cpp.ts MODEL.gguf DIR_OF_LLAMA_CPP_PROGRAMS [--rounds 5] [--threads 2]",
  );
}
const { rounds, threads } = values;

async function json(command: string[]): Promise<unknown> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}:\n${err}`);
  return JSON.parse(out);
}

async function ours(prompt: number, generate: number): Promise<number> {
  const main = new URL("../../cli/main.ts", import.meta.url).pathname;
  const command = [
    process.execPath,
    decodeURIComponent(main),
    "bench",
    "engine",
    model as string,
    "--threads",
    threads,
  ];
  const answer = await json([
    ...command,
    "-p",
    `${prompt}`,
    "-n",
    `${generate}`,
    "-r",
    "3",
    "--json",
  ]);
  return rate((answer as { results: Row[] }).results, prompt, generate);
}

async function peer(
  prompt: number,
  generate: number,
  settings: string[],
  repeat: number,
): Promise<number> {
  const command = [
    join(programs as string, "llama-bench"),
    "-m",
    model as string,
    "-t",
    threads,
    "-o",
    "json",
  ];
  const answer = await json([
    ...command,
    "-p",
    `${prompt}`,
    "-n",
    `${generate}`,
    "-r",
    `${repeat}`,
    ...settings,
  ]);
  return rate(answer as Row[], prompt, generate);
}

function rate(rows: Row[], prompt: number, generate: number): number {
  const row = rows.find(
    (candidate) => candidate.n_prompt === prompt && candidate.n_gen === generate,
  );
  if (row === undefined)
    throw new Error(`no row for ${prompt} prompt and ${generate} generated tokens`);
  return row.avg_ts;
}

function median(samples: number[]): number {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)] ?? Number.NaN;
}

for (const { name, prompt, generate } of WORKLOADS) {
  const tried: { settings: string[]; rate: number }[] = [];
  for (const settings of PEER_SETTINGS)
    tried.push({ settings, rate: await peer(prompt, generate, settings, 1) });
  const best = tried.toSorted((a, b) => b.rate - a.rate)[0];
  if (best === undefined) throw new Error("no settings of the peer were tried");
  const left: number[] = [];
  const right: number[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    const sides = [
      async () => left.push(await ours(prompt, generate)),
      async () => right.push(await peer(prompt, generate, best.settings, 3)),
    ];
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) await side();
  }
  const ratio = median(left) / median(right);
  console.log(
    `${name}: kvengine ${median(left).toFixed(1)} tokens/s [${Math.min(...left).toFixed(1)}–${Math.max(...left).toFixed(1)}], ` +
      `llama.cpp ${median(right).toFixed(1)} [${Math.min(...right).toFixed(1)}–${Math.max(...right).toFixed(1)}] ` +
      `(${best.settings.join(" ")}), ratio ${ratio.toFixed(2)}`,
  );
}
