/** `kvengine bench throughput`: a workload straight into the engine, as fast as it goes. */

import type { CommandDef } from "citty";
import type { OptionValues } from "../engine/config.ts";
import { DEFAULT_MODEL } from "../engine/hub/resolve.ts";
import { exitCode } from "./bench/exit-code.ts";
import { listenForInterrupt } from "./bench/interrupt.ts";
import { REAL_CLOCK } from "./bench/load/clock.ts";
import { type OfflineEngine, offlineSend } from "./bench/offline.ts";
import { type BenchParts, PARTS } from "./bench/parts.ts";
import { loadPlan } from "./bench/plan.ts";
import { createRunDisplay } from "./bench/progress.ts";
import { measure, warmUp } from "./bench/run-once.ts";
import type { Prompt, Run } from "./bench/types.ts";
import { runWarnings } from "./bench/warnings.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";
import { chatPrompt, openSession, samplingOf, type Session } from "./session.ts";
import { VERSION } from "./version.ts";

export function benchThroughputCommand(parts: BenchParts): CommandDef {
  return defineOurCommand("bench throughput", async ({ values, positionals, log }) => {
    loadPlan(values);
    const report = parts.reporter(values, log);
    const session = await openSession(positionals[0] ?? DEFAULT_MODEL, values, log);
    try {
      using interrupt = listenForInterrupt(() =>
        log.info("ending; what was measured is kept, and once more ends at once"),
      );
      const run = await runOffline(session, values, parts, interrupt.signal);
      const outcome = { runs: [run], sides: [] };
      const code = await report(outcome);
      return interrupt.signal.aborted ? EXIT.interrupted : exitCode(outcome, code);
    } finally {
      await session.client.shutdown(0);
    }
  });
}

async function runOffline(
  session: Session,
  values: OptionValues,
  parts: BenchParts,
  signal: AbortSignal,
): Promise<Run> {
  const { client, tokenizer } = session;
  const workload = await parts.makeWorkload(values, { seed: values.seed }, tokenizer);
  const plan = loadPlan(values, workload.clients);
  const send = offlineSend(engineOf(session), samplingOf(values, session, 0));
  const label = values.label || "kvengine";
  const { numWarmups } = values;
  await warmUp(send, workload, plan, REAL_CLOCK, { numWarmups, signal });
  await client.resetPrefixCache();
  const observer = createRunDisplay(values.progress);
  const measured = await measure(label, send, workload, plan, REAL_CLOCK, { signal, observer });
  return {
    label,
    workload: { name: workload.name, seed: workload.seed, parameters: workload.parameters },
    load: plan,
    target: {
      baseUrl: "this process",
      model: client.info.modelName,
      server: `kvengine ${VERSION}, ${client.info.backend}`,
    },
    cacheState: "cold",
    ...measured,
    warnings: runWarnings(workload, measured.records),
    counters: {},
  };
}

function engineOf(session: Session): OfflineEngine {
  const { client, tokenizer, special } = session;
  return {
    client,
    endIds: special.endIds,
    encode: (prompt) => encode(session, prompt),
    decode: (tokenIds) => tokenizer.decode(tokenIds),
  };
}

/** As the server does it. */
function encode(session: Session, prompt: Prompt): Int32Array {
  switch (prompt.kind) {
    case "tokens":
      return Int32Array.from(prompt.tokenIds);
    case "text":
      return session.tokenizer.encode(prompt.text, { parseSpecial: true, addSpecial: true });
    case "chat":
      return chatPrompt(session, prompt.messages);
  }
}

const command: CommandDef = benchThroughputCommand(PARTS);
export default command;
