/**
 * `kvengine bench scheduler`: what deciding costs. Steps of the real scheduler run on the `null` backend, which computes
 * nothing, so that all time is scheduling, packing, committing and the way to the device's thread and back.
 */

import type { CommandDef } from "citty";
import type { SamplingParams } from "../../../engine/request.ts";
import { DEFAULT_SAMPLING } from "../../../engine/request.ts";
import { hashBlocks, hashEach, noneHash } from "../../../engine/runner/native.ts";
import { NativeRunner } from "../../../engine/runner/native-runner.ts";
import { Scheduler } from "../../../engine/scheduler/scheduler.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { VERSION } from "../../version.ts";

const BLOCK_SIZE = 16;
const VOCABULARY = 50_000;
const PROMPT_TOKENS = 64;
/** Steps before those that count: compilers and caches warm up. */
const WARM_UP = 500;
/** Tokens more than the steps need: those admitted first begin before the last ones are in. */
const SLACK = 256;

/** Times in microseconds. */
interface StepCost {
  readonly running: number;
  readonly blocks: number;
  readonly steps: number;
  readonly schedule_p50: number;
  readonly commit_p50: number;
  readonly both_p50: number;
  readonly both_p99: number;
  /** Idle time of the device's thread between two queued steps. */
  readonly gap_p50: number;
  readonly gap_p99: number;
}

const command: CommandDef = defineOurCommand("bench scheduler", async ({ values, log }) => {
  const steps: StepCost[] = [];
  for (const running of values.numRunning) {
    log.debug(`${running} running requests: ${values.numSteps} steps`);
    const length = PROMPT_TOKENS + WARM_UP + values.numSteps + SLACK;
    const blocks = 1 + running * Math.ceil(length / BLOCK_SIZE);
    steps.push(await measureSteps(running, blocks, values.numSteps));
  }
  const most = steps.at(-1);
  // The same work in a pool ten times as large.
  if (most !== undefined)
    steps.push(await measureSteps(most.running, most.blocks * 10, values.numSteps));
  const hash = measureHash();
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ version: VERSION, steps, hash_ns_per_block: hash }, null, 2)}\n`
      : report(steps, hash),
  );
  return EXIT.ok;
});

async function measureSteps(
  numRunning: number,
  numBlocks: number,
  numSteps: number,
): Promise<StepCost> {
  const maxModelLen = PROMPT_TOKENS + WARM_UP + numSteps + SLACK;
  const groups = [{ layers: 1, numKvHeads: 1, headDim: 16, kind: "full" as const, window: 0 }];
  const maxNumBatchedTokens = Math.max(512, numRunning);
  const scheduler = new Scheduler(
    {
      maxNumSeqs: numRunning,
      maxNumBatchedTokens,
      maxSamples: numRunning + 1,
      schedulingPolicy: "fcfs",
      tpotSlo: 0,
      enablePrefixCaching: true,
      speculative: "none",
      speculativeTokens: 1,
      speculativeNgram: [1, 1],
      limits: {
        maxModelLen,
        vocabSize: VOCABULARY,
        blockSize: BLOCK_SIZE,
        groups,
        maxInFlightTokens: 2 * maxNumBatchedTokens,
        numBlocks: numBlocks - 1,
      },
    },
    {
      createStopChecker: () => () => undefined,
      hashBlocks,
      hashEach,
      noneHash: noneHash("0"),
      now: () => performance.now(),
    },
  );
  const runner = new NativeRunner();
  await runner.start({
    backend: "null",
    isa: "auto",
    threads: 1,
    values: [],
    ops: [],
    files: [],
    tensors: [],
    groups,
    blockSize: BLOCK_SIZE,
    numBlocks,
    maxTokens: maxNumBatchedTokens,
    maxRows: numRunning,
    maxSamples: numRunning + 1,
    maxModelLen,
    vocabSize: VOCABULARY,
  });
  for (let handle = 0; handle < numRunning; handle++) {
    const sampling: SamplingParams = {
      ...DEFAULT_SAMPLING,
      seed: [handle, 0],
      maxTokens: maxModelLen - PROMPT_TOKENS,
    };
    scheduler.add(handle, {
      id: String(handle),
      // A different first token: no prefix is shared.
      promptTokenIds: Int32Array.from({ length: PROMPT_TOKENS }, (_, i) => handle + i),
      sampling,
      arrivalTime: 0,
      priority: 0,
    });
  }
  const costs = await runSteps(scheduler, runner, numRunning, numSteps);
  await runner.stop();
  return { running: numRunning, blocks: numBlocks, steps: numSteps, ...costs };
}

async function runSteps(
  scheduler: Scheduler,
  runner: NativeRunner,
  numRunning: number,
  numSteps: number,
): Promise<Omit<StepCost, "running" | "blocks" | "steps">> {
  const [schedule, commit, both, gaps]: number[][] = [[], [], [], []];
  const fill = (): number => {
    let micros = 0;
    while (runner.queued < 2) {
      const start = Bun.nanoseconds();
      const batch = scheduler.schedule();
      micros = (Bun.nanoseconds() - start) / 1000;
      if (batch === undefined) break;
      runner.submit(batch);
    }
    return micros;
  };
  fill();
  for (let decoding = 0, warm = 0; (schedule as number[]).length < numSteps;) {
    const result = await runner.next();
    const start = Bun.nanoseconds();
    const events = scheduler.commit(result);
    const commitMicros = (Bun.nanoseconds() - start) / 1000;
    const scheduleMicros = fill();
    decoding = events.handles.length;
    if (decoding < numRunning || warm++ < WARM_UP) continue;
    (schedule as number[]).push(scheduleMicros);
    (commit as number[]).push(commitMicros);
    (both as number[]).push(scheduleMicros + commitMicros);
    if (result.gapMicros >= 0) (gaps as number[]).push(result.gapMicros);
  }
  return {
    schedule_p50: percentile(schedule, 0.5),
    commit_p50: percentile(commit, 0.5),
    both_p50: percentile(both, 0.5),
    both_p99: percentile(both, 0.99),
    gap_p50: percentile(gaps, 0.5),
    gap_p99: percentile(gaps, 0.99),
  };
}

/** Nanoseconds for each block of a long prompt hashed in one call; the median of many. */
function measureHash(): number {
  const tokens = Int32Array.from({ length: 4096 }, (_, i) => (i * 7919) % VOCABULARY);
  const parent = noneHash("0");
  const times = Array.from({ length: 300 }, () => {
    const start = Bun.nanoseconds();
    hashBlocks(parent, tokens, BLOCK_SIZE);
    return (Bun.nanoseconds() - start) / (tokens.length / BLOCK_SIZE);
  });
  return percentile(times.slice(50), 0.5);
}

/** NaN of nothing. */
function percentile(values: readonly number[] | undefined, share: number): number {
  const sorted = (values ?? []).toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

function report(steps: readonly StepCost[], hash: number): string {
  const heads = ["running", "blocks", "schedule", "commit", "both", "both p99", "gap", "gap p99"];
  const rows = steps.map((one) => [
    String(one.running),
    String(one.blocks),
    ...[one.schedule_p50, one.commit_p50, one.both_p50, one.both_p99, one.gap_p50, one.gap_p99].map(
      (micros) => micros.toFixed(1),
    ),
  ]);
  const widths = heads.map((head, i) =>
    Math.max(head.length, ...rows.map((row) => row[i]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => cell.padStart(widths[i]!)).join(" | ")} |\n`;
  return (
    "A step on the null backend, microseconds, medians:\n" +
    line(heads) +
    line(widths.map((width) => "-".repeat(width))) +
    rows.map(line).join("") +
    `Hash of a ${BLOCK_SIZE}-token block: ${hash.toFixed(0)} ns\n`
  );
}

export default command;
