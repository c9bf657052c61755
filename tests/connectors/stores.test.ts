/** What cpu-offload stores, when, and at whose cost: nothing lost, nothing twice, nothing moved in the queue (I31, I32, I33, I35). */

import { describe, expect, test } from "bun:test";
import type { BlockId, BlockKey, RequestView } from "../../connectors/connector.ts";
import CpuOffload from "../../connectors/cpu-offload.ts";
import NullConnector from "../../connectors/null.ts";
import { STATE, FULL, windowOf } from "../support/scheduler-world.ts";
import { Bound, ServingWorld } from "../support/serving-world.ts";

/** What is in the host by the events so far, and how often each block was stored. */
class HostMap {
  readonly keys = new Set<BlockKey>();
  readonly stored = new Map<BlockKey, number>();

  take(kind: string, keys: readonly BlockKey[]): void {
    if (kind === "cleared") this.keys.clear();
    for (const key of keys) {
      if (kind === "removed") this.keys.delete(key);
      if (kind !== "stored") continue;
      this.keys.add(key);
      this.stored.set(key, (this.stored.get(key) ?? 0) + 1);
    }
  }
}

async function offload(
  mode: "auto" | "eager" | "lazy",
  options: Parameters<typeof ServingWorld.create>[1] = {},
  more: Parameters<typeof ServingWorld.create>[2] = {},
  watcher: Bound = new Bound(),
  host: HostMap = new HostMap(),
): Promise<{
  readonly serving: ServingWorld;
  readonly host: HostMap;
  readonly connector: CpuOffload;
}> {
  const connector = new CpuOffload({ mode });
  const serving = await ServingWorld.create(
    [
      { name: "cpu-offload", connector },
      { name: "watcher", connector: watcher },
    ],
    options,
    {
      hostPages: 2_000,
      ...more,
      options: {
        onEvents: (_, events) => {
          for (const { kind, keys } of events) host.take(kind, keys);
        },
        ...more.options,
      },
    },
  );
  return { serving, host, connector };
}

/** The keys that each finished request's full blocks have at its end. */
class Keys extends Bound {
  readonly ended: { readonly full: number; readonly keys: readonly (BlockKey | undefined)[] }[] =
    [];

  override requestFinished(
    request: RequestView,
    blocksByGroup: readonly (readonly BlockId[])[],
  ): undefined {
    // The last token's KV is never computed.
    const full = Math.floor((request.numTokens - 1) / this.view.blockSize);
    for (const blocks of blocksByGroup) {
      const ids = blocks.slice(0, full).filter((id) => id !== 0);
      this.ended.push({ full, keys: ids.map((id) => this.view.hashOf(id)) });
    }
  }
}

describe("eager", () => {
  test.each([
    ["full", [FULL]],
    ["full and window", [FULL, windowOf(6)]],
    ["state and full", [STATE, FULL]],
  ])(
    "every full block of every finished request is stored, the last of one that ends in the same step and those of its output too: %s (I32)",
    async (_, groups) => {
      const watcher = new Keys();
      const { serving, host } = await offload(
        "eager",
        { groups, numBlocks: 40 * groups.length },
        {},
        watcher,
      );
      const { world } = serving;
      // Ends on a block's last token, one after it, and one before it.
      for (const [i, [prompt, output]] of [
        [24, 5],
        [23, 5],
        [9, 8],
        [24, 1],
        [25, 1],
        [5, 12],
        [3, 1],
        [4, 1],
      ].entries())
        serving.add(i, prompt, output);
      await world.drain();
      expect(watcher.ended.length).toBe(8 * groups.length);
      for (const { keys } of watcher.ended)
        for (const key of keys)
          expect([key, key !== undefined && host.keys.has(key)]).toEqual([key, true]);
      expect(watcher.ended.flatMap(({ keys }) => keys).length).toBeGreaterThan(25);
      for (const [key, times] of host.stored) expect([key, times]).toEqual([key, 1]);
      serving.expectNothingLeft();
      await world.stop();
    },
  );

  test("a host of a few pages is full at once: nothing waits for it, and what was stored last is there (I33)", async () => {
    for (const hostPages of [1, 2, 5]) {
      const { serving, connector } = await offload("eager", {}, { hostPages });
      await serving.serve();
      serving.expectNothingLeft();
      expect(connector.stats()["pages"]).toBeLessThanOrEqual(hostPages);
      expect(serving.lines).toEqual([]);
      await serving.world.stop();
    }
  });
});

/** Sees which content leaves the device, and whether it was in the host by then. */
class Leaving extends Bound {
  readonly #host: HostMap;
  readonly #content = new Map<BlockId, BlockKey>();
  numLeft = 0;
  numLost = 0;

  constructor(host: HostMap) {
    super();
    this.#host = host;
  }

  override buildConnectorMeta(): void {
    const { keys } = this.#host;
    for (let id = 1; id <= this.view.numBlocks; id++) {
      const before = this.#content.get(id);
      const now = this.view.hashOf(id);
      if (before !== undefined && now !== before && this.view.blockOfHash(before) === undefined) {
        this.numLeft++;
        if (!keys.has(before)) this.numLost++;
      }
      if (now === undefined) this.#content.delete(id);
      else this.#content.set(id, now);
    }
  }
}

/** Steps that a copy takes: as in the runs against vLLM's cursor. */
const LATENCIES: readonly (readonly [string, (flight: number) => number])[] = [
  ["in the same step", () => 0],
  ["one step", () => 1],
  ["three steps", () => 3],
  ["one to ten steps", (flight) => 1 + ((flight * 7) % 10)],
];

describe.each(LATENCIES)("lazy, where a copy takes %s", (_, latencyOf) => {
  test.each([
    ["steadily", 1, 1],
    ["in bursts", 6, 6],
  ])(
    "loses nothing that leaves the device while requests come %s (I31)",
    async (__, every, count) => {
      const host = new HostMap();
      const watcher = new Leaving(host);
      const made = await offload(
        "lazy",
        { numBlocks: 240, maxNumSeqs: 8, maxNumBatchedTokens: 32 },
        { options: { maxFlying: 240 } },
        watcher,
        host,
      );
      const { serving, connector } = made;
      const { world } = serving;
      const desk = world.desk!;
      const due = new Map<number, number>();
      for (let step = 0; step < 400; step++) {
        if (step % every === 0)
          for (let i = 0; i < count; i++)
            if (world.scheduler.numUnfinished < 8) serving.add(step * 8 + i, 9 + (step % 7), 6);
        world.submit();
        if (world.runner.queued > 0) await world.commit();
        for (const flight of [...desk.pending]) {
          const end = due.get(flight.id) ?? step + latencyOf(flight.id);
          due.set(flight.id, end);
          if (end <= step) await desk.run(flight);
        }
      }
      expect(watcher.numLeft).toBeGreaterThan(100);
      expect(watcher.numLost).toBe(0);
      // Not everything that was ever freed, and nothing twice.
      for (const [key, times] of host.stored) expect([key, times]).toEqual([key, 1]);
      await world.drain();
      expect(connector.stats()["pages"]).toBe(host.keys.size);
      await world.stop();
    },
  );
});

test("lazy, idle: the backlog is stored without one step being asked for in vain, and then there is rest (I31, I35)", async () => {
  const { serving, host, connector } = await offload(
    "lazy",
    { numBlocks: 60, maxNumBatchedTokens: 8 },
    { options: { maxFlying: 4 } },
  );
  const { world } = serving;
  for (const salt of [1, 2, 3, 4]) await serving.untilEnded(serving.add(salt, 24, 4));
  const { pool } = world.scheduler;
  const before = host.keys.size;
  expect(before).toBeLessThan(pool.numHashed);
  let steps = 0;
  await world.drain(() => steps++);
  expect(connector.stats()["pages"]).toBe(pool.numHashed);
  expect(steps).toBeLessThanOrEqual(2 * world.desk!.numStores + 4);
  expect(world.scheduler.isBusy).toBe(false);
  expect(world.idleMs).toBe(0);
  await world.stop();
});

test("auto, idle, with room for many more blocks: all content is stored, and those that never held any are not looked at", async () => {
  const { serving, connector } = await offload("auto", { numBlocks: 50_000 });
  const { world } = serving;
  for (const salt of [1, 2, 3, 4]) await serving.untilEnded(serving.add(salt, 24, 4));
  const { pool } = world.scheduler;
  const before = pool.operations;
  expect(world.desk!.numStores).toBe(0);
  await world.drain();
  expect(connector.stats()["pages"]).toBe(pool.numHashed);
  expect(pool.numHashed).toBe(24);
  expect(pool.operations - before).toBeLessThan(10 * pool.numHashed);
  await world.stop();
});

test("auto, idle: what was cancelled is stored again after the next step", async () => {
  const { serving, connector } = await offload("auto", { numBlocks: 5_000 });
  const { world } = serving;
  const desk = world.desk!;
  for (const salt of [1, 2, 3, 4]) await serving.untilEnded(serving.add(salt, 24, 4));
  expect(world.submit()).toBe(false);
  const { flights } = world.connectors!;
  for (const flight of flights.all()) expect(flights.cancel(flight)).toBe(true);
  await desk.settled();
  const { numStores } = desk;
  world.submit();
  world.submit();
  expect(desk.numStores).toBe(numStores);
  await serving.untilEnded(serving.add(5, 24, 4));
  await world.drain();
  expect(connector.stats()["pages"]).toBe(world.scheduler.pool.numHashed);
  await world.stop();
});

test.each(["auto", "lazy"] as const)(
  "%s: an engine with nothing more to schedule is not idle before its last step has committed",
  async (mode) => {
    const { serving, connector } = await offload(mode, { numBlocks: 5_000 });
    const { world } = serving;
    await serving.untilEnded(serving.add(1, 24, 4));
    serving.add(2, 24, 1);
    expect(world.submit(1)).toBe(true);
    expect(world.submit(1)).toBe(false);
    expect(world.desk!.numStores).toBe(0);
    await world.drain();
    expect(connector.stats()["pages"]).toBe(world.scheduler.pool.numHashed);
    await world.stop();
  },
);

test.each(["eager", "lazy"] as const)(
  "%s storing changes nothing about what is evicted next: the free queue is that of an engine without it, step by step (I5, I31)",
  async (mode) => {
    const queues: (readonly number[])[][] = [];
    for (const connector of [new CpuOffload({ mode }), new NullConnector()]) {
      const serving = await ServingWorld.create(connector, {}, { hostPages: 500 });
      const { world } = serving;
      const seen: (readonly number[])[] = [];
      for (let salt = 0; salt < 12; salt++) {
        const handle = serving.add(salt, 9 + salt, 5);
        while (world.received.get(handle)!.finish === undefined) {
          world.submit(1);
          await world.commit();
          seen.push(world.scheduler.pool.freeIds());
          // Copies end late, so that blocks are free and in flight.
          if (seen.length % 3 === 0)
            for (const flight of [...world.desk!.pending]) await world.desk!.run(flight);
        }
      }
      queues.push(seen);
      await world.drain();
      if (connector instanceof CpuOffload) expect(world.desk!.numStores).toBeGreaterThan(5);
      await world.stop();
    }
    expect(queues[0]).toEqual(queues[1]!);
  },
);
