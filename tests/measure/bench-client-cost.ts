/**
 * What the client of `bench serve` costs: tokens a second that it takes from the null backend, which computes nothing, and how many
 * tokens one core of the client could take. Everything a run does is in it: requests, streams, counts a chunk, records.
 *
 *   bun tests/measure/bench-client-cost.ts MODEL.gguf [--streams 256] [--tokens 400] [--rounds 3]
 */
import { parseArgs } from "node:util";
import { PATIENCE } from "../../cli/bench/http/failure.ts";
import { REAL_CLOCK } from "../../cli/bench/load/clock.ts";
import { runOn } from "../../cli/bench/run-once.ts";
import type { RunOptions } from "../../cli/bench/run-options.ts";
import { openSide } from "../../cli/bench/servers/open-side.ts";
import { kvengineServer } from "../../cli/bench/servers/side.ts";
import { planWith, shapedWorkload } from "../support/bench-workload.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    streams: { type: "string", default: "256" },
    tokens: { type: "string", default: "400" },
    rounds: { type: "string", default: "3" },
  },
});
const [model] = positionals;
if (model === undefined) throw new Error("usage: bench-client-cost.ts MODEL.gguf");
const streams = Number(values.streams);

const options: RunOptions = {
  model: "",
  headers: {},
  extraBody: { temperature: 0 },
  countChunks: true,
  patience: PATIENCE,
  readyTimeoutMs: 60_000,
  numWarmups: 0,
  cacheState: "auto",
};
const workload = shapedWorkload({
  turns: Array.from({ length: streams }, () => 1),
  promptTokens: 16,
  maxTokens: Number(values.tokens),
});
const flags = ["--backend", "null", "--max-num-seqs", values.streams];
const side = { label: "null", server: kvengineServer(model, flags) } as const;
const open = await openSide(side, options);
for (let round = 0; round <= Number(values.rounds); round++) {
  const run = await runOn(open, workload, planWith(), REAL_CLOCK, options);
  const tokens = run.records.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
  const seconds = run.durationMs / 1000;
  const { cpuSeconds, lagP99Ms, lagMaxMs } = run.client;
  const line =
    `${(tokens / seconds).toFixed(0)} tokens/s with ${(cpuSeconds / seconds).toFixed(2)} of a core, ` +
    `${(tokens / cpuSeconds).toFixed(0)} tokens/s a core (${tokens} tokens, ${cpuSeconds.toFixed(2)} s of CPU, ` +
    `timers late by ${lagP99Ms.toFixed(1)} ms p99, ${lagMaxMs.toFixed(1)} ms at most)`;
  console.log(round === 0 ? `warm-up: ${line}` : line);
}
await open.close();
