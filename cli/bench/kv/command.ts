/**
 * `kvengine bench kv`: engines that keep KV differently, side by side on the same questions. Each run has an engine of its
 * own, runs take turns (a b b a), and there is no verdict where the caches were not put to the test or answers differ.
 */

import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { loadModel } from "../../../engine/models/registry.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { findModel } from "../../session.ts";
import { renderKvReport } from "./report.ts";
import { type KvRun, type Question, questionsOf, runQuestions } from "./run.ts";
import { parseSides, type Side } from "./sides.ts";
import { type SideRuns, verdictOf } from "./verdict.ts";
import { documentQuestions, workingSetBlocks } from "./workload.ts";

const command: CommandDef = defineOurCommand("bench kv", async ({ values, positionals, log }) => {
  // Before a model is looked for: what is wrong with the sides is wrong for every model.
  parseSides(values.side, values, "");
  const path = await findModel(positionals[0] ?? "", values, log);
  const model = await loadModel(path);
  const workload = documentQuestions(values, model.config.vocabSize);
  const questions = questionsOf(workload);
  const prompts = questions.map(({ promptTokenIds }) => promptTokenIds);
  const workingSet = workingSetBlocks(prompts, values.blockSize);
  const sides = parseSides(values.side, withPool(values, workingSet), path);
  log.info(
    `${questions.length} questions; ${workingSet} blocks of ${values.blockSize} tokens come again`,
  );
  const measured = await runSides(sides, questions, values, log);
  const verdict = verdictOf(measured, workingSet);
  process.stdout.write(
    renderKvReport(
      { model: model.name, workload, workingSet, sides: measured, verdict },
      values.json ? "json" : values.output,
    ),
  );
  return verdict.refusals.length === 0 ? EXIT.ok : EXIT.failed;
});

/** A pool of half of what comes again, unless the user says how large; at least what the clients hold, and the null block. */
function withPool(values: OptionValues, workingSet: number): OptionValues {
  if (values.numGpuBlocksOverride > 0 || values.kvCacheMemory > 0) return values;
  const length = values.documentLen + values.questionLen + values.answerLen;
  const held = values.numClients * Math.ceil(length / values.blockSize);
  return { ...values, numGpuBlocksOverride: 1 + Math.max(held, Math.floor(workingSet / 2)) };
}

async function runSides(
  sides: readonly Side[],
  questions: readonly Question[],
  { repetitions, numClients }: OptionValues,
  log: ConsolaInstance,
): Promise<SideRuns[]> {
  const runs = new Map<Side, KvRun[]>(sides.map((side) => [side, []]));
  for (let round = 0; round < repetitions; round++) {
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      log.info(`round ${round + 1} of ${repetitions}: ${side.name}`);
      runs.get(side)?.push(await runQuestions(side.config, questions, numClients));
    }
  }
  return sides.map((side) => ({ side, runs: runs.get(side) ?? [] }));
}

export default command;
