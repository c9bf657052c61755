/**
 * With tiers that fail, lag, hang, corrupt, lie, mix up and fill up, several of them, beside other connectors: a request gets the tokens
 * that it gets alone, and nothing is held, flying or lent for ever.
 */

import { expect, test } from "bun:test";
import * as fc from "fast-check";
import CpuOffload from "../../connectors/cpu-offload.ts";
import Memory from "../../connectors/memory.ts";
import Tiered from "../../connectors/tiered.ts";
import type { TierDriving } from "../../connectors/tier-options.ts";
import type { NamedConnector } from "../../engine/connectors/connector-host.ts";
import type { LoadedTier } from "../../engine/connectors/tiers/js-tier-port.ts";
import { type Mood, MOODS, OddTier } from "../support/odd-tier.ts";
import { offloadScenarios, playScenario } from "../support/one-answer.ts";
import { FEW_PROPERTY_RUNS, PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import type { World } from "../support/scheduler-world.ts";

/** Lines about tiers, and of what had to be waited for in vain: a scenario's time may jump over what a load may take. */
const EXPECTED =
  /switched off after|work again|was pending for \d+ ms: a miss|did not load them in time|^tier odd-/;

const driving: fc.Arbitrary<TierDriving> = fc.record({
  writes: fc.constantFrom("through" as const, "back" as const),
  promote: fc.boolean(),
  inFlight: fc.integer({ min: 1, max: 6 }),
  timeoutMs: fc.integer({ min: 2, max: 20 }),
  retries: fc.integer({ min: 0, max: 2 }),
  failures: fc.constantFrom(1, 2, 1000),
});

/** A tier works most of the time, or every mood has its turn. */
const moods: fc.Arbitrary<readonly Mood[]> = fc.oneof(
  { weight: 2, arbitrary: fc.constant<Mood[]>(["works"]) },
  { weight: 2, arbitrary: fc.constant<Mood[]>(["works", "lags"]) },
  {
    weight: 4,
    arbitrary: fc
      .subarray([...MOODS], { minLength: 1, maxLength: 4 })
      .map((some) => some.concat("works", "works", "lags")),
  },
  { weight: 1, arbitrary: fc.constant(MOODS) },
);

const setup = fc.record({
  mode: fc.constantFrom("eager" as const, "lazy" as const),
  tiers: fc.array(
    fc.record({ driving, moods, seed: fc.nat(), pages: fc.constantFrom(1, 4, 30, 300) }),
    {
      minLength: 1,
      maxLength: 3,
    },
  ),
  hasMemory: fc.boolean(),
  beside: fc.constantFrom("none", "none", "none", "before", "behind"),
  hostPages: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 2, max: 10 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 60 }) },
  ),
  maxFlying: fc.integer({ min: 1, max: 8 }),
});

/** All that was lent and put off has come back, and nothing was asked for since. */
async function quiet(world: World, tiers: readonly OddTier[]): Promise<void> {
  for (let turn = 0; turn < 500; turn++) {
    world.scheduler.settle();
    world.submit();
    await world.settled();
    const goesOn = tiers.map((tier) => tier.turn(true)).includes(true);
    const ms = world.scheduler.msToDeadline();
    const flight = world.desk?.pending[0];
    if (flight !== undefined) await world.desk?.run(flight);
    else if (!goesOn && ms === Infinity) return;
    else world.idleMs += ms === Infinity ? 1 : Math.max(1, ms);
  }
}

test(
  "one answer with tiers: every finished request has exactly the tokens it has alone, and nothing is left",
  async () => {
    const runs = propertyRuns(400);
    const seen = {
      stored: 0,
      loaded: 0,
      wrong: 0,
      older: 0,
      late: 0,
      failed: 0,
      none: 0,
      giving: 0,
    };
    await fc.assert(
      fc.asyncProperty(offloadScenarios(50), setup, async (scenario, choice) => {
        const { mode, hostPages, maxFlying, beside } = choice;
        const odd = choice.tiers.map(
          ({ moods: some, seed, pages }) => new OddTier(seed, some, pages),
        );
        const tiers: LoadedTier[] = odd.map((tier, i) => ({
          name: `odd-${i}`,
          tier,
          driving: (choice.tiers[i] as { driving: TierDriving }).driving,
          path: undefined,
        }));
        if (choice.hasMemory) {
          const tier = new Memory({ size: 4096 });
          const rest = { ...(tiers[0] as LoadedTier).driving, timeoutMs: 1000 };
          tiers.push({ name: "memory", tier, driving: rest, path: undefined });
        }
        const tiered = new Tiered({ mode });
        const list: NamedConnector[] = [{ name: "tiered", connector: tiered, tiers }];
        const other = { name: "other", connector: new CpuOffload({ mode: "eager" }) };
        if (beside === "before") list.unshift(other);
        if (beside === "behind") list.push(other);
        const faults: string[] = [];
        const world = await playScenario(scenario, {
          list,
          hostPages,
          options: { maxFlying },
          microsPerToken: 5000,
          log: (level, line) => {
            if (level === "error" || !EXPECTED.test(line)) faults.push(line);
          },
          turn: (isIdle) => odd.map((tier) => tier.turn(isIdle)).includes(true),
        });
        const connectors = world.connectors!;
        expect(faults).toEqual([]);
        expect(world.host!.isDisabled(0)).toBe(false);
        expect(connectors.loads.blocks.size).toBe(0);
        await quiet(world, odd);
        expect(connectors.flights.length).toBe(0);
        expect(connectors.ledgers.numHeld).toBe(0);
        expect(connectors.tiers.numUnderWay).toBe(0);
        expect(world.scheduler.pool.numFlying).toBe(0);
        count(world, seen);
        world.scheduler.resetPrefixCache();
        await quiet(world, odd);
        // Nothing counts any more, and every page is free.
        expect(connectors.pages.numUsed).toBe(0);
        for (const [i, tier] of odd.entries()) {
          const { inFlight } = (tiers[i] as LoadedTier).driving;
          expect(tier.mostLent).toBeLessThanOrEqual(2 * inFlight);
        }
        await world.stop();
      }),
      { ...runs, endOnFailure: true },
    );
    if (FEW_PROPERTY_RUNS) return;
    for (const [what, times] of Object.entries(seen))
      expect([what, times > runs.numRuns / 40]).toEqual([what, true]);
  },
  PROPERTY_LIMIT_MS,
);

function count(world: World, seen: Record<string, number>): void {
  for (const { name, labels, value } of world.host!.takeSamples(true)) {
    if (name !== "kvengine_connector_tier_pages_total") continue;
    const { kind, outcome = "" } = labels;
    const what = outcome === "ok" ? (kind === "load" ? "loaded" : "stored") : outcome;
    if (what in seen) seen[what] = (seen[what] as number) + value;
  }
  seen["giving"] = (seen["giving"] as number) + world.connectors!.loads.numGivenUp;
}
