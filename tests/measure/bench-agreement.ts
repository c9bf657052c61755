/**
 * Whether `bench serve` and guidellm measure the same: the same prompts at the same concurrency against one kvengine server, in
 * turns, TTFT, TPOT and throughput compared. Exits with 1 where a ratio is further than 5 % from 1.
 *
 *   pip install guidellm     (into a virtual environment of its own)
 *   bun tests/measure/bench-agreement.ts PATH_OF_GUIDELLM [ROUNDS] [paced|cpu]
 *
 * `paced` (default): the backend `null` behind a connector that holds each step up for 40 ms, asleep, so that neither the model nor
 * other work on the machine is in the figures. `cpu`: the default model.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interleave } from "../../cli/bench/ab/interleave.ts";
import { pairedInterval } from "../../cli/bench/ab/ratio-interval.ts";
import { sectionText } from "../../cli/bench/report/section.ts";
import { defaultModelPath } from "../support/default-model.ts";
import { runCli, startServer } from "../support/server.ts";
import { randomNumbers } from "../support/simulated-runs.ts";

const [guidellm = "guidellm", rounds = "5", pace = "paced"] = process.argv.slice(2);
const CONCURRENCY = 4;
const PROMPTS = 24;
const OUTPUT = 24;
const WITHIN = 0.05;

type Figures = Readonly<Record<(typeof METRICS)[number], number>>;
const METRICS = ["ttft mean", "ttft median", "tpot mean", "tpot median", "tokens/s"] as const;

const PACED = [
  ...["--backend", "null"],
  ...["--kv-connector", join(import.meta.dir, "../support/programs/slow-steps.ts")],
  ...["--kv-connector-options", '{"ms": 40}'],
  // A machine with other work may hold it up longer than it asked for.
  ...["--kv-connector-slow-hook", "60", "--kv-connector-hang-timeout", "600"],
];

const folder = mkdtempSync(join(tmpdir(), "bench-agreement-"));
const prompts = join(folder, "prompts.jsonl");

/** Words that no two prompts begin with alike. */
async function writePrompts(): Promise<void> {
  const random = randomNumbers(1);
  const words = "river mountain cloud stone forest light night garden window bottle paper".split(
    " ",
  );
  const lines = Array.from({ length: PROMPTS }, (_, i) => {
    const text = Array.from({ length: 60 }, () => words[Math.floor(random() * words.length)]);
    // Each tool has its own word for how many tokens are wanted.
    return { prompt: `${i} ${text.join(" ")}`, output_tokens: OUTPUT, output_tokens_count: OUTPUT };
  });
  await Bun.write(prompts, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}

async function byBenchServe(url: string): Promise<Figures> {
  const { code, stdout, stderr } = await runCli([
    ...["bench", "serve", defaultModelPath(), "--base-url", url, "--json"],
    ...["--dataset-name", "custom", "--dataset-path", prompts, "--num-prompts", "0"],
    ...["--prompt-form", "text", "--disable-shuffle", "--cache-state", "uncontrolled"],
    ...["--max-concurrency", String(CONCURRENCY)],
  ]);
  if (code !== 0) throw new Error(stderr);
  const result = JSON.parse(stdout) as Record<string, number>;
  if (result["completed"] !== PROMPTS) throw new Error(`bench serve: ${stdout}`);
  const of = (key: string): number => result[key] ?? Number.NaN;
  return {
    "ttft mean": of("mean_ttft_ms"),
    "ttft median": of("median_ttft_ms"),
    "tpot mean": of("mean_tpot_ms"),
    "tpot median": of("median_tpot_ms"),
    "tokens/s": of("output_throughput"),
  };
}

interface GuidellmReport {
  readonly benchmarks: readonly {
    readonly metrics: Readonly<Record<string, { readonly successful: { readonly mean: number } }>>;
    readonly requests: { readonly successful: readonly Readonly<Record<string, number>>[] };
  }[];
}

async function byGuidellm(url: string): Promise<Figures> {
  const path = join(folder, "guidellm.json");
  const child = Bun.spawn(
    [
      ...[guidellm, "run", "--disable-console"],
      ...[
        "--backend",
        `kind=openai_http,target=${url},request_format=/v1/completions,timeout_connect=60`,
      ],
      ...["--profile", `kind=concurrent,streams=${CONCURRENCY}`],
      ...["--constraint", `kind=max_requests,count=${PROMPTS}`],
      ...["--data", `kind=json_file,path=${prompts}`],
      ...["--output", `kind=json,path=${path}`],
    ],
    { env: { ...process.env, HF_HUB_OFFLINE: "1" }, stdout: "pipe", stderr: "pipe" },
  );
  const said = await child.stderr.text();
  if ((await child.exited) !== 0) throw new Error(said);
  const { benchmarks } = (await Bun.file(path).json()) as GuidellmReport;
  const [benchmark] = benchmarks;
  const requests = benchmark?.requests.successful ?? [];
  const tokens = requests.reduce((sum, one) => sum + (one["output_tokens"] ?? 0), 0);
  if (tokens !== PROMPTS * OUTPUT) throw new Error(`guidellm got ${tokens} tokens`);
  const valuesOf = (key: string): number[] => requests.map((one) => one[key] ?? Number.NaN);
  return {
    "ttft mean": mean(valuesOf("time_to_first_token_ms")),
    "ttft median": median(valuesOf("time_to_first_token_ms")),
    // What it calls ITL is vLLM's TPOT.
    "tpot mean": mean(valuesOf("inter_token_latency_ms")),
    "tpot median": median(valuesOf("inter_token_latency_ms")),
    "tokens/s": benchmark?.metrics["output_tokens_per_second"]?.successful.mean ?? Number.NaN,
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return mean(sorted.slice(Math.ceil(half) - 1, Math.floor(half) + 1));
}

await writePrompts();
await using server = await startServer(pace === "paced" ? PACED : []);
const { runs, stopped } = await interleave({
  numSides: 2,
  rounds: Number(rounds),
  warmUps: 1,
  runOnce: async ({ side, round, warmUp }) => {
    await fetch(`${server.url}/reset_prefix_cache`, { method: "POST" });
    const figures = await (side === 0 ? byGuidellm(server.url) : byBenchServe(server.url));
    console.error(
      `${warmUp ? "warm-up" : `round ${round + 1}`}, ${side === 0 ? "guidellm" : "bench serve"}:`,
      figures,
    );
    return figures;
  },
});
rmSync(folder, { recursive: true });
console.error(server.stderr());
if (stopped !== undefined) throw stopped;
let worst = 0;
const rows = METRICS.map((metric) => {
  const valuesOf = (side: number): number[] =>
    runs.filter((run) => run.side === side).map(({ result }) => result[metric]);
  const [theirs, ours] = [valuesOf(0), valuesOf(1)];
  const pairs = theirs.map((a, i) => ({ a, b: ours[i] ?? Number.NaN, aFirst: i % 2 === 0 }));
  const { ratio = Number.NaN, low = Number.NaN, high = Number.NaN } = pairedInterval(pairs) ?? {};
  worst = Math.max(worst, Math.abs(ratio - 1));
  return [
    metric,
    mean(theirs).toFixed(2),
    mean(ours).toFixed(2),
    ratio.toFixed(4),
    `${low.toFixed(4)} … ${high.toFixed(4)}`,
  ];
});
process.stdout.write(
  sectionText({
    title: `bench serve against guidellm, ${rounds} rounds, ${pace}`,
    columns: ["", "guidellm", "bench serve", "ratio", "95 %"],
    rows,
    notes: [`The furthest ratio is ${(100 * worst).toFixed(1)} % from 1; allowed are 5 %.`],
  }),
);
process.exitCode = worst <= WITHIN ? 0 : 1;
