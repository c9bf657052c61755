/** What several requests want of a tier comes once, for all of them. */

import { expect, test } from "bun:test";
import Memory from "../../connectors/memory.ts";
import type { TierDriving } from "../../connectors/tier-options.ts";
import Tiered from "../../connectors/tiered.ts";
import { ServingWorld } from "../support/serving-world.ts";

/** Counts how often each page was asked for. */
class Counting extends Memory {
  readonly loads: Map<string, number> = new Map();

  override load(key: string, into: Uint8Array): boolean {
    this.loads.set(key, (this.loads.get(key) ?? 0) + 1);
    return super.load(key, into);
  }
}

test("requests that want the same pages of a tier join, also while these wait for their turn, and get them by one load each", async () => {
  const tier = new Counting({ size: 1e9 });
  const driving: TierDriving = {
    writes: "through",
    promote: true,
    inFlight: 2,
    timeoutMs: 15,
    retries: 0,
    failures: 3,
  };
  const serving = await ServingWorld.create(
    [
      {
        name: "tiered",
        connector: new Tiered({ mode: "eager" }),
        tiers: [{ name: "memory", tier, driving, path: undefined }],
      },
    ],
    { numBlocks: 16 },
    { hostPages: 8, microsPerToken: 2000 },
  );
  await serving.away(1);
  tier.loads.clear();
  const handles = [serving.add(1), serving.add(1), serving.add(1)];
  await serving.world.drain();
  for (const handle of handles) expect(serving.tiersOf(handle)).toEqual({ device: 0, memory: 20 });
  expect([...tier.loads.values()]).toEqual([1, 1, 1, 1, 1]);
  serving.expectNothingLeft();
  await serving.world.stop();
});
