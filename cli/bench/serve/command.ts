/** `kvengine bench serve`: a workload against a server, one that runs already or one that is started for it. */

import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError, toKvEngineError } from "../../../engine/errors.ts";
import { DEFAULT_MODEL } from "../../../engine/hub/resolve.ts";
import type { Tokenizer } from "../../../engine/tokenizer/tokenizer.ts";
import { interleave } from "../ab/interleave.ts";
import { keptRuns } from "../ab/kept-runs.ts";
import { type Interrupt, listenForInterrupt } from "../interrupt.ts";
import { REAL_CLOCK } from "../load/clock.ts";
import { type BenchOutcome, type BenchParts, PARTS } from "../parts.ts";
import { loadPlan } from "../plan.ts";
import { createRunDisplay } from "../progress.ts";
import { createRunOnce, runOn, type RunOnce } from "../run-once.ts";
import type { RunOptions } from "../run-options.ts";
import { openSide } from "../servers/open-side.ts";
import type { Side } from "../servers/side.ts";
import { runOptions } from "./run-options.ts";
import { chooseSides } from "./sides.ts";
import { openTokenizer } from "./tokenizer.ts";
import { parseSloTargets, type SloTargets } from "../slo.ts";
import { rateSearch, runSloSearch } from "./slo-run.ts";
import type { Workload } from "../types.ts";
import { exitCode } from "../exit-code.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { findModel } from "../../session.ts";

/** All that a bench does, ready to begin. */
interface Bench {
  readonly values: OptionValues;
  readonly sides: readonly Side[];
  readonly targets: SloTargets;
  readonly options: RunOptions;
  readonly tokenizer: Tokenizer;
  readonly parts: BenchParts;
  readonly interrupt: Interrupt;
  readonly log: ConsolaInstance;
}

export function benchServeCommand(parts: BenchParts): CommandDef {
  return defineOurCommand("bench serve", async ({ values, positionals, log }) => {
    // What is wrong with the flags is said before anything is loaded or started.
    loadPlan(values);
    const targets = parseSloTargets(values.sloSearch, "--slo-search");
    const report = parts.reporter(values, log);
    const model = await modelPath(values, positionals[0], log);
    const sides = chooseSides(values, model);
    if (sides.length > 1 && Object.keys(targets).length > 0)
      throw new KvEngineError("bad_config", "--slo-search and --ab do not go together", {
        subject: "--slo-search",
        hint: "search each side by itself",
      });
    const tokenizer = await openTokenizer(values, model, log);
    using interrupt = listenForInterrupt(() =>
      log.info("ending; what was measured is kept, and once more ends at once"),
    );
    const options = runOptions(values, {
      signal: interrupt.signal,
      observer: createRunDisplay(values.progress),
      countTokens: (text) => tokenizer.encode(text, { parseSpecial: true }).length,
    });
    const bench = { values, sides, targets, options, tokenizer, parts, interrupt, log };
    try {
      const outcome = await runBench(bench);
      const code = await report(outcome);
      return interrupt.signal.aborted ? EXIT.interrupted : exitCode(outcome, code);
    } catch (thrown) {
      // Who interrupts before there is anything to report gets nothing else to read.
      if (interrupt.signal.aborted) return EXIT.interrupted;
      throw thrown;
    }
  });
}

/** The file of the model; undefined where none was named and a side is named otherwise, which may have any model. */
async function modelPath(
  values: OptionValues,
  spec: string | undefined,
  log: ConsolaInstance,
): Promise<string | undefined> {
  if (spec === undefined && (values.baseUrl !== "" || values.ab.length > 0)) return undefined;
  return findModel(spec ?? DEFAULT_MODEL, values, log);
}

async function runBench(bench: Bench): Promise<BenchOutcome> {
  if (Object.keys(bench.targets).length > 0) return searchSlo(bench);
  const { values, sides, parts, tokenizer } = bench;
  const workload = await parts.makeWorkload(values, { seed: values.seed }, tokenizer);
  const plan = loadPlan(values, workload.clients);
  const runOnce = createRunOnce(bench.options);
  const run = (side: Side): ReturnType<RunOnce> => runOnce(side, workload, plan, REAL_CLOCK);
  const [only, second] = sides;
  if (only === undefined) return { runs: [], sides: [] };
  if (second === undefined) return { runs: [await run(only)], sides: [] };
  return runInTurn(bench, run);
}

async function runInTurn(
  { values, sides, interrupt }: Bench,
  run: (side: Side) => ReturnType<RunOnce>,
): Promise<BenchOutcome> {
  const session = await interleave({
    numSides: sides.length,
    rounds: values.abRounds,
    warmUps: values.abWarmups,
    runOnce: ({ side }) => run(sides[side] as Side),
    signal: interrupt.signal,
  });
  const reason = interrupt.signal.aborted
    ? "it was interrupted"
    : toKvEngineError(session.stopped).message;
  return {
    sides: sides.map(({ label }) => label),
    ...keptRuns(session, sides.length, reason),
  };
}

function refuseTimed({ name, conversations }: Workload): void {
  if (conversations.every(({ at }) => at === undefined)) return;
  throw new KvEngineError("bad_config", `${name} has times of its own, so no rate can be tried`, {
    subject: "--slo-search",
    hint: "use --no-self-timed",
  });
}

async function searchSlo(bench: Bench): Promise<BenchOutcome> {
  const { values, sides, targets, options, tokenizer, parts } = bench;
  const [side] = sides;
  if (side === undefined) return { runs: [], sides: [] };
  const open = await openSide(side, options);
  try {
    const result = await runSloSearch({
      targets,
      values,
      run: async ({ rate, numPrompts, seed, saturation }) => {
        const workload = await parts.makeWorkload(values, { seed, numPrompts }, tokenizer);
        refuseTimed(workload);
        const plan = loadPlan({ ...values, requestRate: rate }, workload.clients);
        return runOn(open, workload, plan, REAL_CLOCK, { ...options, saturation });
      },
    });
    const best = result.best ?? result.limit;
    return {
      runs: best === undefined ? [] : [best.result],
      sides: [],
      search: rateSearch(result, targets, values.sloPercentile),
    };
  } finally {
    await open.close();
  }
}

const command: CommandDef = benchServeCommand(PARTS);
export default command;
