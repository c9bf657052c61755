/**
 * `kvengine bench kv`: engines that keep KV differently, side by side on the same workload. Each run has an engine of its own, in
 * this process; runs take turns (a b b a), and there is no verdict where the caches were not put to the test or answers differ.
 */

import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { checkConnectorFlags } from "../../../engine/connectors/load-connector.ts";
import { toKvEngineError } from "../../../engine/errors.ts";
import { DEFAULT_MODEL } from "../../../engine/hub/resolve.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { openModel, openSession } from "../../session.ts";
import { interleave } from "../ab/interleave.ts";
import { keptRuns } from "../ab/kept-runs.ts";
import { exitCode } from "../exit-code.ts";
import { type Interrupt, listenForInterrupt } from "../interrupt.ts";
import { encodePrompt, runOffline } from "../throughput/offline-run.ts";
import { type BenchOutcome, PARTS } from "../parts.ts";
import { loadPlan } from "../plan.ts";
import { createRunDisplay } from "../progress.ts";
import type { LoadPlan, Run, Workload } from "../types.ts";
import { kvFindings } from "./findings.ts";
import { type EngineSide, parseSides } from "./sides.ts";
import { type WorkingSet, workingSetOf } from "./working-set.ts";

/** Conversations at a time, where neither the load nor the data set says. */
const CLIENTS = 4;

const command: CommandDef = defineOurCommand("bench kv", async ({ values, positionals, log }) => {
  // What is wrong with the flags is said before anything is loaded.
  loadPlan(values);
  const report = PARTS.reporter(values, log);
  for (const side of parseSides(values.side, values))
    checkConnectorFlags(side.values, process.cwd());
  const model = await openModel(positionals[0] ?? DEFAULT_MODEL, values, log);
  const workload = await PARTS.makeWorkload(values, { seed: values.seed }, model.tokenizer);
  const plan = loadPlan(values, workload.clients ?? CLIENTS);
  const encode = (prompt: Parameters<typeof encodePrompt>[1]): Int32Array =>
    encodePrompt(model, prompt);
  const workingSet = workingSetOf(workload, encode, values.blockSize);
  const sides = parseSides(values.side, withPool(values, workingSet, plan));
  log.info(`${workingSet.blocks} blocks of ${values.blockSize} tokens come again`);
  using interrupt = listenForInterrupt(() =>
    log.info("ending; what was measured is kept, and once more ends at once"),
  );
  const session = { model: model.model.path, sides, workload, plan, workingSet };
  const outcome = await compare(session, interrupt, log);
  const code = await report(outcome);
  return interrupt.signal.aborted ? EXIT.interrupted : exitCode(outcome, code);
});

/** A pool of half of what comes again, unless the user says how large; at least what runs at a time, and the null block. */
function withPool(
  values: OptionValues,
  { blocks, longest }: WorkingSet,
  { maxConcurrency }: LoadPlan,
): OptionValues {
  if (values.numGpuBlocksOverride > 0 || values.kvCacheMemory > 0) return values;
  const running = longest * Math.min(maxConcurrency, values.maxNumSeqs);
  return { ...values, numGpuBlocksOverride: 1 + Math.max(running, Math.floor(blocks / 2)) };
}

interface KvSession {
  /** Its file. */
  readonly model: string;
  readonly sides: readonly EngineSide[];
  readonly workload: Workload;
  readonly plan: LoadPlan;
  readonly workingSet: WorkingSet;
}

async function compare(
  session: KvSession,
  { signal }: Interrupt,
  log: ConsolaInstance,
): Promise<BenchOutcome> {
  const { sides, workingSet } = session;
  const pools = new Map<string, number>();
  const { abRounds: rounds = 1, abWarmups: warmUps = 0 } = sides[0]?.values ?? {};
  const interleaved = await interleave({
    numSides: sides.length,
    rounds,
    warmUps,
    signal,
    runOnce: async ({ side: index }) => {
      const side = sides[index] as EngineSide;
      const { run, numBlocks } = await runSide(session, side, signal, log);
      pools.set(side.name, numBlocks);
      return run;
    },
  });
  const reason = signal.aborted
    ? "it was interrupted"
    : toKvEngineError(interleaved.stopped).message;
  const { runs, warnings } = keptRuns(interleaved, sides.length, reason);
  const compared = sides.map(({ name, flags, values }) => ({
    ...{ name, flags, numBlocks: pools.get(name) ?? 0 },
    keepsBelow: values.kvConnector.length > 0,
  }));
  return {
    runs,
    sides: sides.map(({ name }) => name),
    warnings,
    kv: kvFindings(compared, runs, workingSet.blocks),
  };
}

async function runSide(
  { model, workload, plan }: KvSession,
  { name, values }: EngineSide,
  signal: AbortSignal,
  log: ConsolaInstance,
): Promise<{ readonly run: Run; readonly numBlocks: number }> {
  const session = await openSession(model, values, log);
  try {
    const observer = createRunDisplay(values.progress);
    const run = await runOffline(session, workload, plan, {
      ...{ label: name, values, signal, observer },
    });
    return { run, numBlocks: session.client.info.numBlocks };
  } finally {
    await session.client.shutdown(0);
  }
}

export default command;
