/**
 * `kvengine bench results`: the grid of `bench engine` with the machine's limits, and served workloads, against llama.cpp where it is
 * given; all of it on one page. What was measured is kept in files, so that a session that was ended goes on with the next call.
 */

import { mkdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import type { CommandDef } from "citty";
import type { ConsolaInstance } from "consola";
import type { OptionValues } from "../../../engine/config.ts";
import { resolveConfig } from "../../../engine/config-values.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { DEFAULT_MODEL } from "../../../engine/hub/resolve.ts";
import { chooseBackend } from "../../../engine/runner/device.ts";
import { cudaStatus } from "../../../engine/runner/native.ts";
import { defineOurCommand } from "../../command.ts";
import { parseCommandLine } from "../../flags.ts";
import { EXIT } from "../../output.ts";
import { findModel } from "../../session.ts";
import { VERSION } from "../../version.ts";
import { benchEngine } from "../engine/command.ts";
import { engineSections, type Report } from "../engine/report.ts";
import { listenForInterrupt } from "../interrupt.ts";
import { type Peers, parsePeers } from "../servers/side.ts";
import { splitWords } from "../servers/words.ts";
import { describeMachine } from "./machine.ts";
import { resultsPage, type ServedSession } from "./page.ts";
import { begun, type Part, readPart, writePart } from "./part-file.ts";
import {
  readSession,
  roundsOf,
  runRound,
  type ServeSetting,
  sessionForPage,
} from "./serve-part.ts";
import { ENGINE_FLAGS, SERVED_WORKLOADS, type ServedWorkload } from "./served-workloads.ts";

const PEERS = ["llama.cpp", "llama-server"];

/** All that a session is made of. */
interface Results extends ServeSetting {
  readonly spec: string;
  /** What all parts were measured with; a part of another setting is measured anew. */
  readonly setting: string;
  readonly mayBegin: () => boolean;
  readonly log: ConsolaInstance;
}

const command: CommandDef = defineOurCommand(
  "bench results",
  async ({ values, positionals, log }) => {
    const peers = parsePeers(values.peer);
    for (const name of peers.keys()) if (!PEERS.includes(name)) throw unknownPeer(name);
    splitWords(values.serverArgs, "--server-args");
    const start = performance.now();
    const spec = positionals[0] ?? DEFAULT_MODEL;
    const model = await findModel(spec, values, log);
    using interrupt = listenForInterrupt(() =>
      log.info("ending; what was measured is kept, and once more ends at once"),
    );
    const { signal } = interrupt;
    const limitMs = (values.timeLimit || Number.POSITIVE_INFINITY) * 1000;
    const missing = await measureAndWrite({
      ...{ spec, model, values, peers, signal, log },
      setting: settingOf(model, values, peers),
      mayBegin: () => !signal.aborted && performance.now() - start < limitMs,
    });
    log.info(`the page is ${values.resultsPage}`);
    if (missing.length > 0) log.warn(`not measured yet: ${missing.join("; ")}`);
    if (signal.aborted) return EXIT.interrupted;
    return missing.length === 0 ? EXIT.ok : EXIT.failed;
  },
);

function unknownPeer(name: string): KvEngineError {
  return new KvEngineError("bad_config", `--peer: \`${name}\` has no place on the page`, {
    subject: "--peer",
    hint: `allowed are ${PEERS.join(" and ")}`,
  });
}

function settingOf(model: string, values: OptionValues, peers: Peers): string {
  const { device, backend, isa, threads, serverArgs } = values;
  return JSON.stringify({
    ...{ version: VERSION, model: basename(model), device, backend, isa, threads, serverArgs },
    peers: [...peers.keys()],
  });
}

/** Answers titles of what is missing. */
async function measureAndWrite(results: Results): Promise<readonly string[]> {
  const { values, model, peers, spec } = results;
  const missing: string[] = [];
  const parts: Part[] = [];
  const engine = await enginePart(results);
  if (engine === undefined) missing.push("engines without HTTP");
  else parts.push(engine);
  const served: ServedSession[] = [];
  for (const workload of SERVED_WORKLOADS) {
    const { session, part } = await servedPart(workload, results);
    if (session !== undefined) served.push(sessionForPage(workload.title, session));
    if (part !== undefined) parts.push(part);
    const rounds = session === undefined ? 0 : roundsOf(session);
    if (rounds < values.abRounds)
      missing.push(`${workload.title} (${rounds} of ${values.abRounds} rounds)`);
  }
  const text = resultsPage({
    version: VERSION,
    dates: parts.map(({ measuredAt }) => measuredAt).toSorted(),
    machine: { ...describeMachine(model, peers), ...otherWork(parts) },
    engine: engine === undefined ? [] : engineSections(engine.data as Report),
    served,
    missing,
    commands: [commandLine(spec, values, peers)],
  });
  await mkdir(dirname(values.resultsPage), { recursive: true });
  await Bun.write(values.resultsPage, text);
  return missing;
}

/** Peers that spin while they wait lose much to it. */
function otherWork(parts: readonly Part[]): Record<string, string> {
  const loads = parts.map(({ load }) => load);
  if (loads.length === 0) return {};
  return {
    "other work": `load ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)} in the minute before each part`,
  };
}

function commandLine(spec: string, { abRounds }: OptionValues, peers: Peers): string {
  const places = new Map([
    ["llama.cpp", "./llama.cpp/build/bin"],
    ["llama-server", "./llama.cpp/build/bin/llama-server"],
  ]);
  const flags = [...peers.keys()].map((name) => `--peer ${name}=${places.get(name) ?? ""}`);
  return ["kvengine bench results", basename(spec), ...flags, `--ab-rounds ${abRounds}`].join(" ");
}

/** Undefined where it is not there and may not begin. */
async function enginePart({
  spec,
  values,
  peers,
  setting,
  mayBegin,
  log,
}: Results): Promise<Part | undefined> {
  const known = `${setting} ${ENGINE_FLAGS}`;
  const part = await readPart(values.partsDir, "engine", known);
  if (part !== undefined || !mayBegin()) return part;
  log.info("engines without HTTP");
  const begin = begun();
  const { flags } = parseCommandLine("bench engine", splitWords(ENGINE_FLAGS, "grid"), []);
  const grid = resolveConfig("bench engine", { flags, env: {} }).values;
  const { device, backend, isa, threads } = values;
  const folder = peers.get("llama.cpp");
  const report = await benchEngine(
    spec,
    {
      ...{ ...grid, device, backend, isa, threads },
      // Limits are measured of the processor, which has to be what computes.
      limits: chooseBackend(values, cudaStatus).backend === "cpu",
      peer: folder === undefined ? [] : [`llama.cpp=${folder}`],
    },
    log,
  );
  return writePart(values.partsDir, "engine", known, { ...begin, data: report });
}

/** As far as it may go, a round at a time. */
async function servedPart(
  workload: ServedWorkload,
  results: Results,
): Promise<{ session: ReturnType<typeof readSession>; part: Part | undefined }> {
  const { values, setting, mayBegin, log } = results;
  const known = `${setting} ${workload.flags}`;
  let part = await readPart(values.partsDir, workload.name, known);
  let session = readSession(part?.data);
  while ((session === undefined ? 0 : roundsOf(session)) < values.abRounds && mayBegin()) {
    const round = session === undefined ? 1 : roundsOf(session) + 1;
    const begin = part ?? begun();
    log.info(`${workload.title}: round ${round} of ${values.abRounds}`);
    try {
      session = await runRound(workload, results, session, log);
    } catch (thrown) {
      // An interrupt ends a round without a result; the rounds before it are kept.
      if (results.signal.aborted) break;
      throw thrown;
    }
    part = await writePart(values.partsDir, workload.name, known, { ...begin, data: session });
  }
  return { session, part };
}

export default command;
