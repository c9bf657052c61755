/**
 * Random requests and schedules for the promise that a request's answer does not depend on its company: what arrives when, what
 * is shared, aborted, preempted, drafted, forked, failed, and how large pool, steps and blocks are.
 */

import { expect } from "bun:test";
import * as fc from "fast-check";
import type { GroupSpec } from "../../engine/cache/block-group.ts";
import { blocksNeeded } from "../../engine/request-limits.ts";
import type { GenerateRequest } from "../../engine/request.ts";
import {
  answerOf,
  expectedOf,
  FULL,
  makeRequest,
  promptOf,
  requestId,
  schedulerOptions,
  spell,
  STATE,
  windowOf,
  World,
  type WorldConnectors,
} from "./scheduler-world.ts";

/** An engine in a scenario. */
export interface EngineChoice {
  readonly vocabSize: number;
  readonly groups: readonly GroupSpec[];
  readonly blockSize: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxPrefillTokens: number | undefined;
  /** Blocks beyond what the largest request needs. */
  readonly spareBlocks: number;
  readonly schedulingPolicy: "fcfs" | "priority";
  readonly tpotSlo: number;
  readonly enablePrefixCaching: boolean;
  readonly speculative: "none" | "ngram";
  readonly speculativeTokens: number;
}

/** A prompt arrives, with one request for each of its choices. */
interface Arrival {
  readonly kind: "arrive";
  readonly promptTokens: number;
  /** Few values, so that prompts share prefixes. */
  readonly salt: number;
  /** From here on the prompt is its own. */
  readonly sharedTokens: number;
  readonly n: number;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: number;
  readonly priority: number;
  readonly cacheSalt: string | undefined;
  readonly stopTokenIds: readonly number[];
  /** Output index at which a stop string of two tokens ends, if it is reached. */
  readonly stopStringAt: number | undefined;
  readonly promptLogprobs: number;
}

export type Step =
  | Arrival
  | { readonly kind: "submit"; readonly most: number }
  | { readonly kind: "commit" | "fail" | "reset" }
  | { readonly kind: "abort"; readonly pick: number }
  /** Something happens to one of the transfers that have not ended. */
  | { readonly kind: "fly"; readonly pick: number; readonly how: FlightFate }
  /** Steps are computed one after the other; after each up to `flights` of the transfers that wait end well. */
  | { readonly kind: "run"; readonly commits: number; readonly flights: number }
  /** Time passes, and nothing runs. */
  | { readonly kind: "wait"; readonly ms: number };

/** `stuck`: it ends when nobody waits any more. `corrupt`: a page that it loads is not what was stored. */
export type FlightFate = "ends" | "fails" | "loses its first page" | "starts" | "stuck" | "corrupt";

const groupSets: fc.Arbitrary<readonly GroupSpec[]> = fc.oneof(
  { weight: 3, arbitrary: fc.constant([FULL]) },
  { weight: 1, arbitrary: fc.constant([FULL, FULL]) },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 12 }).map((w) => [FULL, windowOf(w)]) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 9 }).map((w) => [windowOf(w)]) },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 2, max: 7 }).map((w) => [windowOf(w), windowOf(w), FULL]),
  },
  { weight: 1, arbitrary: fc.constant([FULL, STATE]) },
  { weight: 1, arbitrary: fc.integer({ min: 2, max: 6 }).map((w) => [STATE, windowOf(w), FULL]) },
);

const ENGINE = {
  vocabSize: fc.constantFrom(4, 24),
  groups: groupSets,
  blockSize: fc.integer({ min: 1, max: 5 }),
  maxNumSeqs: fc.integer({ min: 1, max: 6 }),
  maxNumBatchedTokens: fc.integer({ min: 1, max: 40 }),
  maxPrefillTokens: fc.option(fc.integer({ min: 1, max: 40 }), { nil: undefined }),
  spareBlocks: fc.oneof(fc.nat(3), fc.nat(40)),
  schedulingPolicy: fc.constantFrom("fcfs" as const, "priority" as const),
  tpotSlo: fc.constantFrom(0, 0, 1, 2),
  enablePrefixCaching: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.boolean()),
  speculative: fc.constantFrom("none" as const, "ngram" as const),
  speculativeTokens: fc.integer({ min: 1, max: 6 }),
};

const ARRIVAL = {
  kind: fc.constant("arrive" as const),
  promptTokens: fc.integer({ min: 1, max: 30 }),
  salt: fc.nat(3),
  sharedTokens: fc.integer({ min: 0, max: 30 }),
  n: fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, fc.integer({ min: 2, max: 4 })),
  maxTokens: fc.integer({ min: 1, max: 14 }),
  temperature: fc.constantFrom(0, 1),
  seed: fc.nat(1000),
  priority: fc.integer({ min: -1, max: 1 }),
  cacheSalt: fc.constantFrom(undefined, undefined, undefined, "a", "b"),
  stopTokenIds: fc.uniqueArray(fc.nat(23), { maxLength: 2 }),
  stopStringAt: fc.option(fc.integer({ min: 1, max: 10 }), { freq: 4, nil: undefined }),
  promptLogprobs: fc.oneof({ weight: 6, arbitrary: fc.constant(-1) }, fc.constant(0)),
};

/** What happens in any scenario. */
const STEPS: readonly fc.MaybeWeightedArbitrary<Step>[] = [
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("submit" as const), most: fc.constantFrom(1, 2) }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("commit" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("abort" as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reset" as const) }) },
];

/** The most end well. */
const FATES: readonly FlightFate[] = [
  ...(["ends", "ends", "ends", "ends", "fails", "loses its first page"] as const),
  ...(["starts", "stuck", "corrupt"] as const),
];

/** What happens to transfers. */
const FLIGHT_STEPS: readonly fc.MaybeWeightedArbitrary<Step>[] = [
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("fly" as const),
      pick: fc.nat(),
      how: fc.constantFrom(...FATES),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("run" as const),
      commits: fc.integer({ min: 1, max: 20 }),
      flights: fc.constantFrom(0, 1, 1, 2, 3),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("wait" as const),
      ms: fc.integer({ min: 1, max: 60 }),
    }),
  },
];

export interface Scenario {
  readonly engine: EngineChoice;
  readonly steps: readonly Step[];
}

/** Any scenario of up to `maxSteps` steps. */
export function scenarios(maxSteps: number): fc.Arbitrary<Scenario> {
  const steps = fc.oneof({ weight: 4, arbitrary: fc.record(ARRIVAL) }, ...STEPS);
  return fc.record({
    engine: fc.record(ENGINE),
    steps: fc.array(steps, { maxLength: maxSteps, size: "max" }),
  });
}

/** As `scenarios`, with transfers, and such that content often leaves the device and is wanted again. */
export function offloadScenarios(maxSteps: number): fc.Arbitrary<Scenario> {
  const arrival = fc.record({
    ...ARRIVAL,
    promptTokens: fc.integer({ min: 6, max: 30 }),
    sharedTokens: fc.oneof({ weight: 5, arbitrary: fc.constant(30) }, ARRIVAL.sharedTokens),
    maxTokens: fc.integer({ min: 1, max: 8 }),
    cacheSalt: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, ARRIVAL.cacheSalt),
  });
  const steps = fc.oneof({ weight: 9, arbitrary: arrival }, ...STEPS, ...FLIGHT_STEPS);
  return fc.record({
    engine: fc.record({
      ...ENGINE,
      maxNumSeqs: fc.integer({ min: 2, max: 6 }),
      spareBlocks: fc.oneof({ weight: 6, arbitrary: fc.nat(4) }, ENGINE.spareBlocks),
      enablePrefixCaching: fc.oneof({ weight: 19, arbitrary: fc.constant(true) }, fc.boolean()),
    }),
    steps: fc.array(steps, { minLength: 12, maxLength: maxSteps, size: "max" }),
  });
}

/** The requests of one arrival: one for each choice. `first` is the handle of the first. */
function requestsOf(step: Arrival, first: number, engine: EngineChoice): GenerateRequest[] {
  const { vocabSize, groups } = engine;
  const shared = promptOf(step.promptTokens, step.salt, vocabSize);
  const own = promptOf(step.promptTokens, first + 5, vocabSize);
  const prompt = shared.map((token, i) => (i < step.sharedTokens ? token : own[i]!));
  return Array.from({ length: step.n }, (_, choice) => {
    const sampling = {
      maxTokens: step.maxTokens,
      temperature: step.temperature,
      choice,
      stopTokenIds: step.stopTokenIds.filter((id) => id < vocabSize),
      seed: [step.seed, 9] as const,
      promptLogprobs: choice === 0 ? step.promptLogprobs : -1,
    };
    const more = {
      priority: step.priority,
      ...(step.cacheSalt === undefined ? {} : { cacheSalt: step.cacheSalt }),
      ...(choice === 0 ? {} : { leader: requestId(first) }),
    };
    const plain = makeRequest(first + choice, prompt, sampling, more);
    if (step.stopStringAt === undefined) return plain;
    const { tokens } = expectedOf(plain, { vocabSize, groups });
    const end = tokens.slice(step.stopStringAt - 1, step.stopStringAt + 1);
    if (end.length < 2) return plain;
    return makeRequest(first + choice, prompt, { ...sampling, stop: [spell(end)] }, more);
  });
}

/** Plays a scenario and checks all that is promised. */
export async function playScenario(
  { engine, steps }: Scenario,
  connectors?: WorldConnectors,
): Promise<World> {
  const requests: GenerateRequest[][] = [];
  let handles = 0;
  for (const step of steps) {
    if (step.kind !== "arrive") continue;
    const some = requestsOf(step, handles, engine);
    requests.push(some);
    handles += some.length;
  }
  const options = { ...engine, speculativeNgram: [1, 3], numBlocks: 1 };
  const { limits } = schedulerOptions(options);
  const largest = Math.max(
    1,
    ...requests
      .flat()
      .map((r) => blocksNeeded(r.promptTokenIds.length, r.sampling.maxTokens, limits)),
  );
  const numBlocks = largest + engine.spareBlocks;
  const world = await World.create({
    ...options,
    numBlocks,
    ...(connectors === undefined ? {} : { connectors }),
  });
  const aborted = await playSteps(world, steps, requests);
  await world.drain();
  for (const [handle, received] of world.received) {
    const alone = expectedOf(received.request, world.definition);
    const { finish } = received;
    if (aborted.has(handle) || finish?.reason === "error") {
      expect(finish?.reason).toBe(aborted.has(handle) ? "abort" : "error");
      if (finish?.error !== undefined) expect(finish.error.message).toContain("chance");
      expect(received.tokens).toEqual(alone.tokens.slice(0, received.tokens.length));
      continue;
    }
    expect(answerOf(received)).toEqual(alone);
    const { cachedTokens, cacheReceipt } = finish!.usage;
    expect(cachedTokens).toBe(
      received.request.promptTokenIds.length - world.computed.get(handle)!.size,
    );
    const tiers = Object.values(cacheReceipt?.byTier ?? {});
    expect(tiers.reduce((a, b) => a + b, 0)).toBe(cachedTokens);
    if (received.request.sampling.promptLogprobs >= 0 && received.tokens.length > 0)
      expect(received.prompt?.logprobs.length).toBe(received.request.promptTokenIds.length - 1);
  }
  expect(world.scheduler.pool.freeIds().toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: numBlocks }, (_, i) => i + 1),
  );
  return world;
}

async function fly({ desk }: World, pick: number, how: FlightFate): Promise<void> {
  const flight = desk?.pending[pick % Math.max(1, desk.pending.length)];
  if (desk === undefined || flight === undefined) return;
  switch (how) {
    case "ends":
      return desk.run(flight);
    case "fails":
      return desk.run(flight, "all");
    case "loses its first page":
      return desk.run(flight, [0]);
    case "starts":
      desk.begin(flight);
      return;
    case "stuck":
      desk.stuck.add(flight.id);
      return;
    case "corrupt": {
      const [page] = flight.pages as [number];
      if (flight.kind === "load" && !desk.isBegun(page)) desk.corruptPage(page);
      return desk.run(flight);
    }
  }
}

async function run(world: World, commits: number, flights: number): Promise<void> {
  const { desk, runner } = world;
  for (let commit = 0; commit < commits; commit++) {
    world.submit();
    if (runner.queued > 0) await world.commit();
    for (let flight = 0; flight < flights; flight++) {
      const { next } = desk ?? {};
      if (next !== undefined) await desk?.run(next);
    }
  }
}

/** Answers the handles that were aborted before they had ended. */
async function playSteps(
  world: World,
  steps: readonly Step[],
  requests: readonly GenerateRequest[][],
): Promise<Set<number>> {
  const aborted = new Set<number>();
  let arrivals = 0;
  let arrived = 0;
  for (const step of steps) {
    // When the transfer threads answer decides nothing.
    await world.desk?.settled();
    switch (step.kind) {
      case "arrive":
        for (const request of requests[arrivals++]!) world.add(arrived++, request);
        break;
      case "submit":
        world.submit(step.most);
        break;
      case "commit":
        if (world.runner.queued > 0) await world.commit();
        break;
      case "fail":
        world.runner.failNextStep("chance");
        break;
      case "reset":
        world.scheduler.resetPrefixCache();
        world.scheduler.checkIntegrity();
        break;
      case "abort": {
        if (arrived === 0) break;
        const handle = step.pick % arrived;
        if (world.received.get(handle)!.finish === undefined) aborted.add(handle);
        world.abort(handle);
        break;
      }
      case "fly":
        await fly(world, step.pick, step.how);
        break;
      case "run":
        await run(world, step.commits, step.flights);
        break;
      case "wait":
        world.idleMs += step.ms;
        break;
    }
  }
  return aborted;
}
