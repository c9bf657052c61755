/** Content that is moved outside of requests comes to host pages from wherever it is, whatever requests do meanwhile. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import CpuOffload from "../../connectors/cpu-offload.ts";
import Memory from "../../connectors/memory.ts";
import type { TierDriving } from "../../connectors/tier-options.ts";
import Tiered from "../../connectors/tiered.ts";
import { blockKey } from "../../engine/cache/block-key.ts";
import { hashBlocks, noneHash } from "../../engine/runner/native.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import { promptOf, type WorldConnectors } from "../support/scheduler-world.ts";
import { ServingWorld } from "../support/serving-world.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const DRIVING: TierDriving = {
  ...{ writes: "through", promote: true, inFlight: 8 },
  ...{ timeoutMs: 15, retries: 0, failures: 3 },
};

/** The keys of the full blocks of four tokens of the prompt of `salt`, as `ServingWorld.add` makes it. */
function keysOf(salt: number): string[] {
  const hashes = hashBlocks(noneHash("0"), Int32Array.from(promptOf(24, salt, 50)), 4);
  return [0, 1, 2, 3, 4, 5].map((block) => blockKey(hashes, block * 8, 0));
}

/** A device of twelve blocks and a host of eight pages with a tier below. */
function serve(
  tier: Memory,
  driving: Partial<TierDriving> = {},
  more: Partial<WorldConnectors> = {},
): Promise<ServingWorld> {
  const tiers = [{ name: "memory", tier, driving: { ...DRIVING, ...driving }, path: undefined }];
  const connector = new Tiered({ mode: "eager" });
  const options = { hostPages: 8, microsPerToken: 2000, ...more };
  return ServingWorld.create([{ name: "tiered", connector, tiers }], {}, options);
}

/** What the moves come to, while the world goes on. */
async function played<T>({ world }: ServingWorld, moved: readonly Promise<T>[]): Promise<T[]> {
  const ends: T[][] = [];
  void Promise.all(moved).then((all) => ends.push(all));
  for (let turn = 0; ends.length === 0 && turn < 1000; turn++) {
    world.submit();
    await world.drain();
    world.idleMs += 20;
  }
  return ends[0] ?? [];
}

/** What has not come, when all that may has. */
async function bring(serving: ServingWorld, keys: readonly string[]): Promise<number> {
  const { moves } = serving.world.connectors!;
  const { content } = moves.server;
  const missing = (): string[] => keys.filter((key) => content.pageOf(key) === undefined);
  const moved = moves.until(() => content.bring(missing()).length);
  expect(await played(serving, [moved])).toEqual([0]);
  return missing().length;
}

class Forgetful extends Memory {
  override load(): boolean {
    return false;
  }
}

describe("content that is wanted in host pages", () => {
  test.each([true, false])(
    "comes from a tier, whether that promotes or not (%p)",
    async (promote) => {
      const serving = await serve(new Memory({ size: 1e9 }), { promote });
      await serving.away(1);
      expect(await bring(serving, keysOf(1))).toBe(0);
      // Other content goes before it.
      const { content } = serving.world.connectors!.moves.server;
      const others = keysOf(7).slice(0, 2);
      expect(content.take(others)).toHaveLength(2);
      for (const key of others) content.drop(key);
      expect(keysOf(1).every((key) => content.pageOf(key) !== undefined)).toBe(true);
      const again = serving.add(1);
      await serving.world.drain();
      expect({ ...serving.tiersOf(again) }).toEqual({ device: 0, host: 20 });
      serving.expectNothingLeft();
      await serving.world.stop();
    },
  );

  test("comes from the device, where nobody has stored it yet", async () => {
    const connector = new CpuOffload({ mode: "lazy" });
    const serving = await ServingWorld.create([{ name: "cpu-offload", connector }], {});
    serving.add(1);
    await serving.world.drain();
    expect(await bring(serving, keysOf(1))).toBe(0);
    serving.expectNothingLeft();
    await serving.world.stop();
  });

  test("and that nobody has, or that a tier has lost, is not waited for", async () => {
    const serving = await serve(new Forgetful({ size: 1e9 }));
    await serving.away(1);
    expect(await bring(serving, keysOf(7))).toBe(6);
    expect(await bring(serving, keysOf(1))).toBe(6);
    serving.expectNothingLeft();
    await serving.world.stop();
  });
});

test("while requests come and go, what is moved disturbs none, and nothing is held for it at the end", async () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant("ask" as const), salt: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ kind: fc.constant("bring" as const), salt: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ kind: fc.constantFrom("step" as const, "drain" as const), salt: fc.constant(0) }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(action, { maxLength: 30 }),
      fc.boolean(),
      async (actions, promote) => {
        const serving = await serve(new Memory({ size: 1e9 }), { promote });
        const { world } = serving;
        const { moves } = world.connectors!;
        const { content } = moves.server;
        const moved: Promise<number>[] = [];
        for (const { kind, salt } of actions) {
          if (kind === "ask") serving.add(salt);
          else if (kind === "drain") await world.drain();
          else if (kind === "step") {
            world.submit();
            if (world.runner.queued > 0) await world.commit();
          } else {
            const missing = (): string[] =>
              keysOf(salt).filter((key) => content.pageOf(key) === undefined);
            moved.push(moves.until(() => content.bring(missing()).length));
          }
        }
        expect(await played(serving, moved)).toHaveLength(moved.length);
        await world.drain();
        serving.expectNothingLeft();
        await world.stop();
      },
    ),
    propertyRuns(60),
  );
});
