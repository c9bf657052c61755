/**
 * `kvengine bench engine`: rates of the whole engine with one sequence, by llama-bench's definitions. A prompt test (`pp`)
 * computes a prompt and samples one token: prompt tokens by that time. A generation test (`tg`) starts from one token and
 * samples n: n by that time. Both go through the worker, the scheduler and the message to this thread.
 */

import type { CommandDef } from "citty";
import type { EngineClient } from "../engine/engine-client.ts";
import { errorFromData } from "../engine/errors.ts";
import { DEFAULT_SAMPLING } from "../engine/request.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";
import { openSession } from "./session.ts";
import { VERSION } from "./version.ts";

/** Times in nanoseconds, rates in tokens per second, deviations of the sample (n - 1): llama-bench's JSON names. */
interface BenchResult {
  readonly model: string;
  readonly backend: string;
  readonly threads: number;
  readonly n_prompt: number;
  readonly n_gen: number;
  readonly avg_ns: number;
  readonly stddev_ns: number;
  readonly avg_ts: number;
  readonly stddev_ts: number;
  readonly samples_ns: readonly number[];
  readonly samples_ts: readonly number[];
}

const command: CommandDef = defineOurCommand(
  "bench engine",
  async ({ values, positionals, log }) => {
    const session = await openSession(positionals[0] ?? "", values, log);
    const { client } = session;
    try {
      const tests = [
        ...values.nPrompt.filter((n) => n > 0).map((n) => ({ nPrompt: n, nGen: 0 })),
        ...values.nGen.filter((n) => n > 0).map((n) => ({ nPrompt: 0, nGen: n })),
      ];
      const results: BenchResult[] = [];
      for (const { nPrompt, nGen } of tests) {
        log.debug(`${testName(nPrompt, nGen)}: ${values.repetitions} runs`);
        const samples: number[] = [];
        for (let run = 0; run <= values.repetitions; run++) {
          const ns = await measure(client, Math.max(1, nPrompt), Math.max(1, nGen), run);
          if (run > 0) samples.push(ns); // the first one warms caches and threads up
        }
        const rates = samples.map((ns) => ((nPrompt + nGen) / ns) * 1e9);
        results.push({
          model: client.info.modelName,
          backend: client.info.backend,
          threads: client.info.threads,
          n_prompt: nPrompt,
          n_gen: nGen,
          avg_ns: mean(samples),
          stddev_ns: deviation(samples),
          avg_ts: mean(rates),
          stddev_ts: deviation(rates),
          samples_ns: samples,
          samples_ts: rates,
        });
      }
      const size = session.model.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
      process.stdout.write(
        values.json
          ? `${JSON.stringify({ version: VERSION, model_size: size, results }, null, 2)}\n`
          : table(results, size),
      );
      return EXIT.ok;
    } finally {
      await client.shutdown(0);
    }
  },
);

/** Nanoseconds from asking to the last of `numTokens` tokens. */
async function measure(
  client: EngineClient,
  promptLength: number,
  numTokens: number,
  run: number,
): Promise<number> {
  const promptTokenIds = randomTokens(promptLength, client.info.vocabSize, run);
  const start = Bun.nanoseconds();
  const events = client.generate({
    id: `bench-${run}`,
    promptTokenIds,
    sampling: { ...DEFAULT_SAMPLING, maxTokens: numTokens },
    priority: 0,
    arrivalTime: Date.now(),
  });
  for await (const event of events) {
    if (event.finish?.error !== undefined) throw errorFromData(event.finish.error);
  }
  return Bun.nanoseconds() - start;
}

/** The same tokens for the same run on every machine (mulberry32). */
function randomTokens(length: number, vocabSize: number, seed: number): Int32Array {
  let state = seed + 1;
  return Int32Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % vocabSize;
  });
}

function testName(nPrompt: number, nGen: number): string {
  return nGen === 0 ? `pp${nPrompt}` : `tg${nGen}`;
}

function table(results: readonly BenchResult[], size: number): string {
  const rows = [["model", "size", "backend", "threads", "test", "tokens/s"]];
  for (const one of results) {
    const rate = `${one.avg_ts.toFixed(2)} ± ${one.stddev_ts.toFixed(2)}`;
    rows.push([
      one.model,
      formatBytes(size),
      one.backend,
      String(one.threads),
      testName(one.n_prompt, one.n_gen),
      rate,
    ]);
  }
  const widths =
    rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const lines = rows.map(
    (row) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`,
  );
  lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`);
  return `${lines.join("\n")}\n`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const middle = mean(values);
  return Math.sqrt(
    values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1),
  );
}

export default command;
