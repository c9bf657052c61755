/**
 * The scenario `restart` of `bench kv`: how soon the first token of a prompt comes from a server that was started on a folder with the
 * prompt's KV, and from one that was started on an empty folder. A run is a server of its own: its files are dropped from the page cache,
 * it is started, and once it is ready it is asked for some prompts, one at a time.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError, toKvEngineError } from "../../../engine/errors.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import { interleave } from "../ab/interleave.ts";
import { keptRuns } from "../ab/kept-runs.ts";
import { createWorkload } from "../datasets/registry.ts";
import { control } from "../http/control.ts";
import { REAL_CLOCK } from "../load/clock.ts";
import type { BenchOutcome } from "../parts.ts";
import { createRunDisplay } from "../progress.ts";
import { runOn } from "../run-once.ts";
import type { RunOptions } from "../run-options.ts";
import { runOptions } from "../serve/run-options.ts";
import { openSide, type OpenSide } from "../servers/open-side.ts";
import { kvengineServer } from "../servers/side.ts";
import { splitWords } from "../servers/words.ts";
import type { LoadPlan, Run, Workload } from "../types.ts";
import { DiskFolders, dropFromPageCache } from "./disk-folders.ts";
import { kvFindings } from "./findings.ts";
import { wantedEvictions } from "./scenarios.ts";

/** In this order: the second one is to be sooner. */
const SIDES = ["cold", "restart"] as const;
const ONE_AT_A_TIME = { requestRate: Infinity, burstiness: 1, maxConcurrency: 1 } as const;
const POLL_MS = 250;
const QUIET_POLLS = 6;

interface Restart {
  readonly model: string;
  readonly flags: readonly string[];
  readonly workload: Workload;
  readonly plan: LoadPlan;
  readonly options: RunOptions;
  readonly folders: DiskFolders;
  readonly log: ConsolaInstance;
}

export async function benchRestart(
  model: string,
  values: OptionValues,
  tokenizer: Tokenizer,
  signal: AbortSignal,
  log: ConsolaInstance,
): Promise<BenchOutcome> {
  using folders = new DiskFolders(values.kvDiskPath);
  const restart: Restart = {
    ...{ model, folders, log },
    flags: splitWords(values.serverArgs, "--server-args"),
    workload: promptsOf(values, tokenizer),
    plan: { ...ONE_AT_A_TIME, durationMs: Infinity, seed: values.seed },
    options: {
      ...runOptions(values, { signal, observer: createRunDisplay(values.progress) }),
      // What is there at the start is what is measured.
      ...{ numWarmups: 0, cacheState: "auto" },
    },
  };
  const filled = await folders.make();
  await fill(restart, filled, signal);
  const interleaved = await interleave({
    numSides: SIDES.length,
    rounds: values.abRounds,
    warmUps: values.abWarmups,
    signal,
    runOnce: ({ side }) => runSide(restart, side, filled),
  });
  const reason = signal.aborted
    ? "it was interrupted"
    : toKvEngineError(interleaved.stopped).message;
  const { runs, warnings } = keptRuns(interleaved, SIDES.length, reason);
  const compared = SIDES.map((name) => ({
    ...{ name, flags: values.serverArgs, keepsBelow: name === "restart" },
  }));
  const kv = kvFindings(compared, runs, undefined, wantedEvictions("restart"));
  return { runs, sides: SIDES, warnings, kv };
}

/** Prompts that share nothing, and one token of an answer. */
function promptsOf(values: OptionValues, tokenizer: Tokenizer): Workload {
  const options = {
    ...values,
    numPrompts: values.restartNumPrompts,
    randomInputLen: values.restartPromptLen,
    ...{ randomOutputLen: 1, randomRangeRatio: 0, randomPrefixLen: 0 },
  };
  return createWorkload("random", options, tokenizer, undefined);
}

/** A server that has the prompts is stopped once they lie on the disk. */
async function fill(restart: Restart, folder: string, signal: AbortSignal): Promise<void> {
  const { workload, plan, options, log } = restart;
  log.info(`filling ${folder}`);
  const open = await openOn(restart, "fill", folder);
  try {
    const { records } = await runOn(open, workload, plan, REAL_CLOCK, options);
    const failed = records.find(({ outcome }) => outcome !== "ok");
    if (failed !== undefined)
      throw new KvEngineError("unavailable", `a prompt failed: ${failed.error ?? "no answer"}`);
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(options.readyTimeoutMs)]);
    await untilStored(open, deadline);
  } finally {
    await open.close();
  }
}

async function runSide(restart: Restart, side: number, filled: string): Promise<Run> {
  const { folders, workload, plan, options, log } = restart;
  const isCold = side === 0;
  const folder = isCold ? await folders.make() : filled;
  if (!(await dropFromPageCache(folder)))
    log.warn("files cannot be dropped from the page cache here: they may be read from memory");
  const open = await openOn(restart, SIDES[side] ?? "", folder);
  try {
    return await runOn(open, workload, plan, REAL_CLOCK, options);
  } finally {
    await open.close();
    if (isCold) folders.remove(folder);
  }
}

function openOn(
  { model, flags, options }: Restart,
  label: string,
  path: string,
): Promise<OpenSide> {
  const disk = ["--kv-connector", "cpu-offload", "--kv-disk-path", path];
  return openSide({ label, server: kvengineServer(model, [...disk, ...flags]) }, options);
}

/** Until nothing waits to be written and pages lie there. Rejects with `unavailable` when `signal` aborts. */
async function untilStored({ target }: OpenSide, signal: AbortSignal): Promise<void> {
  let before = -1;
  for (let quiet = 0; quiet < QUIET_POLLS;) {
    const { text } = await control(target, "GET", "/metrics");
    const pages = gauge(text, "kvengine_connector_tier_pages");
    const waiting = gauge(text, "kvengine_connector_tier_to_store");
    // Copies to the host go on while nothing runs: as many as before, for a while, means that there are no more.
    quiet = pages > 0 && waiting === 0 && pages === before ? quiet + 1 : 0;
    before = pages;
    if (signal.aborted)
      throw new KvEngineError("unavailable", "the prompts' KV is not on the disk in time", {
        hint: "a slow disk needs more time: --ready-check-timeout-sec",
      });
    await delay(POLL_MS);
  }
}

function gauge(metrics: string, name: string): number {
  const line = metrics
    .split("\n")
    .find((one) => one.startsWith(`${name}{`) && one.includes('tier="disk"'));
  return Number(line?.slice(line.lastIndexOf(" ") + 1) ?? 0);
}
