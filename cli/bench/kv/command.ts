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
import { namedConnectors } from "../../../engine/connectors/named-connectors.ts";
import { type BenchOutcome, PARTS } from "../parts.ts";
import { loadPlan } from "../plan.ts";
import { createRunDisplay } from "../progress.ts";
import type { LoadPlan, Run, Workload } from "../types.ts";
import { DiskFolders } from "./disk-folders.ts";
import { kvFindings } from "./findings.ts";
import { benchRestart } from "./restart.ts";
import { RUN_FOLDER, scenarioSides, wantedEvictions } from "./scenarios.ts";
import { type EngineSide, parseSides } from "./sides.ts";
import { type WorkingSet, workingSetOf } from "./working-set.ts";

/** Conversations at a time, where neither the load nor the data set says. */
const CLIENTS = 4;

const command: CommandDef = defineOurCommand("bench kv", async ({ values, positionals, log }) => {
  // What is wrong with the flags is said before anything is loaded.
  loadPlan(values);
  const report = PARTS.reporter(values, log);
  const { scenario } = values;
  for (const side of parseSides(values.side, values))
    checkConnectorFlags(side.values, process.cwd());
  const model = await openModel(positionals[0] ?? DEFAULT_MODEL, values, log);
  using interrupt = listenForInterrupt(() =>
    log.info("ending; what was measured is kept, and once more ends at once"),
  );
  const end = async (outcome: BenchOutcome): Promise<number> => {
    const code = await report(outcome);
    return interrupt.signal.aborted ? EXIT.interrupted : exitCode(outcome, code);
  };
  const { path } = model.model;
  if (scenario === "restart")
    return await end(await benchRestart(path, values, model.tokenizer, interrupt.signal, log));
  const workload = await PARTS.makeWorkload(values, { seed: values.seed }, model.tokenizer);
  const plan = loadPlan(values, workload.clients ?? CLIENTS);
  const encode = (prompt: Parameters<typeof encodePrompt>[1]): Int32Array =>
    encodePrompt(model, prompt);
  const workingSet = workingSetOf(workload, encode, values.blockSize);
  // There each run has a folder of its own below the one that is named.
  const diskless = { ...values, kvDiskPath: "" };
  const sides =
    scenario === "sides"
      ? parseSides(values.side, withPool(values, workingSet, plan))
      : scenarioSides(scenario, diskless, workingSet, plan, await pageBytesOf(path, diskless, log));
  log.info(`${workingSet.blocks} blocks of ${values.blockSize} tokens come again`);
  using folders = new DiskFolders(values.kvDiskPath);
  const session = { model: path, sides, workload, plan, workingSet, scenario, folders };
  return await end(await compare(session, interrupt, log));
});

/** Bytes of a KV block, as the engine has it. */
async function pageBytesOf(
  model: string,
  values: OptionValues,
  log: ConsolaInstance,
): Promise<number> {
  const { client } = await openSession(model, values, log);
  const { kvBytes, numBlocks } = client.info;
  await client.shutdown(0);
  return kvBytes / (numBlocks + 1);
}

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
  readonly scenario: OptionValues["scenario"];
  readonly folders: DiskFolders;
}

async function compare(
  session: KvSession,
  { signal }: Interrupt,
  log: ConsolaInstance,
): Promise<BenchOutcome> {
  const { sides, workingSet, scenario } = session;
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
    keepsBelow: namedConnectors(values).length > 0,
  }));
  return {
    runs,
    sides: sides.map(({ name }) => name),
    warnings,
    kv: kvFindings(compared, runs, workingSet.blocks, wantedEvictions(scenario)),
  };
}

async function runSide(
  { model, workload, plan, folders }: KvSession,
  { name, values: given }: EngineSide,
  signal: AbortSignal,
  log: ConsolaInstance,
): Promise<{ readonly run: Run; readonly numBlocks: number }> {
  // What a run leaves on a disk is not for the next one.
  const folder = given.kvDiskPath === RUN_FOLDER ? await folders.make() : undefined;
  const values = folder === undefined ? given : { ...given, kvDiskPath: folder };
  const session = await openSession(model, values, log);
  try {
    const observer = createRunDisplay(values.progress);
    const run = await runOffline(session, workload, plan, {
      ...{ label: name, values, signal, observer },
    });
    return { run, numBlocks: session.client.info.numBlocks };
  } finally {
    await session.client.shutdown(0);
    if (folder !== undefined) folders.remove(folder);
  }
}

export default command;
