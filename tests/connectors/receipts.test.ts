/** What a response and the events say about where content came from (I27, I37). */

import { expect, test } from "bun:test";
import type { KvEvent } from "../../connectors/connector.ts";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { ServingWorld } from "../support/serving-world.ts";

test("the receipt tells tokens by tier, how long they were waited for, and what that saved; the sum is what was cached (I27)", async () => {
  const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }));
  const { world } = serving;
  const desk = world.desk!;
  const first = serving.add(1);
  await world.drain();
  expect(serving.tiersOf(first) ?? {}).toEqual({});
  const again = serving.add(1);
  await world.drain();
  expect(serving.tiersOf(again)).toEqual({ device: 20 });
  await serving.away(1);
  const back = serving.add(1);
  world.submit();
  world.idleMs += 7;
  await desk.run(desk.pending.find(({ kind }) => kind === "load")!);
  await serving.untilEnded(back);
  const { cachedTokens, cacheReceipt } = world.received.get(back)!.finish!.usage;
  expect(cacheReceipt).toMatchObject({ byTier: { device: 0, host: 20 }, loadMs: 7 });
  expect(cacheReceipt!.savedMs).toBeGreaterThanOrEqual(0);
  expect(cachedTokens).toBe(20);
  await world.drain();
  serving.expectNothingLeft();
  await world.stop();
});

test("a part from the device, a part from the host: one look, both in the receipt (I27)", async () => {
  const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }));
  const { world } = serving;
  await serving.away(1);
  // The first two blocks come back alone.
  serving.add(1, 9, 1);
  await world.drain();
  const before = world.scheduler.takeStats().prefixQueries;
  const back = serving.add(1);
  await world.drain();
  expect(serving.tiersOf(back)).toEqual({ device: 8, host: 12 });
  // Once for each admission, however often it was looked at.
  expect(world.scheduler.takeStats().prefixQueries - before).toBe(24);
  serving.expectNothingLeft();
  await world.stop();
});

test("a look-up without admission changes nothing: decisions apart, asking again and again is free (I13)", async () => {
  const connector = new CpuOffload({ mode: "eager" });
  const serving = await ServingWorld.create(connector);
  const { world } = serving;
  await serving.away(1);
  // Nothing fits beside this one.
  const large = serving.add(2, 40, 6);
  world.submit(1);
  const waiting = serving.add(1);
  const now = (): unknown => [
    connector.stats(),
    world.desk!.numLoads,
    world.connectors!.isBusy,
    world.scheduler.takeStats().prefixQueries,
  ];
  for (const flight of [...world.desk!.pending]) await world.desk!.run(flight);
  world.submit();
  // A request counts with its first token.
  while (world.received.get(large)!.tokens.length === 0) {
    await world.commit();
    world.submit();
  }
  const before = now();
  for (let i = 0; i < 3; i++) {
    await world.commit();
    world.submit();
  }
  expect(world.received.get(large)!.finish).toBeUndefined();
  expect(now()).toEqual(before);
  await serving.untilEnded(large);
  await world.drain();
  expect(serving.tiersOf(waiting)).toEqual({ device: 0, host: 20 });
  serving.expectNothingLeft();
  await world.stop();
});

test.each(["eager", "lazy"] as const)(
  "events of the host, %s, replayed into an empty map are the host's map; space is removed before it is stored anew (I37)",
  async (mode) => {
    const map = new Set<string>();
    const counts = { stored: 0, removed: 0, cleared: 0 };
    const take = ({ kind, keys, medium }: KvEvent): void => {
      expect(medium).toBe("host");
      counts[kind]++;
      if (kind === "cleared") map.clear();
      for (const key of keys) {
        expect(map.has(key)).toBe(kind === "removed");
        if (kind === "stored") map.add(key);
        else map.delete(key);
      }
      expect(map.size).toBeLessThanOrEqual(9);
    };
    const connector = new CpuOffload({ mode });
    const serving = await ServingWorld.create(
      connector,
      {},
      {
        hostPages: 9,
        options: { onEvents: (_, events) => events.forEach(take) },
      },
    );
    const { world } = serving;
    await serving.serve();
    world.scheduler.resetPrefixCache();
    for (let i = 0; i < 4; i++) await serving.serve();
    expect(map.size).toBe(connector.stats()["pages"]!);
    expect(Math.min(counts.stored, counts.removed, counts.cleared)).toBeGreaterThan(0);
    await world.stop();
  },
);
