/** One run of a workload against one side, from an idle server to a `Run`. */

import { HttpClient } from "./http/http-client.ts";
import { counterDifferences, readCounters } from "./http/counters.ts";
import { prepareCache } from "./cache-state.ts";
import { watchClientCost } from "./client-cost.ts";
import { runLoad, type LoadResult } from "./load/run-load.ts";
import { SaturationMonitor } from "./load/saturation.ts";
import type { Send } from "./load/send.ts";
import type { RunOptions } from "./run-options.ts";
import { openSide, type OpenSide } from "./servers/open-side.ts";
import type { Side } from "./servers/side.ts";
import type { ClientCost, Clock, LoadPlan, Run, Workload } from "./types.ts";
import { runWarnings } from "./warnings.ts";
import { warmUpConversations, warmUpPlan } from "./warm-up.ts";

export type RunOnce = (
  side: Side,
  workload: Workload,
  plan: LoadPlan,
  clock: Clock,
) => Promise<Run>;

/**
 * Runs that stand on their own, for drivers that take sides in turn: a server that the bench starts is started for the run and
 * stopped after it. Rejects with what made the run impossible; an interrupt or a server that dies leaves a `Run` that says so.
 */
export function createRunOnce(options: RunOptions): RunOnce {
  return async (side, workload, plan, clock) => {
    const open = await openSide(side, options);
    try {
      return await runOn(open, workload, plan, clock, options);
    } finally {
      await open.close();
    }
  };
}

/** A run on a server that is there. Runs on the same one must follow each other. */
export async function runOn(
  open: OpenSide,
  workload: Workload,
  plan: LoadPlan,
  clock: Clock,
  options: RunOptions,
): Promise<Run> {
  const { target } = open;
  const client = new HttpClient(
    {
      baseUrl: target.baseUrl,
      headers: target.headers,
      body: {
        model: target.model,
        kind: target.kind,
        countChunks: options.countChunks,
        extra: options.extraBody,
      },
      patience: options.patience,
      countTokens: options.countTokens,
    },
    clock,
  );
  try {
    await warmUp(client.send, workload, plan, clock, options);
    const cache = await prepareCache(open, options.cacheState, () =>
      fill(client.send, workload, plan, clock, options),
    );
    const before = await readCounters(target);
    const measured = await measure(open.label, client.send, workload, plan, clock, options);
    const after = await readCounters(target);
    return {
      label: open.label,
      workload: { name: workload.name, seed: workload.seed, parameters: workload.parameters },
      load: plan,
      target: {
        baseUrl: target.baseUrl,
        model: target.model,
        server: target.server,
        ...(open.command === undefined ? {} : { command: open.command }),
      },
      cacheState: cache.state,
      ...measured,
      warnings: [...cache.warnings, ...runWarnings(workload, measured.records)],
      counters: counterDifferences(before, after),
    };
  } finally {
    client.close();
    open.used = true;
  }
}

type Measured = LoadResult & Pick<Run, "startedAt" | "client">;

/** The load with all that is watched beside it. */
export async function measure(
  label: string,
  send: Send,
  workload: Workload,
  plan: LoadPlan,
  clock: Clock,
  { signal, observer, saturation }: Pick<RunOptions, "signal" | "observer" | "saturation">,
): Promise<Measured> {
  const numRequests = workload.conversations.reduce((sum, { turns }) => sum + turns.length, 0);
  observer?.begin(label, numRequests);
  const startedAt = new Date().toISOString();
  const endWatch = watchClientCost();
  let client: ClientCost;
  let result: LoadResult;
  try {
    result = await runLoad(workload, plan, {
      clock,
      send,
      signal,
      saturation: saturation === undefined ? undefined : new SaturationMonitor(saturation),
      onSent: () => observer?.sent(),
      onRecord: (record) => observer?.ended(record),
    });
  } finally {
    client = endWatch();
    observer?.end();
  }
  return { ...result, startedAt, client };
}

export async function warmUp(
  send: Send,
  workload: Workload,
  plan: LoadPlan,
  clock: Clock,
  { numWarmups, signal }: Pick<RunOptions, "numWarmups" | "signal">,
): Promise<void> {
  const conversations = warmUpConversations(workload, numWarmups);
  await runLoad({ conversations }, warmUpPlan(plan), { clock, send, signal });
}

/** Sends the workload once without measuring it, so that a prefix cache has it. */
async function fill(
  send: Send,
  workload: Workload,
  plan: LoadPlan,
  clock: Clock,
  { signal }: RunOptions,
): Promise<void> {
  const conversations = workload.conversations.map(({ id, turns }) => ({ id, turns }));
  await runLoad({ conversations }, warmUpPlan(plan), { clock, send, signal });
}
