/** With connectors that move blocks away and back, at any time, in any order, with any failure: a request gets the tokens it gets alone. */

import { expect, test } from "bun:test";
import * as fc from "fast-check";
import CpuOffload from "../../connectors/cpu-offload.ts";
import type { NamedConnector } from "../../engine/connectors/connector-host.ts";
import { offloadScenarios, playScenario } from "../support/one-answer.ts";
import { propertyRuns } from "../support/property-runs.ts";
import BlockOriented from "./examples/block-oriented.ts";
import VllmShape from "./examples/vllm-shape.ts";

const MAKERS = {
  eager: () => new CpuOffload({ mode: "eager" }),
  lazy: () => new CpuOffload({ mode: "lazy" }),
  auto: () => new CpuOffload({ mode: "auto" }),
  "block-oriented": () => new BlockOriented(),
  "vllm-shape": () => new VllmShape(),
} as const;
type Maker = keyof typeof MAKERS;

/** It touches what it stores: where a transfer hangs, the touch ends first. It counts tokens: it does not know that a salted block is another. */
const VLLM_SHAPE_FAULT =
  /^connector vllm-shape: (its code left \d+ touches|findBlocks promised \d+ blocks)/;

const setup = fc.record({
  makers: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom<Maker[][]>(["eager"], ["lazy"]) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<Maker[][]>(["auto"], ["block-oriented"], ["vllm-shape"]),
    },
    { weight: 1, arbitrary: fc.constantFrom<Maker[][]>(["lazy", "eager"], ["vllm-shape", "lazy"]) },
  ),
  hostPages: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 9, max: 80 })),
  maxFlying: fc.integer({ min: 1, max: 8 }),
});

test("one answer with offload: every finished request has exactly the tokens it has alone, and nothing is left", async () => {
  const runs = propertyRuns(3000);
  const seen = {
    stores: 0,
    loads: 0,
    arrived: 0,
    failed: 0,
    givenUp: 0,
    joined: 0,
    preemptions: 0,
  };
  await fc.assert(
    fc.asyncProperty(
      offloadScenarios(60),
      setup,
      async (scenario, { makers, hostPages, maxFlying }) => {
        const list: NamedConnector[] = makers.map((maker) => ({
          name: maker,
          connector: MAKERS[maker](),
        }));
        const faults: string[] = [];
        const log = (level: string, line: string): void => {
          if (level !== "info" && !VLLM_SHAPE_FAULT.test(line)) faults.push(line);
        };
        const world = await playScenario(scenario, {
          list,
          hostPages,
          options: { maxFlying },
          log,
        });
        const { desk, connectors } = world;
        expect(faults).toEqual([]);
        expect(connectors!.flights.length).toBe(0);
        expect(connectors!.loads.blocks.size).toBe(0);
        expect(connectors!.ledgers.numHeld).toBe(0);
        expect(world.scheduler.pool.numFlying).toBe(0);
        seen.stores += desk!.numStores;
        seen.loads += desk!.numLoads;
        seen.arrived += connectors!.loads.numArrived;
        seen.failed += connectors!.loads.numFailed;
        seen.givenUp += connectors!.loads.numGivenUp;
        seen.joined += connectors!.loads.numJoined;
        seen.preemptions += world.scheduler.takeStats().preemptions;
        await world.stop();
      },
    ),
    runs,
  );
  // The scenarios are worth something only if all of this happens in them.
  const { numRuns } = runs;
  for (const what of ["stores", "loads", "arrived"] as const)
    expect([what, seen[what] > numRuns / 3]).toEqual([what, true]);
  for (const what of ["failed", "givenUp", "preemptions"] as const)
    expect([what, seen[what] > numRuns / 30]).toEqual([what, true]);
  expect(seen.joined).toBeGreaterThan(numRuns / 400);
}, 600_000);

test("stores that are given up for a request that lacks more than theirs do not begin anew in turn", async () => {
  const request = {
    ...({ kind: "arrive", salt: 1, sharedTokens: 30, n: 1, maxTokens: 1, temperature: 0 } as const),
    ...{ seed: 0, priority: 0, cacheSalt: undefined, stopTokenIds: [], stopStringAt: undefined },
    promptLogprobs: -1,
  };
  const ends = { kind: "fly", pick: 0, how: "ends" } as const;
  const submit = { kind: "submit", most: 1 } as const;
  const list = (["vllm-shape", "lazy"] as const).map((name) => ({
    name,
    connector: MAKERS[name](),
  }));
  const world = await playScenario(
    {
      engine: {
        ...{ vocabSize: 4, groups: [{ kind: "full", window: 0 }], blockSize: 5, maxNumSeqs: 2 },
        ...{ maxNumBatchedTokens: 7, maxPrefillTokens: 6, spareBlocks: 4, tpotSlo: 0 },
        ...{ enablePrefixCaching: true, speculativeTokens: 1 },
        ...({ schedulingPolicy: "fcfs", speculative: "none" } as const),
      },
      steps: [
        { ...request, promptTokens: 9 },
        ends,
        { ...request, promptTokens: 22, salt: 0, n: 3, maxTokens: 3 },
        { ...request, promptTokens: 30, n: 2, maxTokens: 5 },
        ends,
        submit,
        { kind: "commit" },
        { ...request, promptTokens: 21, salt: 0, n: 2 },
        submit,
        { kind: "reset" },
        { kind: "run", commits: 15, flights: 3 },
        submit,
        ends,
      ],
    },
    { list, hostPages: 16, options: { maxFlying: 2 } },
  );
  expect(world.connectors!.flights.length).toBe(0);
  await world.stop();
});
