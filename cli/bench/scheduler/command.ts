/**
 * `kvengine bench scheduler`: what deciding costs. Steps of the real scheduler run on the `null` backend, which computes
 * nothing, so that all time is scheduling, packing, committing and the way to the device's thread and back. With a KV connector the
 * last rows are a pool full of cached blocks, without it and with it.
 */

import type { CommandDef } from "citty";
import type { EngineConfig } from "../../../engine/config.ts";
import { engineConfig } from "../../../engine/config-values.ts";
import type { KvCache } from "../../../engine/cache/kv-cache.ts";
import type { ConnectorHost } from "../../../engine/connectors/connector-host.ts";
import { createHookWord } from "../../../engine/connectors/hook-turn.ts";
import { Explainer } from "../../../engine/explain/explainer.ts";
import { openConnectors } from "../../../engine/connectors/open-connectors.ts";
import { startConnectors } from "../../../engine/connectors/start-connectors.ts";
import { epochMs } from "../../../engine/epoch.ts";
import type { SamplingParams } from "../../../engine/request.ts";
import { DEFAULT_SAMPLING } from "../../../engine/request.ts";
import { hashBlocks, hashEach, memoryAvailable, noneHash } from "../../../engine/runner/native.ts";
import { NativeRunner } from "../../../engine/runner/native-runner.ts";
import { Scheduler } from "../../../engine/scheduler/scheduler.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { VERSION } from "../../version.ts";
import { mean } from "../metrics/distribution.ts";

const BLOCK_SIZE = 16;
const VOCABULARY = 50_000;
const PROMPT_TOKENS = 64;
/** Steps before those that count: compilers and caches warm up. */
const WARM_UP = 500;
/** Blocks of the pool that is full, where a connector is measured; more when the running requests need more. */
const FULL_POOL = 100_000;
/** Prompt tokens of each request that fills it. */
const FILLER_TOKENS = 4096;
/** Host pages for a connector: fewer than what it stores, so that it forgets some as well. */
const HOST_PAGES_SHARE = 0.25;
/** Tokens more than the steps need: those admitted first begin before the last ones are in. */
const SLACK = 256;

/** Times in microseconds. */
interface StepCost {
  readonly running: number;
  readonly blocks: number;
  /** `-` = a pool that is empty at first, `none` = a full one without connectors. */
  readonly connector: string;
  readonly steps: number;
  readonly schedule_p50: number;
  readonly commit_p50: number;
  readonly both_p50: number;
  readonly both_p99: number;
  /** Beside the median: what a connector does once in several steps counts here. */
  readonly both_mean: number;
  /** Idle time of the device's thread between two queued steps. */
  readonly gap_p50: number;
  readonly gap_p99: number;
}

const command: CommandDef = defineOurCommand("bench scheduler", async ({ values, log }) => {
  const steps: StepCost[] = [];
  const { explain: explains } = values;
  for (const running of values.numRunning) {
    log.debug(`${running} running requests: ${values.numSteps} steps`);
    const blocks = blocksOf(running, values.numSteps);
    steps.push(
      await measureSteps({ ...EMPTY, explains, running, blocks, numSteps: values.numSteps }),
    );
  }
  const most = steps.at(-1);
  if (most !== undefined) {
    const { running, blocks } = most;
    const all = { ...EMPTY, explains, running, numSteps: values.numSteps };
    // The same work in a pool ten times as large.
    steps.push(await measureSteps({ ...all, blocks: blocks * 10 }));
    if (values.kvConnector.length > 0) {
      const full = { ...all, isFull: true, blocks: Math.max(FULL_POOL, blocks) };
      steps.push(await measureSteps({ ...full, connector: "none" }));
      const config = engineConfig("", values);
      const host = await openConnectors(config, {
        hookWord: createHookWord(),
        now: () => performance.now(),
        log: (level, message) => log[level](message),
        onStrayError: (thrown) => log.error(thrown),
      });
      const connector = values.kvConnector.join(" ");
      steps.push(await measureSteps({ ...full, connector, connectors: { config, host } }));
    }
  }
  const hash = measureHash();
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ version: VERSION, steps, hash_ns_per_block: hash }, null, 2)}\n`
      : report(steps, hash),
  );
  return EXIT.ok;
});

interface Measurement {
  readonly running: number;
  readonly blocks: number;
  readonly numSteps: number;
  /** Whether all blocks hold content when measuring begins, so that each one handed out is an eviction. */
  readonly isFull: boolean;
  /** Whether what explanations need is remembered. */
  readonly explains: boolean;
  readonly connector: string;
  readonly connectors?: { readonly config: EngineConfig; readonly host: ConnectorHost };
}

const EMPTY: Pick<Measurement, "isFull" | "connector"> = { isFull: false, connector: "-" };

/** Blocks that the running requests need, the null block included. */
function blocksOf(numRunning: number, numSteps: number): number {
  const length = PROMPT_TOKENS + WARM_UP + numSteps + SLACK;
  return 1 + numRunning * Math.ceil(length / BLOCK_SIZE);
}

async function measureSteps(measurement: Measurement): Promise<StepCost> {
  const { running: numRunning, blocks: numBlocks, numSteps } = measurement;
  const { isFull, explains, connector, connectors } = measurement;
  const maxModelLen = Math.max(FILLER_TOKENS + 1, PROMPT_TOKENS + WARM_UP + numSteps + SLACK);
  const groups = [{ layers: 1, numKvHeads: 1, headDim: 16, kind: "full" as const, window: 0 }];
  const maxNumBatchedTokens = Math.max(512, numRunning);
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
  const hostPages = Math.ceil(numBlocks * HOST_PAGES_SHARE);
  const started =
    connectors === undefined
      ? undefined
      : startConnectors({ ...connectors.config, kvOffloadSize: hostPages }, connectors.host, {
          openTransfers: (hostPages, onResults) =>
            runner.openTransfers(
              {
                hostPages,
                threads: 1,
                fileThreads: 1,
                checksums: true,
                storeShare: connectors.config.kvOffloadStoreShare,
                linkBytesPerSecond: connectors.config.kvOffloadLink,
                guardSteps: false,
                manual: false,
              },
              onResults,
            ),
          // So that the size is a number of pages.
          pageBytes: 1,
          pageLayout: "",
          memoryAvailable,
          onNews: () => {},
          log: () => {},
        });
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
      ...(started === undefined ? {} : { createConnectors: started.create }),
      ...(explains ? { createLog: (kv: KvCache) => new Explainer(kv, { now: epochMs }).log } : {}),
    },
  );
  if (isFull) await fillPool(scheduler, runner, numBlocks);
  for (let handle = 0; handle < numRunning; handle++) {
    const sampling: SamplingParams = {
      ...DEFAULT_SAMPLING,
      seed: [handle, 0],
      maxTokens: numSteps + WARM_UP + SLACK,
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
  await started?.transfers.stop(1000);
  await runner.stop();
  return { running: numRunning, blocks: numBlocks, connector, steps: numSteps, ...costs };
}

/** Serves prompts that have nothing in common until each block has held one. */
async function fillPool(
  scheduler: Scheduler,
  runner: NativeRunner,
  numBlocks: number,
): Promise<void> {
  const numPrompts = Math.ceil((numBlocks * BLOCK_SIZE) / FILLER_TOKENS) + 1;
  for (let i = 0; i < numPrompts; i++) {
    const promptTokenIds = Int32Array.from(
      { length: FILLER_TOKENS },
      (_, at) => (at * 31 + i * 7919) % VOCABULARY,
    );
    scheduler.add(-1 - i, {
      id: `filler-${i}`,
      promptTokenIds,
      sampling: DEFAULT_SAMPLING,
      arrivalTime: 0,
      priority: 0,
    });
  }
  while (scheduler.numUnfinished > 0) {
    for (;;) {
      const batch = runner.queued < 2 ? scheduler.schedule() : undefined;
      if (batch === undefined) break;
      runner.submit(batch);
    }
    if (runner.queued > 0) scheduler.commit(await runner.next());
  }
}

async function runSteps(
  scheduler: Scheduler,
  runner: NativeRunner,
  numRunning: number,
  numSteps: number,
): Promise<Omit<StepCost, "running" | "blocks" | "connector" | "steps">> {
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
    both_mean: mean(both ?? []),
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
  const heads = [
    "running",
    "blocks",
    "connector",
    "schedule",
    "commit",
    "both",
    "both p99",
    "both mean",
    "gap",
    "gap p99",
  ];
  const rows = steps.map((one) => [
    String(one.running),
    String(one.blocks),
    one.connector,
    ...[
      one.schedule_p50,
      one.commit_p50,
      one.both_p50,
      one.both_p99,
      one.both_mean,
      one.gap_p50,
      one.gap_p99,
    ].map((micros) => micros.toFixed(1)),
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
