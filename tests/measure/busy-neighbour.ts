/**
 * The share of its speed that each engine loses while another process keeps one core busy: kvengine's and llama.cpp's prompt and
 * generation rates with the neighbour and without, all four in turns.
 *
 *   bun tests/measure/busy-neighbour.ts MODEL.gguf --peer DIR_OF_LLAMA_CPP_PROGRAMS [--rounds 5] [--threads 2] [--prompt 512] [--gen 128]
 *
 * The neighbour is a loop on one core that the system may move, of the priority of everybody else. What is compared is what is left of the
 * speed: ours / the peer's with a 95 % interval; 1 or more = kvengine loses no larger share.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { geometricMean, pairedInterval } from "../../cli/bench/ab/ratio-interval.ts";
import { KVENGINE } from "./load-client.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    peer: { type: "string" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    prompt: { type: "string", default: "512" },
    gen: { type: "string", default: "128" },
  },
});
const [model] = positionals;
const { peer, rounds, threads } = values;
if (model === undefined || peer === undefined)
  throw new Error("usage: busy-neighbour.ts MODEL.gguf --peer DIR_OF_LLAMA_CPP_PROGRAMS");

const LENGTHS = ["-p", values.prompt, "-n", values.gen, "-t", threads, "-r", "1", "-o", "json"];
const SIDES = {
  kvengine: [...KVENGINE, "bench", "engine", model, ...LENGTHS],
  // Flash attention costs no more than it brings at these lengths; the share that is lost hardly depends on it.
  "llama.cpp": [join(peer, "llama-bench"), "-m", model, ...LENGTHS, "-fa", "1"],
} as const;
type Side = keyof typeof SIDES;
const KINDS = ["prompt", "gen"] as const;
type Kind = (typeof KINDS)[number];

const ROWS = z.array(z.object({ n_prompt: z.number(), avg_ts: z.number() }));
/** `kvengine` puts llama-bench's rows into a report. */
const REPORT = z.union([ROWS, z.object({ results: ROWS }).transform(({ results }) => results)]);

type Rates = Readonly<Record<Kind, number>>;

async function measure(side: Side): Promise<Rates> {
  const child = Bun.spawn([...SIDES[side]], { stdout: "pipe", stderr: "ignore" });
  const rows = REPORT.parse(JSON.parse(await child.stdout.text()));
  if ((await child.exited) !== 0) throw new Error(`${side} failed`);
  const rate = (isPrompt: boolean): number =>
    rows.find(({ n_prompt }) => n_prompt > 0 === isPrompt)?.avg_ts ?? Number.NaN;
  return { prompt: rate(true), gen: rate(false) };
}

async function besideNeighbour(side: Side): Promise<Rates> {
  const neighbour = Bun.spawn([process.execPath, "-e", "for (;;);"], {
    stdio: ["ignore", "ignore", "ignore"],
  });
  try {
    return await measure(side);
  } finally {
    neighbour.kill("SIGKILL");
    await neighbour.exited;
  }
}

/** What is left of each side's speed, a value a round. */
const left: Record<Kind, Record<Side, number[]>> = {
  prompt: { kvengine: [], "llama.cpp": [] },
  gen: { kvengine: [], "llama.cpp": [] },
};
const order = (round: number): readonly Side[] =>
  round % 2 === 0 ? ["kvengine", "llama.cpp"] : ["llama.cpp", "kvengine"];

for (let round = 0; round < Number(rounds); round++) {
  for (const side of order(round)) {
    const alone = await measure(side);
    const beside = await besideNeighbour(side);
    for (const kind of KINDS) {
      left[kind][side].push(beside[kind] / alone[kind]);
      const percent = (100 * beside[kind]) / alone[kind];
      console.log(
        `round ${round + 1} ${side} ${kind}: ${alone[kind].toFixed(1)} alone, ${beside[kind].toFixed(1)} beside (${percent.toFixed(0)} %)`,
      );
    }
  }
}
for (const kind of KINDS) {
  const { kvengine: ours, "llama.cpp": theirs } = left[kind];
  const pairs = ours.map((b, i) => ({ a: theirs[i] ?? Number.NaN, b, aFirst: i % 2 === 1 }));
  const interval = pairedInterval(pairs);
  const percent = (shares: readonly number[]): string =>
    `${(100 * geometricMean(shares)).toFixed(0)} %`;
  const range =
    interval === undefined ? "" : ` [${interval.low.toFixed(2)}, ${interval.high.toFixed(2)}]`;
  console.log(
    `${kind}: kvengine keeps ${percent(ours)} of its speed, llama.cpp ${percent(theirs)}; ours / theirs ${(geometricMean(ours) / geometricMean(theirs)).toFixed(2)}${range}`,
  );
}
