/** Runs one measurement of the table through the product's own benches, both sides in turns. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { compareSides } from "../../../cli/bench/ab/comparison.ts";
import { readResultFile } from "../../../cli/bench/ab/result-file.ts";
import { median } from "../../../cli/bench/engine/rates.ts";
import { KVENGINE } from "../load-client.ts";
import { KVENGINE_FLAGS, LLAMA_SERVER_FLAGS, type Measurement, type RowName } from "./rows.ts";

export interface Setting {
  readonly model: string;
  /** Folder of llama.cpp's programs. */
  readonly peer: string;
  readonly isa: "auto" | "avx2";
  readonly threads: number;
  readonly rounds: number;
}

/** Rates in tokens a second: medians over the rounds. */
export interface Measured {
  readonly row: RowName;
  readonly title: string;
  readonly ours: number;
  readonly peer: number;
  readonly peerSettings: string;
  /** Ours / the peer's: geometric mean over the rounds, with its 95 % interval where there are two rounds or more. */
  readonly ratio: number;
  readonly low?: number;
  readonly high?: number;
}

const INTERVAL = z.object({ low: z.number(), high: z.number() });
const ENGINE_REPORT = z.object({
  results: z.array(
    z.object({
      test: z.string(),
      samples_ts: z.array(z.number()),
      peer: z.object({
        settings: z.string(),
        samples_ts: z.array(z.number()),
        ratio: z.number(),
        interval: INTERVAL.optional(),
      }),
    }),
  ),
});

export function run(measurement: Measurement, setting: Setting): Promise<Measured[]> {
  return measurement.bench === "engine"
    ? runEngine(measurement, setting)
    : runServe(measurement, setting);
}

async function runEngine({ flags, rows }: Measurement, setting: Setting): Promise<Measured[]> {
  const said = await kvengine(
    ...["bench", "engine", setting.model, "--isa", setting.isa, "-t", String(setting.threads)],
    ...["--peer", `llama.cpp=${setting.peer}`, "-r", String(setting.rounds), "-o", "json"],
    ...flags,
  );
  const { results } = ENGINE_REPORT.parse(JSON.parse(said));
  return rows.map(({ name, title, test }) => {
    const result = results.find((one) => one.test === test);
    if (result === undefined) throw new Error(`bench engine printed no row ${test}`);
    const { peer } = result;
    return {
      row: name,
      title,
      ours: median(result.samples_ts),
      peer: median(peer.samples_ts),
      peerSettings: peer.settings,
      ratio: peer.ratio,
      ...peer.interval,
    };
  });
}

async function runServe({ flags, rows }: Measurement, setting: Setting): Promise<Measured[]> {
  const folder = await mkdtemp(join(tmpdir(), "kvengine-reach-"));
  try {
    const report = join(folder, "report.json");
    const threads = `-t ${setting.threads}`;
    await kvengine(
      ...["bench", "serve", setting.model, "--report", report],
      ...["--peer", `llama-server=${join(setting.peer, "llama-server")}`],
      ...["--ab", `llama-server: llama-server ${LLAMA_SERVER_FLAGS} ${threads}`],
      ...["--ab", `kvengine: ${KVENGINE_FLAGS} --isa ${setting.isa} ${threads}`],
      ...["--ab-rounds", String(setting.rounds), "--ab-warmups", "0", "--num-warmups", "1"],
      ...flags,
    );
    const runs = await readResultFile(report);
    const side = (label: string): Parameters<typeof compareSides>[0] => ({
      label,
      runs: runs.filter((one) => one.label === label),
    });
    const sides = [side("llama-server"), side("kvengine")] as const;
    const [throughput] = compareSides(...sides, ["total_token_throughput"]).metrics;
    if (throughput === undefined) throw new Error(`${report} has no total_token_throughput`);
    const { a, b, valuesOfA, valuesOfB, interval } = throughput;
    return rows.map(({ name, title }) => ({
      row: name,
      title,
      ours: median(valuesOfB),
      peer: median(valuesOfA),
      peerSettings: LLAMA_SERVER_FLAGS,
      ratio: interval?.ratio ?? b / a,
      ...(interval === undefined ? {} : { low: interval.low, high: interval.high }),
    }));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** What it printed on standard output. */
async function kvengine(...args: string[]): Promise<string> {
  const child = Bun.spawn([...KVENGINE, ...args], { stdout: "pipe", stderr: "inherit" });
  const said = await child.stdout.text();
  const code = await child.exited;
  if (code !== 0) throw new Error(`kvengine ${args.join(" ")} ended with ${code}`);
  return said;
}
