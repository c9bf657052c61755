/** `kvengine bench engine`: rates of the whole engine without HTTP, by the definitions of llama-bench and llama-batched-bench. */

import { availableParallelism, loadavg } from "node:os";
import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import { peakBlocks } from "../../../engine/cache/block-group.ts";
import type { EngineClient } from "../../../engine/engine-client.ts";
import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { openSession, type Session } from "../../session.ts";
import { checkGrid, gridOf, type GridLimits, rowOf, type Test } from "./grid.ts";
import { isaOf, LimitMeter } from "./limits.ts";
import { findLlamaCpp, runLlamaCpp } from "./llama-cpp.ts";
import type { LlamaCpp } from "./llama-cpp-programs.ts";
import { Measurer } from "./measure.ts";
import { renderReport, type Report } from "./report.ts";
import { profileOf } from "./profile.ts";
import { Results } from "./results.ts";
import { type ModelWork, workOf } from "./work.ts";

const command: CommandDef = defineOurCommand(
  "bench engine",
  async ({ values, positionals, log }) => {
    const report = await benchEngine(positionals[0] ?? "", values, log);
    process.stdout.write(renderReport(report, values.json ? "json" : values.output));
    return EXIT.ok;
  },
);

/** Measures the grid that the options ask for. Throws `bad_config` for what cannot be measured, before it is. */
export async function benchEngine(
  spec: string,
  values: OptionValues,
  log: ConsolaInstance,
): Promise<Report> {
  const tests = gridOf(values);
  if (tests.length === 0 && !values.limits) {
    throw new KvEngineError("bad_config", "there is nothing to measure", {
      subject: "--n-prompt",
      hint: "give a length above 0 with -p, -n, -pg or -npl, or --limits",
    });
  }
  warnOfOthers(log);
  const folder = await findLlamaCpp(values.peer, tests);
  const session = await openSession(spec, engineValues(values, tests), log);
  const { client, model } = session;
  try {
    checkGrid(tests, gridLimits(session));
    const { modelName, backend, threads, kvBytes, numBlocks, blockSize } = client.info;
    // The null block has a page too.
    const work = workOf(model, kvBytes / (numBlocks + 1) / blockSize);
    const meter = values.limits ? createMeter(session, work) : undefined;
    const peer = folder === undefined ? undefined : { folder, modelPath: model.path, threads };
    const results = await measure(session, tests, values, meter, peer, log);
    const setting = {
      ...{ model: modelName, backend, threads, work },
      maxBatchedTokens: values.maxNumBatchedTokens,
    };
    return {
      modelSize: model.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0),
      modelParameters: model.tensors.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
      results: results.rows(tests, setting),
      limits: meter?.table(),
    };
  } finally {
    await client.shutdown(0);
  }
}

/** Rates of a machine that has other work are those of the other work. */
function warnOfOthers(log: ConsolaInstance): void {
  const [load = 0] = loadavg();
  const cores = availableParallelism();
  if (load > cores / 2) {
    log.warn(
      `this machine is busy (load ${load.toFixed(1)} on ${cores} cores in the last minute): rates will be low and uncertain`,
    );
  }
}

/** As many sequences as the widest test has, and prompts that take whole steps: nobody's stream is to be protected. */
function engineValues(values: OptionValues, tests: readonly Test[]): OptionValues {
  const parallel = tests.map((test) => (test.kind === "parallel" ? test.nParallel : 1));
  return { ...values, maxNumSeqs: Math.max(values.maxNumSeqs, ...parallel), tpotSlo: 0 };
}

function gridLimits({ client }: Session): GridLimits {
  const { maxModelLen, blockSize, groups, maxInFlightTokens, numBlocks } = client.limits;
  return {
    ...{ maxModelLen, blockSize, numBlocks },
    enablePrefixCaching: client.info.enablePrefixCaching,
    blocksOf: (numTokens) => peakBlocks(groups, blockSize, numTokens, maxInFlightTokens),
  };
}

function createMeter({ client }: Session, work: ModelWork): LimitMeter {
  const { backend, threads } = client.info;
  const isa = isaOf(backend);
  if (isa === undefined) {
    throw new KvEngineError("bad_config", `the backend ${backend} has no limits to measure`, {
      subject: "--limits",
      hint: "use the cpu backend",
    });
  }
  return new LimitMeter(isa, threads, work);
}

/**
 * Without a peer each test has all its runs in a row, after one that is not counted. With a peer there are rounds, in which
 * each side runs every test once, after one run that is not counted; which side is first swaps from round to round.
 */
async function measure(
  { client }: Session,
  tests: readonly Test[],
  { repetitions, profile }: OptionValues,
  meter: LimitMeter | undefined,
  peer: LlamaCpp | undefined,
  log: ConsolaInstance,
): Promise<Results> {
  const results = new Results();
  const measurer = new Measurer(client);
  const ours = async (runs: number): Promise<void> => {
    for (const test of tests) {
      log.debug(`${rowOf(test, "both").test}: ${runs} runs`);
      await measurer.run(test);
      for (let run = 0; run < runs; run++) {
        const peaks = meter?.peaks();
        for (const [part, ns] of await measurer.run(test))
          results.add(test, part, peaks === undefined ? { ns } : { ns, peaks }, new Date());
      }
    }
  };
  if (peer === undefined) {
    await ours(repetitions);
    if (profile) await addProfiles(client, tests, measurer, meter, results);
    return results;
  }
  const theirs = async (): Promise<void> => {
    for (const rate of await runLlamaCpp(peer, tests)) results.addPeer(rate);
  };
  for (let round = 0; round < repetitions; round++) {
    log.info(`round ${round + 1} of ${repetitions}`);
    const sides = [(): Promise<void> => ours(1), theirs];
    for (const side of round % 2 === 0 ? sides : sides.reverse()) await side();
  }
  if (profile) await addProfiles(client, tests, measurer, meter, results);
  return results;
}

/** One more run of each test, in which ops are measured: that costs time, so it counts for nothing else. */
async function addProfiles(
  client: EngineClient,
  tests: readonly Test[],
  measurer: Measurer,
  meter: LimitMeter | undefined,
  results: Results,
): Promise<void> {
  for (const test of tests) {
    const peaks = meter?.peaks();
    await client.takeProfile(true);
    await measurer.run(test, async (part) => {
      results.addProfile(test, part, profileOf(await client.takeProfile(true), peaks));
    });
    await client.takeProfile(false);
  }
}

export default command;
