/** One trial of a connector: random requests and mishaps that follow from a seed, and what came of them. */

import type { KvConnector } from "../../../connectors/connector.ts";
import type { LoadedTier } from "../tiers/js-tier-port.ts";
import type { TransferFate, TrialOptions, TrialReport } from "../../../connectors/trial.ts";
import type { GroupSpec } from "../../cache/kv-cache.ts";
import { blocksNeeded } from "../../request-limits.ts";
import { DEFAULT_SAMPLING, type GenerateRequest } from "../../request.ts";
import { Dice } from "./dice.ts";
import type { FlightDesk } from "./flight-desk.ts";
import { TRIAL_LIMITS, TrialEngine } from "./trial-engine.ts";

const FULL: GroupSpec = { kind: "full", window: 0 };
const GROUPS: readonly (readonly GroupSpec[])[] = [
  [FULL],
  [FULL, { kind: "window", window: 7 }],
  [FULL, { kind: "state", window: 0 }],
];
const NUM_REQUESTS = 14;
const PROMPTS = 4;
/** Chances, of one. */
const ABORT = 0.04;
const RESET = 0.02;
const PAUSE = 0.05;
/** Milliseconds of a pause, at most: longer than a load may take, and so short that no promise is late by it. */
const LONG_PAUSE = 50;
const SHORT_PAUSE = 3;

export async function serveTrial(
  name: string,
  connector: KvConnector,
  { seed, spareBlocks, hostPages, fates, disturbs }: TrialOptions,
  tiers: readonly LoadedTier[] = [],
): Promise<TrialReport> {
  const dice = new Dice(seed);
  const groups = dice.pick(GROUPS);
  const requests = Array.from({ length: NUM_REQUESTS }, (_, i) => requestOf(i, dice));
  const limits = { ...TRIAL_LIMITS, groups, numBlocks: 1 };
  const needs = requests.map(({ promptTokenIds, sampling }) =>
    blocksNeeded(promptTokenIds.length, sampling.maxTokens, limits),
  );
  const numBlocks = Math.max(...needs) + spareBlocks;
  const alone = await tokensAlone(requests, groups, numBlocks);
  const lines: string[] = [];
  const engine = await TrialEngine.create({
    groups,
    numBlocks,
    connectors: {
      name,
      connector,
      tiers,
      hostPages,
      log: (level, line) => {
        if (level !== "info") lines.push(line);
      },
    },
  });
  const aborted = new Set<number>();
  const pause = fates.every((fate) => fate === "ends") ? SHORT_PAUSE : LONG_PAUSE;
  for (const [handle, request] of requests.entries()) {
    engine.add(handle, request);
    for (let steps = dice.below(14); steps > 0; steps--) {
      await engine.step();
      if (engine.desk !== undefined) await disturbFlight(engine.desk, dice, fates);
      if (dice.chance(PAUSE)) engine.pass(dice.below(pause));
      if (!disturbs) continue;
      if (dice.chance(RESET)) engine.reset();
      const victim = dice.below(handle + 1);
      if (!dice.chance(ABORT) || engine.answers.get(victim)?.finish !== undefined) continue;
      aborted.add(victim);
      engine.abort(victim);
    }
  }
  await engine.drain();
  const { host, numHeld, answers } = engine;
  engine.reset();
  await engine.drain();
  const { counts } = engine;
  const isDisabled = host?.isDisabled(0) ?? true;
  await engine.stop();
  const nameOf = (handle: number): string => requests[handle]?.id ?? "";
  const all = [...answers];
  const unfinished = all.filter(([, { finish }]) => finish === undefined);
  const wrong = all.filter(
    ([handle, { tokens, finish }]) =>
      finish !== undefined &&
      !aborted.has(handle) &&
      tokens.join() !== (alone[handle] ?? []).join(),
  );
  return {
    wrong: wrong.map(([handle]) => nameOf(handle)),
    unfinished: unfinished.map(([handle]) => nameOf(handle)),
    held: numHeld,
    lines,
    isDisabled,
    counts,
  };
}

/** Few prompts, of which requests have beginnings: content goes and is wanted again. */
function requestOf(handle: number, dice: Dice): GenerateRequest {
  const salt = dice.below(PROMPTS);
  const length = 5 + dice.below(36);
  return {
    id: `request-${handle}`,
    promptTokenIds: Int32Array.from(
      { length },
      (_, i) => (i * 7 + salt * 13 + (i >> 2) * salt) % TRIAL_LIMITS.vocabSize,
    ),
    sampling: { ...DEFAULT_SAMPLING, temperature: 0, seed: [1, 2], maxTokens: 1 + dice.below(12) },
    arrivalTime: 0,
    priority: 0,
  };
}

/** Something happens to the oldest transfer that does not hang. */
async function disturbFlight(
  desk: FlightDesk,
  dice: Dice,
  fates: readonly TransferFate[],
): Promise<void> {
  const flight = desk.next;
  if (flight === undefined || dice.chance(0.3)) return;
  switch (dice.pick(fates)) {
    case "ends":
      return desk.run(flight);
    case "fails":
      return desk.run(flight, "all");
    case "loses a page":
      return desk.run(flight, [dice.below(flight.pages.length)]);
    case "starts":
      desk.begin(flight);
      return;
    case "hangs":
      desk.stuck.add(flight.id);
  }
}

/** The tokens of each request in an engine without connectors and without a cache, one at a time. */
async function tokensAlone(
  requests: readonly GenerateRequest[],
  groups: readonly GroupSpec[],
  numBlocks: number,
): Promise<readonly (readonly number[])[]> {
  const engine = await TrialEngine.create({ groups, numBlocks });
  for (const [handle, request] of requests.entries()) {
    engine.add(handle, request);
    await engine.drain();
  }
  await engine.stop();
  return Array.from(engine.answers.values(), ({ tokens }) => tokens);
}
