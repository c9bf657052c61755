/** A run of a workload on an engine in this process. */

import type { OptionValues } from "../../../engine/config.ts";
import { createMetrics } from "../../../engine/metrics.ts";
import { chatPrompt, samplingOf, type Session } from "../../session.ts";
import { VERSION } from "../../version.ts";
import { counterDifferences, parseCounters } from "../http/counters.ts";
import { REAL_CLOCK } from "../load/clock.ts";
import { type OfflineEngine, offlineSend } from "./offline.ts";
import { measure, warmUp } from "../run-once.ts";
import type { RunObserver } from "../run-options.ts";
import type { LoadPlan, Prompt, Run, Workload } from "../types.ts";
import { runWarnings } from "../warnings.ts";

export interface OfflineRunOptions {
  /** Of the run. */
  readonly label: string;
  readonly values: OptionValues;
  readonly signal: AbortSignal;
  readonly observer: RunObserver | undefined;
}

/** Warms up, empties the prefix cache, and sends the workload. */
export async function runOffline(
  session: Session,
  workload: Workload,
  plan: LoadPlan,
  { label, values, signal, observer }: OfflineRunOptions,
): Promise<Run> {
  const { client } = session;
  const send = offlineSend(engineOf(session), samplingOf(values, session, 0));
  // What `/metrics` would show, so that a run has the same counters with HTTP and without.
  const metrics = createMetrics(client, client.info.modelName);
  await warmUp(send, workload, plan, REAL_CLOCK, { numWarmups: values.numWarmups, signal });
  await client.resetPrefixCache();
  const before = parseCounters(await metrics.text());
  const measured = await measure(label, send, workload, plan, REAL_CLOCK, { signal, observer });
  const after = parseCounters(await metrics.text());
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
    counters: counterDifferences(before, after),
  };
}

function engineOf(session: Session): OfflineEngine {
  const { client, tokenizer, special } = session;
  return {
    client,
    endIds: special.endIds,
    encode: (prompt) => encodePrompt(session, prompt),
    decode: (tokenIds) => tokenizer.decode(tokenIds),
  };
}

/** As the server does it. */
export function encodePrompt(
  session: Pick<Session, "tokenizer" | "chatTemplate" | "special">,
  prompt: Prompt,
): Int32Array {
  switch (prompt.kind) {
    case "tokens":
      return Int32Array.from(prompt.tokenIds);
    case "text":
      return session.tokenizer.encode(prompt.text, { parseSpecial: true, addSpecial: true });
    case "chat":
      return chatPrompt(session, prompt.messages);
  }
}
