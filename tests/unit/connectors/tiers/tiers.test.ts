/** The tiers below the host's pages, over ports that a test answers for. */

import { expect, test } from "bun:test";
import { createEmptyEngine } from "../../../../connectors/empty-engine.ts";
import { HostLevel } from "../../../../connectors/host-level.ts";
import type { TierPort, TierResult } from "../../../../connectors/tier-port.ts";
import { Tiers } from "../../../../connectors/tiers/tiers.ts";

/** A tier that takes one page at a time and whose stores end when it is asked for results, or never. */
function portOf(name: string, isDurable: boolean, ends: boolean, log: string[]): TierPort {
  let results: TierResult[] = [];
  let busy = 0;
  const driving = { writes: "through", promote: true, inFlight: 1 } as const;
  return {
    name,
    driving: { ...driving, timeoutMs: 1000, retries: 2, failures: 3 },
    isUsable: true,
    isDurable,
    storesAtOnce: 1,
    numFree: () => 1 - busy,
    has: (keys) => keys.map(() => false),
    move: (kind, keys, pages) => {
      busy++;
      for (const [i, key] of keys.entries())
        results.push({ kind, key, page: pages[i]!, outcome: "ok", ms: 1 });
    },
    remove(): void {},
    clear(): void {},
    takeResults: () => {
      if (!ends) return [];
      const ended = results;
      results = [];
      busy -= ended.length;
      for (const { key } of ended) log.push(`${name} has ${key}`);
      return ended;
    },
    ended: () => (ends ? Promise.resolve() : new Promise(() => {})),
    stats: () => ({}),
    shutdown: () => {
      log.push(`${name} ends`);
      return Promise.resolve();
    },
  };
}

function tiersOf(ports: readonly TierPort[], keys: readonly string[]): Tiers {
  const { view, context } = createEmptyEngine("tiered", () => 0);
  const host = new HostLevel(view, context, { onForgotten(): void {}, onUnsafe(): void {} });
  for (const [page, key] of keys.entries()) {
    host.cache.add(key, page);
    host.cache.filled(key);
  }
  const tiers = new Tiers();
  tiers.start({ ...context, tiers: ports }, { host, load(): void {} });
  tiers.stored(keys);
  tiers.work();
  return tiers;
}

test("shutdown waits for tiers that outlast the process, and for no other", async () => {
  const log: string[] = [];
  const ports = [portOf("near", false, false, log), portOf("disk", true, true, log)];
  await tiersOf(ports, ["0:0", "1:0", "2:0"]).shutdown(1e6);
  const stored = ["0:0", "1:0", "2:0"].map((key) => `disk has ${key}`);
  expect(log).toEqual([...stored, "near ends", "disk ends"]);
});

test("shutdown ends a tier that outlasts the process at the deadline, whatever it is doing", async () => {
  const log: string[] = [];
  await tiersOf([portOf("disk", true, false, log)], ["0:0"]).shutdown(1);
  expect(log).toEqual(["disk ends"]);
});
