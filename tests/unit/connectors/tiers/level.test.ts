/** One tier of the tiered connector, over a port that a test answers for. */

import { expect, test } from "bun:test";
import { createEmptyEngine } from "../../../../connectors/empty-engine.ts";
import { HostLevel } from "../../../../connectors/host-level.ts";
import type { TierPort } from "../../../../connectors/tier-port.ts";
import { Level } from "../../../../connectors/tiers/level.ts";

const MOST_AT_ONCE = 4;

/** A tier that has some pages already. */
function portOf(had: ReadonlySet<string>): { port: TierPort; stores: string[][] } {
  const stores: string[][] = [];
  const driving = { writes: "through", promote: true, inFlight: MOST_AT_ONCE } as const;
  const port: TierPort = {
    name: "disk",
    driving: { ...driving, timeoutMs: 1000, retries: 2, failures: 3 },
    isUsable: true,
    isDurable: true,
    numFree: () => MOST_AT_ONCE - (stores.at(-1)?.length ?? 0),
    has: (keys) => keys.map((key) => had.has(key)),
    move: (_kind, keys) => stores.push([...keys]),
    remove(): void {},
    clear(): void {},
    takeResults: () => [],
    ended: () => Promise.resolve(),
    stats: () => ({}),
    shutdown: () => Promise.resolve(),
  };
  return { port, stores };
}

test("pages that a tier has already do not keep others waiting until something else happens", () => {
  const { view, context } = createEmptyEngine("tiered", () => 0);
  const host = new HostLevel(view, context, { onForgotten(): void {}, onUnsafe(): void {} });
  const keys = Array.from({ length: 5 * MOST_AT_ONCE }, (_, i) => `${i}:0`);
  for (const [page, key] of keys.entries()) {
    host.cache.add(key, page);
    host.cache.filled(key);
  }
  const { port, stores } = portOf(new Set(keys.slice(0, -2)));
  const level = new Level(port, context, host);
  level.stored(keys);
  level.storeSome();
  expect(stores).toEqual([keys.slice(-2)]);
  expect(level.isStoring).toBe(true);
});
