/** One tier of the tiered connector, over a port that a test answers for. */

import { expect, test } from "bun:test";
import { createEmptyEngine } from "../../../../connectors/empty-engine.ts";
import { HostLevel } from "../../../../connectors/host-level.ts";
import type { SchedulerContext } from "../../../../connectors/connector.ts";
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
    storesAtOnce: 1,
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

/** A tier of the tiered connector whose host pages hold these, and what its metrics were told. */
function levelOf(
  port: TierPort,
  keys: readonly string[],
  at: Partial<Pick<SchedulerContext, "now" | "wake">> = {},
): { level: Level; counted: [string, number, Readonly<Record<string, string>>][] } {
  const { view, context } = createEmptyEngine("tiered", () => 0);
  const host = new HostLevel(view, context, { onForgotten(): void {}, onUnsafe(): void {} });
  for (const [page, key] of keys.entries()) {
    host.cache.add(key, page);
    host.cache.filled(key);
  }
  const counted: [string, number, Readonly<Record<string, string>>][] = [];
  const count = (name: string, value = 1, labels: Readonly<Record<string, string>> = {}): void =>
    void counted.push([name, value, labels]);
  const metrics = { ...context.metrics, count };
  const level = new Level(port, { ...context, ...at, metrics }, host);
  counted.length = 0;
  return { level, counted };
}

test("pages that have ended together are one event and one count of each outcome", () => {
  const { port } = portOf(new Set());
  const keys = ["0:0", "1:0", "2:0", "3:0"];
  const { level, counted } = levelOf(port, keys);
  level.stored(keys);
  level.storeSome();
  const outcomes = ["ok", "failed", "ok", "none"] as const;
  level.ended(
    keys.map((key, page) => ({ kind: "store", key, page, outcome: outcomes[page]!, ms: 250 })),
  );
  expect(level.takeEvents()).toEqual([{ kind: "stored", keys: ["0:0", "2:0"], medium: "disk" }]);
  const [tier, kind] = ["disk", "store"];
  expect(counted).toEqual([
    ["tier_seconds", 1, { tier, kind }],
    ["tier_pages", 2, { tier, kind, outcome: "ok" }],
    ["tier_bytes", 2 * 1024, { tier, kind }],
    ["tier_pages", 1, { tier, kind, outcome: "failed" }],
    ["tier_pages", 1, { tier, kind, outcome: "none" }],
  ]);
  expect(level.isStoring).toBe(false);
});

test("pages wait for others to be stored with, as long as more may come soon", () => {
  let now = 0;
  const { port, stores } = portOf(new Set());
  const keys = ["0:0", "1:0", "2:0", "3:0", "4:0"];
  const wakes: number[] = [];
  const at = { now: () => now, wake: (at?: number) => void wakes.push(at ?? -1) };
  const { level } = levelOf({ ...port, storesAtOnce: 2, numFree: () => 4 }, keys, at);
  level.stored(keys.slice(0, 1));
  level.storeSome();
  now = 99;
  level.storeSome();
  expect([stores, wakes]).toEqual([[], [100, 100]]);
  now = 100;
  level.storeSome();
  expect(stores).toEqual([["0:0"]]);
  level.stored(keys.slice(1, 2));
  level.storeSome();
  level.stored(keys.slice(2, 3));
  level.storeSome();
  expect(stores).toEqual([["0:0"], ["1:0", "2:0"]]);
  // What somebody wants to be kept, and what is the last, waits for nothing.
  level.keep(keys.slice(3, 4));
  level.storeSome();
  level.stored(keys.slice(4));
  level.storeSome();
  expect(stores.at(-1)).toEqual(["3:0"]);
  level.storeRest();
  level.storeSome();
  expect(stores.at(-1)).toEqual(["4:0"]);
});

test("where few pages may be begun they wait until as many may as are stored at once", () => {
  let numFree = 1;
  const { port, stores } = portOf(new Set());
  const keys = ["0:0", "1:0", "2:0"];
  const { level } = levelOf({ ...port, storesAtOnce: 2, numFree: () => numFree }, keys);
  level.stored(keys);
  level.storeSome();
  expect(stores).toEqual([]);
  numFree = 2;
  level.storeSome();
  expect(stores[0]).toEqual(["0:0", "1:0"]);
});

test("a tier that is tried again after failures is tried by one page", () => {
  let now = 0;
  const { port, stores } = portOf(new Set());
  const keys = ["0:0", "1:0", "2:0", "3:0", "4:0", "5:0"];
  const at = { now: () => now };
  const { level } = levelOf({ ...port, storesAtOnce: 3, numFree: () => 4 }, keys, at);
  level.stored(keys.slice(0, 4));
  level.storeSome();
  level.ended(
    keys.slice(0, 4).map((key, page) => ({ kind: "store", key, page, outcome: "late", ms: 1 })),
  );
  level.stored(keys.slice(4));
  now = 50;
  level.storeSome();
  expect(stores).toEqual([keys.slice(0, 4)]);
  now = 5000;
  level.storeSome();
  expect(stores.at(-1)).toEqual(["4:0"]);
});

test("pages that a tier has already do not keep others waiting until something else happens", () => {
  const keys = Array.from({ length: 5 * MOST_AT_ONCE }, (_, i) => `${i}:0`);
  const { port, stores } = portOf(new Set(keys.slice(0, -2)));
  const { level } = levelOf(port, keys);
  level.stored(keys);
  level.storeSome();
  expect(stores).toEqual([keys.slice(-2)]);
  expect(level.isStoring).toBe(true);
});
