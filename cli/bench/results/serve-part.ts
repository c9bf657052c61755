/** A served workload of the page: kvengine, and llama-server where it is a peer, in turns, a round at a time. */

import type { ConsolaInstance } from "consola";
import { z } from "zod";
import type { OptionValues } from "../../../engine/config.ts";
import { resolveConfig } from "../../../engine/config-values.ts";
import { parseCommandLine } from "../../flags.ts";
import { openModel } from "../../session.ts";
import { compareSides } from "../ab/comparison.ts";
import { interleave } from "../ab/interleave.ts";
import { rowOfResult } from "../ab/result-file.ts";
import { REAL_CLOCK } from "../load/clock.ts";
import { summarize } from "../metrics/summary.ts";
import { PARTS } from "../parts.ts";
import { loadPlan } from "../plan.ts";
import { createRunDisplay } from "../progress.ts";
import { describeLoad, describeWorkload } from "../report/format.ts";
import { runResult } from "../report/run-result.ts";
import { createRunOnce } from "../run-once.ts";
import { runOptions } from "../serve/run-options.ts";
import { kvengineServer, type Peers, peerServer, type Side } from "../servers/side.ts";
import { splitWords } from "../servers/words.ts";
import type { Run } from "../types.ts";
import { withoutFolders } from "./machine.ts";
import type { ServedSession, ServedSide } from "./page.ts";
import { LLAMA_SERVER_FLAGS, type ServedWorkload } from "./served-workloads.ts";

export interface SessionData {
  /** Workload and load, in words. */
  readonly setting: string;
  readonly sides: readonly ServedSide[];
  /** vLLM's keys, as `--save-result` writes them; in the order in which they ran. */
  readonly results: readonly Readonly<Record<string, unknown>>[];
}

const SESSION: z.ZodType<SessionData> = z.object({
  setting: z.string(),
  sides: z.array(z.object({ label: z.string(), server: z.string(), command: z.array(z.string()) })),
  results: z.array(z.record(z.string(), z.unknown())),
});

export interface ServeSetting {
  /** File of the model. */
  readonly model: string;
  readonly values: OptionValues;
  readonly peers: Peers;
  readonly signal: AbortSignal;
}

/** Undefined for what is no session. */
export function readSession(data: unknown): SessionData | undefined {
  const session = SESSION.safeParse(data);
  return session.success ? session.data : undefined;
}

export function roundsOf({ results, sides }: SessionData): number {
  return Math.floor(results.length / sides.length);
}

/** llama-server first: the ratios are kvengine's to it. */
export function sidesOf({ model, values, peers }: ServeSetting): readonly Side[] {
  const own = [...engineFlags(values), ...splitWords(values.serverArgs, "--server-args")];
  const kvengine = { label: "kvengine", server: kvengineServer(model, own) };
  if (!peers.has("llama-server")) return [kvengine];
  const flags = [...LLAMA_SERVER_FLAGS, ...threadFlags(values)];
  return [
    { label: "llama-server", server: peerServer("llama-server", model, flags, peers) },
    kvengine,
  ];
}

function engineFlags(values: OptionValues): string[] {
  const { device, backend, isa } = values;
  return ["--device", device, "--backend", backend, "--isa", isa, ...threadFlags(values)];
}

/** The same word for both. */
function threadFlags({ threads }: OptionValues): string[] {
  return threads === 0 ? [] : ["-t", String(threads)];
}

/** Runs one more round and adds it. Rejects with what made a run impossible, or did not let it end. */
export async function runRound(
  { flags }: ServedWorkload,
  setting: ServeSetting,
  before: SessionData | undefined,
  log: ConsolaInstance,
): Promise<SessionData> {
  const line = parseCommandLine("bench serve", splitWords(flags, "workload"), []);
  const { values } = resolveConfig("bench serve", { flags: line.flags, env: {} });
  const { tokenizer } = await openModel(setting.model, setting.values, log);
  const workload = await PARTS.makeWorkload(values, { seed: values.seed }, tokenizer);
  const plan = loadPlan(values, workload.clients);
  const sides = sidesOf(setting);
  const run = createRunOnce({
    ...runOptions(
      { ...values, readyCheckTimeoutSec: setting.values.readyCheckTimeoutSec },
      {
        signal: setting.signal,
        observer: createRunDisplay(setting.values.progress),
        countTokens: (text) => tokenizer.encode(text, { parseSpecial: true }).length,
      },
    ),
    numWarmups: 1,
  });
  const session = await interleave({
    ...{ numSides: sides.length, rounds: 1, warmUps: 0, signal: setting.signal },
    firstRound: before === undefined ? 0 : roundsOf(before),
    runOnce: ({ side }) => run(sides[side] as Side, workload, plan, REAL_CLOCK),
  });
  if ("stopped" in session) throw session.stopped;
  setting.signal.throwIfAborted();
  const runs = session.runs.map(({ result }) => result);
  return {
    setting: `${describeWorkload(workload)}; ${describeLoad(plan)}; prefix cache before each run: ${runs[0]?.cacheState}.`,
    sides: sides.map(({ label }) => sideData(label, runs)),
    results: [...(before?.results ?? []), ...runs.map(resultOf)],
  };
}

function sideData(label: string, runs: readonly Run[]): ServedSide {
  const run = runs.find((one) => one.label === label);
  const { server = "unknown", command = [] } = run?.target ?? {};
  return { label, server, command: withoutFolders(command) };
}

function resultOf(run: Run): Record<string, unknown> {
  const command = run.target.command === undefined ? null : withoutFolders(run.target.command);
  return { ...runResult({ run, summary: summarize(run) }), command };
}

export function sessionForPage(title: string, data: SessionData): ServedSession {
  const rows = data.results.map((result) => rowOfResult(result, title));
  const sides = data.sides.map(({ label }) => ({
    label,
    runs: rows.filter((row) => row.label === label),
  }));
  const [first, ...others] = sides.filter(({ runs }) => runs.length > 0);
  return {
    title,
    setting: data.setting,
    sides: data.sides,
    comparisons: first === undefined ? [] : others.map((other) => compareSides(first, other)),
    runs: rows.map(({ label, metrics, conditions }) => ({
      label,
      metrics,
      cacheState: conditions["cache_state"] ?? "",
    })),
  };
}
