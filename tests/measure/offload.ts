/**
 * A server with CPU offload against one without, on the four workloads that decide whether offload is never slower than off. Both stand
 * beside each other and serve in turns, on, off, off, on, …; both get the same seeded requests, and forget what they keep between two runs.
 * Runs are short and the turns many, since machines change their speed by the minute. Two processes of the same program differ by a percent
 * or two for as long as they live, as their memory happens to lie: `--pairs` starts both anew so many times, each time the other one first.
 *
 *   bun tests/measure/offload.ts WORKLOAD [--pairs 1] [--rounds 2] [--scale 1] [--mode auto] [--host 4GiB] [--link BYTES_PER_SECOND] \
 *     [--disk FOLDER [--disk-link BYTES_PER_SECOND]] [--only on|off] [MODEL]
 *
 * Workloads: `talks` (24 conversations of 4 turns, a pool for a third of them), `fits` (the same, a pool for all), `no-reuse` (prompts that
 * share nothing, a pool far too small), `shared` (50 at once with one long prefix). `--scale 0.2` makes prompts a fifth as long. The first
 * run of each process counts for nothing. With `--disk` the one has a disk below the host's pages; the other keeps as much in the host, and
 * nothing where all fits on the device.
 */
import { parseArgs } from "node:util";
import { pairedInterval } from "../../cli/bench/ab/ratio-interval.ts";
import { median } from "../../cli/bench/engine/rates.ts";
import {
  cpuSeconds,
  KVENGINE,
  type StartedServer,
  startServer,
  type ThreadUse,
  threadUse,
} from "./load-client.ts";

const { values, positionals } = parseArgs({
  options: {
    pairs: { type: "string", default: "1" },
    rounds: { type: "string", default: "2" },
    scale: { type: "string", default: "1" },
    mode: { type: "string", default: "auto" },
    host: { type: "string", default: "4GiB" },
    link: { type: "string", default: "0" },
    disk: { type: "string", default: "" },
    "disk-link": { type: "string", default: "0" },
    only: { type: "string", default: "" },
  },
  allowPositionals: true,
});
const [workload = "talks", model = "smollm2-135m"] = positionals;
const scale = Number(values.scale);
const numRounds = Number(values.rounds);

const BLOCK = 16;
/** A server that used next to nothing for so long has nothing left to do. */
const IDLE_MS = 200;
const OUTPUT = 32;
const VOCABULARY = 40_000;
/** The output of every request, so that the next turn's prompt is known beforehand. */
const OUTPUT_TOKEN = 198;
/** Counters of `/metrics` that are printed, without labels of the whole server. */
const SHOWN =
  /^(vllm:prompt_tokens_by_source_total|kvengine:kv_load|vllm:kv_offload_(load|store)_(bytes|time)|vllm:num_preempt|kvengine_connector_stores_declined|kvengine:connector_lost|kvengine:connector_flights_ended|kvengine:prompt_seconds_saved)/;

interface Plan {
  /** Each is served turn by turn: prompts in tokens. */
  readonly talks: readonly (readonly number[][])[];
  readonly concurrency: number;
  /** KV blocks of the device. */
  readonly numBlocks: number;
  /** Mean pause between two turns, in ms. */
  readonly thinkMs: number;
}

interface Run {
  readonly seconds: number;
  readonly cpu: number;
  readonly tokens: number;
  /** What each kind of thread has used. */
  readonly threads: ReadonlyMap<string, ThreadUse>;
}

function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const draw = random(7);
const text = (length: number): number[] =>
  Array.from({ length: Math.round(length) }, () => 1000 + Math.floor(draw() * VOCABULARY));
const output: readonly number[] = Array.from({ length: OUTPUT }, () => OUTPUT_TOKEN);

function talk(turns: number, first: number, later: number): number[][] {
  const prompts = [text(first)];
  while (prompts.length < turns)
    prompts.push([...(prompts.at(-1) as number[]), ...output, ...text(later)]);
  return prompts;
}

/** Blocks of the last prompts and their outputs. */
function blocksOf(talks: readonly (readonly number[][])[]): number {
  let blocks = 0;
  for (const prompts of talks)
    blocks += Math.ceil(((prompts.at(-1) as number[]).length + OUTPUT) / BLOCK);
  return blocks;
}

function planOf(): Plan {
  const chats = (): number[][][] => Array.from({ length: 24 }, () => talk(4, 1500 * scale, 60));
  switch (workload) {
    case "talks":
    case "fits": {
      const talks = chats();
      const need = blocksOf(talks);
      const numBlocks = workload === "talks" ? Math.ceil(need / 3) : Math.ceil(need * 1.25);
      return { talks, concurrency: 16, numBlocks, thinkMs: 500 * scale };
    }
    case "no-reuse": {
      const talks = Array.from({ length: 48 }, () => talk(1, 1500 * scale, 0));
      const numBlocks = Math.ceil(blocksOf(talks) / 8);
      return { talks, concurrency: 8, numBlocks, thinkMs: 0 };
    }
    case "shared": {
      const prefix = text(1900 * scale);
      const talks = Array.from({ length: 100 }, () => [[...prefix, ...text(60)]]);
      const tail = Math.ceil((60 + OUTPUT) / BLOCK) + 1;
      const numBlocks = Math.ceil(prefix.length / BLOCK) + 50 * tail;
      return { talks, concurrency: 50, numBlocks, thinkMs: 0 };
    }
    default:
      throw new Error(`no workload ${workload}: talks, fits, no-reuse, shared`);
  }
}

async function complete(url: string, prompt: readonly number[]): Promise<number> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      prompt,
      max_tokens: OUTPUT,
      ignore_eos: true,
      temperature: 0,
      allowed_token_ids: [OUTPUT_TOKEN],
    }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  const { usage } = (await response.json()) as {
    readonly usage: { readonly total_tokens: number };
  };
  return usage.total_tokens;
}

interface Side {
  readonly name: string;
  readonly server: StartedServer;
}

async function start({ talks, numBlocks }: Plan, isOn: boolean): Promise<Side> {
  const longest = Math.max(...talks.map((prompts) => (prompts.at(-1) as number[]).length));
  const flags = ["--num-gpu-blocks-override", String(numBlocks + 1), "--max-num-seqs", "64"];
  flags.push("--max-model-len", String(longest + OUTPUT));
  if (isOn || (values.disk !== "" && workload !== "fits")) {
    const options = JSON.stringify({ "cpu-offload": { mode: values.mode } });
    flags.push("--kv-connector", "cpu-offload", "--kv-connector-options", options);
    flags.push("--kv-offload-size", values.host);
    if (values.link !== "0") flags.push("--kv-offload-link", values.link);
  }
  if (isOn && values.disk !== "") {
    flags.push("--kv-disk-path", values.disk, "--kv-disk-size", "4GiB");
    if (values["disk-link"] !== "0") flags.push("--kv-disk-link", values["disk-link"]);
  }
  const server = await startServer([...KVENGINE, "serve", model, "--port", "PORT", ...flags]);
  return { name: isOn ? values.mode : "off", server };
}

/** Serves the plan once, with nothing kept from before. */
async function serve({ server }: Side, { talks, concurrency, thinkMs }: Plan): Promise<Run> {
  const reset = await fetch(`${server.url}/reset_prefix_cache`, { method: "POST" });
  if (!reset.ok) throw new Error(`reset: ${reset.status} ${await reset.text()}`);
  const [cpuStart, before] = [await cpuSeconds(server.pid), await threadUse(server.pid)];
  const began = performance.now();
  const pauses = random(11);
  let tokens = 0;
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < talks.length) {
      for (const [turn, prompt] of (talks[next++] as number[][]).entries()) {
        if (turn > 0) await Bun.sleep(2 * thinkMs * pauses());
        const served = await complete(server.url, prompt);
        // Not in one expression: what others add meanwhile would be lost.
        tokens += served;
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = (performance.now() - began) / 1000;
  const [cpu, after] = [(await cpuSeconds(server.pid)) - cpuStart, await threadUse(server.pid)];
  const threads = new Map<string, ThreadUse>();
  for (const [name, use] of after) {
    const then = before.get(name) ?? { seconds: 0, preempted: 0 };
    threads.set(name, {
      seconds: use.seconds - then.seconds,
      preempted: use.preempted - then.preempted,
    });
  }
  // What it stores while nothing runs must not slow down the other one.
  for (let last = -1; ; await Bun.sleep(IDLE_MS)) {
    const now = await cpuSeconds(server.pid);
    if (now - last < 0.02) break;
    last = now;
  }
  return { seconds, cpu, tokens, threads };
}

/** Processor time and preemptions of each kind of thread, a run, where there were any. */
function threadsOf(name: string, runs: readonly Run[]): void {
  const mean = (of: (run: Run) => number): number =>
    runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  const names = new Set(runs.flatMap((run) => [...run.threads.keys()]));
  const cells = [...names].map((thread) => ({
    thread,
    ms: 1000 * mean((run) => run.threads.get(thread)?.seconds ?? 0),
    preempted: mean((run) => run.threads.get(thread)?.preempted ?? 0),
  }));
  console.log(`${name}, a run, by thread:`);
  for (const { thread, ms, preempted } of cells.toSorted((a, b) => b.ms - a.ms))
    if (ms >= 10)
      console.log(`    ${thread}: ${ms.toFixed(0)} ms, preempted ${preempted.toFixed(0)} times`);
}

/** What the server counted in all its runs. */
async function counters({ name, server }: Side): Promise<void> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const shown = metrics.split("\n").filter((line) => SHOWN.test(line) && !line.endsWith(" 0"));
  console.log(`${name}, in all:`);
  for (const line of shown)
    console.log(`    ${line.replace(/,?model_name="[^"]*",engine="0"/, "")}`);
}

/** Of the median of as many ratios drawn with replacement, 95 % lie between these. A mean is moved by a run that met a slow minute. */
function medianInterval(ratios: readonly number[]): readonly [low: number, high: number] {
  const pick = random(3);
  const medians = Array.from({ length: 2000 }, () =>
    median(ratios.map(() => ratios[Math.floor(pick() * ratios.length)] as number)),
  ).toSorted((a, b) => a - b);
  return [medians[50] as number, medians[1949] as number];
}

/** The ratio of `on` to `off`, with its intervals. */
function ratio(name: string, on: readonly number[], off: readonly number[]): void {
  const pairs = on.map((b, i) => ({ a: off[i] as number, b, aFirst: isTurned(i) }));
  const found = pairedInterval(pairs);
  if (found === undefined) return;
  const ratios = pairs.map(({ a, b }) => b / a);
  const show = (low: number, high: number): string =>
    `95 %: ${low.toFixed(3)} to ${high.toFixed(3)}`;
  const mean = `mean ${found.ratio.toFixed(3)} (${show(found.low, found.high)})`;
  const middle = `median ${median(ratios).toFixed(3)} (${show(...medianInterval(ratios))})`;
  console.log(`${name}: ${mean}, ${middle}, ${pairs.length} rounds`);
}

/** Whether `off` goes first in a round, counted over all pairs: in every second one of a pair, and in every second pair. */
function isTurned(round: number): boolean {
  return ((round % numRounds) + Math.floor(round / numRounds)) % 2 === 1;
}

/** Starts the sides, serves in turns, adds the runs to those of earlier processes, and ends. */
async function servePair(plan: Plan, isOn: readonly boolean[], runs: Run[][]): Promise<void> {
  const sides = await Promise.all(isOn.map((on) => start(plan, on)));
  const inTurn = (round: number): Side[] => (isTurned(round) ? sides.toReversed() : sides);
  const first = runs[0]?.length ?? 0;
  for (const side of inTurn(first)) await serve(side, plan);
  for (let round = 0; round < numRounds; round++) {
    for (const side of inTurn(first + round)) {
      const run = await serve(side, plan);
      runs[sides.indexOf(side)]?.push(run);
      const speed = (run.tokens / run.seconds).toFixed(0);
      const perToken = ((run.cpu / run.tokens) * 1e6).toFixed(0);
      console.log(
        `${side.name}: ${speed} tokens/s, ${run.seconds.toFixed(1)} s, CPU ${perToken} µs a token`,
      );
    }
  }
  for (const side of sides) {
    await counters(side);
    await side.server.stop();
  }
}

const plan = planOf();
console.log(`${workload}: ${plan.talks.length} talks, ${plan.numBlocks} blocks on the device`);
const isOn = [true, false].filter((on) => values.only === "" || on === (values.only === "on"));
const runs = isOn.map((): Run[] => []);
for (let pair = 0; pair < Number(values.pairs); pair++) await servePair(plan, isOn, runs);
for (const [side, some] of runs.entries())
  if (some.length > 0) threadsOf(isOn[side] === true ? values.mode : "off", some);
const [on = [], off = []] = runs;
ratio(
  `${values.mode} / off, tokens/s`,
  on.map((run) => run.tokens / run.seconds),
  off.map((run) => run.tokens / run.seconds),
);
ratio(
  `${values.mode} / off, CPU a token`,
  on.map((run) => run.cpu / run.tokens),
  off.map((run) => run.cpu / run.tokens),
);
