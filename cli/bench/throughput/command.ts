/** `kvengine bench throughput`: a workload straight into the engine, as fast as it goes. */

import type { CommandDef } from "citty";
import { DEFAULT_MODEL } from "../../../engine/hub/resolve.ts";
import { exitCode } from "../exit-code.ts";
import { listenForInterrupt } from "../interrupt.ts";
import { runOffline } from "./offline-run.ts";
import { type BenchParts, PARTS } from "../parts.ts";
import { loadPlan } from "../plan.ts";
import { createRunDisplay } from "../progress.ts";
import { defineOurCommand } from "../../command.ts";
import { EXIT } from "../../output.ts";
import { openSession } from "../../session.ts";

export function benchThroughputCommand(parts: BenchParts): CommandDef {
  return defineOurCommand("bench throughput", async ({ values, positionals, log }) => {
    loadPlan(values);
    const report = parts.reporter(values, log);
    const session = await openSession(positionals[0] ?? DEFAULT_MODEL, values, log);
    try {
      using interrupt = listenForInterrupt(() =>
        log.info("ending; what was measured is kept, and once more ends at once"),
      );
      const { seed } = values;
      const workload = await parts.makeWorkload(values, { seed }, session.tokenizer);
      const run = await runOffline(session, workload, loadPlan(values, workload.clients), {
        label: values.label || "kvengine",
        values,
        signal: interrupt.signal,
        observer: createRunDisplay(values.progress),
      });
      const outcome = { runs: [run], sides: [] };
      const code = await report(outcome);
      return interrupt.signal.aborted ? EXIT.interrupted : exitCode(outcome, code);
    } finally {
      await session.client.shutdown(0);
    }
  });
}

const command: CommandDef = benchThroughputCommand(PARTS);
export default command;
