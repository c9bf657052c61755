import { describe, expect, test } from "bun:test";
import CpuOffload from "../../connectors/cpu-offload.ts";
import {
  KvConnector,
  type GpuBlockPoolView,
  type SchedulerContext,
} from "../../connectors/connector.ts";
import { FULL, makeRequest, promptOf, World } from "../support/scheduler-world.ts";

/** Prompts of 24 tokens in blocks of 4; a pool for little more than one of them. */
async function open(): Promise<World> {
  const world = await World.create({
    maxNumSeqs: 4,
    maxNumBatchedTokens: 64,
    blockSize: 4,
    numBlocks: 12,
    groups: [FULL],
    connectors: {
      list: [{ name: "cpu-offload", connector: new CpuOffload({ mode: "eager" }) }],
      hostPages: 64,
    },
  });
  for (const handle of [1, 2, 3, 4]) {
    add(world, handle, handle);
    await world.drain();
  }
  return world;
}

function add(world: World, handle: number, salt: number): void {
  world.add(handle, makeRequest(handle, promptOf(24, salt, 50), { maxTokens: 4 }));
}

/** All series so far, by name and labels. */
class Series {
  readonly #values = new Map<string, number>();
  readonly #types = new Map<string, string>();
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  /** Reads the series anew. No counter may have fallen. */
  of(name: string, labels: Record<string, string> = {}): number | undefined {
    for (const sample of this.#world.host!.takeSamples(true)) {
      const key = keyOf(sample.name, sample.labels);
      const before = this.#values.get(key) ?? 0;
      if (sample.type === "counter") expect([key, sample.value >= before]).toEqual([key, true]);
      this.#values.set(key, sample.value);
      this.#types.set(key, sample.type);
    }
    return this.#values.get(keyOf(name, labels));
  }
}

function keyOf(name: string, labels: Readonly<Record<string, string>>): string {
  return `${name} ${JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)))}`;
}

const OURS = { connector: "cpu-offload" };

describe("counts of what connectors brought", () => {
  test("external hits and bytes count once the blocks have arrived, not when they were promised", async () => {
    const world = await open();
    const series = new Series(world);
    const before = world.scheduler.takeStats();
    expect(before).toMatchObject({ externalHits: 0, loadedPromptTokens: {} });
    expect(before.externalQueries).toBe(4 * 24);
    add(world, 5, 1);
    world.submit();
    expect(world.desk!.pending.map(({ kind }) => kind)).toContain("load");
    expect(world.scheduler.takeStats()).toMatchObject({
      prefixQueries: before.prefixQueries,
      externalQueries: before.externalQueries,
      externalHits: 0,
    });
    expect(series.of("kvengine:connector_flights", { ...OURS, kind: "load" })).toBe(1);
    await world.drain();
    expect(world.scheduler.takeStats()).toMatchObject({
      prefixQueries: before.prefixQueries + 24,
      prefixHits: before.prefixHits,
      externalQueries: before.externalQueries + 24,
      externalHits: 20,
      promptTokens: before.promptTokens + 24,
      loadedPromptTokens: { host: 20 },
    });
    const { pageBytes } = world.desk!;
    const load = { ...OURS, kind: "load" };
    expect(series.of("kvengine:connector_bytes_total", { ...load, tier: "host" })).toBe(
      5 * pageBytes,
    );
    expect(series.of("vllm:kv_offload_load_bytes_total")).toBe(5 * pageBytes);
    expect(series.of("kvengine:connector_flights", load)).toBe(0);
    expect(series.of("kvengine:connector_flights_ended_total", { ...load, outcome: "ok" })).toBe(1);
    expect(series.of("kvengine:kv_load_decisions_total", { decision: "load" })).toBe(1);
    expect(series.of("kvengine:kv_load_blocks_total", { outcome: "arrived" })).toBe(5);
    const stored = series.of("vllm:kv_offload_store_bytes_total")!;
    expect([stored > 0, stored % pageBytes]).toEqual([true, 0]);
    world.expectAsAlone(5);
    await world.end();
  });

  test("what fails to load is no hit: its tokens count as computed, and no counter falls", async () => {
    const world = await open();
    const series = new Series(world);
    series.of("");
    const before = world.scheduler.takeStats();
    add(world, 5, 1);
    world.submit();
    const load = world.desk!.pending.find(({ kind }) => kind === "load")!;
    await world.desk!.run(load, "all");
    await world.drain();
    world.expectAsAlone(5);
    expect(world.scheduler.takeStats()).toMatchObject({
      prefixQueries: before.prefixQueries + 24,
      prefixHits: before.prefixHits,
      externalQueries: before.externalQueries + 24,
      externalHits: 0,
      promptTokens: before.promptTokens + 24,
      loadedPromptTokens: {},
    });
    const failed = { ...OURS, kind: "load", outcome: "failed" };
    expect(series.of("kvengine:connector_flights_ended_total", failed)).toBe(1);
    expect(series.of("kvengine:kv_load_blocks_total", { outcome: "failed" })).toBe(5);
    expect(series.of("vllm:kv_offload_load_bytes_total")).toBe(0);
    await world.end();
  });

  test("without connectors nothing is asked of anybody", async () => {
    const world = await World.create({
      maxNumSeqs: 1,
      maxNumBatchedTokens: 64,
      blockSize: 4,
      numBlocks: 12,
    });
    for (const handle of [1, 2]) {
      add(world, handle, 1);
      await world.drain();
    }
    const stats = world.scheduler.takeStats();
    expect(stats).toMatchObject({
      externalQueries: 0,
      externalHits: 0,
      prefixHits: 20,
      loadedPromptTokens: {},
    });
    expect(stats.hostPool).toBeUndefined();
    await world.end();
  });
});

describe("what connectors hold", () => {
  class Holder extends KvConnector {
    view!: GpuBlockPoolView;
    override bindGpuBlockPool(view: GpuBlockPoolView): void {
      this.view = view;
    }
  }

  test("held blocks, leases, holds that expired and recalls are told by connector", async () => {
    const connector = new Holder();
    const world = await World.create({
      maxNumSeqs: 1,
      maxNumBatchedTokens: 64,
      blockSize: 4,
      numBlocks: 12,
      connectors: { list: [{ name: "holder", connector }], hostPages: 1 },
    });
    const series = new Series(world);
    const of = (name: string): number | undefined =>
      series.of(`kvengine:connector_${name}`, { connector: "holder" });
    expect([of("held_blocks"), of("leases"), of("expired_holds_total")]).toEqual([0, 0, 0]);
    add(world, 1, 1);
    await world.drain();
    const ids = Array.from(connector.view.iterFreeBlockIdsWithHash(), ({ id }) => id);
    connector.view.lease(ids.slice(0, 3), { ttlMs: 5 });
    expect([of("held_blocks"), of("leases")]).toEqual([3, 1]);
    world.idleMs += 5;
    world.scheduler.schedule();
    expect([of("held_blocks"), of("leases"), of("expired_holds_total")]).toEqual([0, 0, 3]);
    // A prompt for the whole pool, less what the last output token needs.
    connector.view.lease(ids.slice(0, 3), { ttlMs: 40 });
    world.add(2, makeRequest(2, promptOf(40, 2, 50), { maxTokens: 4 }));
    await world.drain();
    expect(of("recalls_total")).toBe(1);
    world.expectAsAlone(2);
    // What was evicted had no copy.
    expect(of("lost_blocks_total")).toBeGreaterThan(0);
    await world.end();
  });

  test("stores that are refused are told by reason", async () => {
    let refused: unknown;
    class Hasty extends KvConnector {
      override onSchedulerReady({ pages, transfers }: SchedulerContext): void {
        try {
          transfers.store([1, 2], pages.alloc(2)!);
        } catch (thrown) {
          refused = thrown;
        }
      }
    }
    const world = await World.create({
      maxNumSeqs: 1,
      maxNumBatchedTokens: 64,
      blockSize: 4,
      numBlocks: 12,
      connectors: { list: [{ name: "hasty", connector: new Hasty() }], hostPages: 4 },
    });
    expect(refused).toMatchObject({ code: "stale" });
    const labels = { connector: "hasty", reason: "stale" };
    expect(new Series(world).of("kvengine:connector_stores_refused_total", labels)).toBe(2);
    await world.stop();
  });
});

describe("the host pool", () => {
  test("its pages are told with the numbers of each step", async () => {
    const world = await open();
    const { hostPool } = world.scheduler.takeStats();
    expect(hostPool).toMatchObject({
      numPages: 64,
      numReady: 64,
      isGrowing: false,
      pageBytes: world.desk!.pageBytes,
    });
    expect(hostPool!.numUsed).toBe(
      new Series(world).of("kvengine_connector_pages", { connector: "cpu-offload" })!,
    );
    await world.end();
  });
});

describe("a reset of the prefix cache", () => {
  test("drops host copies too", async () => {
    const world = await open();
    world.scheduler.resetPrefixCache();
    expect(world.scheduler.takeStats().hostPool!.numUsed).toBe(0);
    add(world, 5, 1);
    await world.drain();
    expect(world.scheduler.takeStats().externalHits).toBe(0);
    world.expectAsAlone(5);
    await world.end();
  });

  test("without the external ones they are brought back", async () => {
    const world = await open();
    world.scheduler.resetPrefixCache(false);
    add(world, 5, 1);
    await world.drain();
    expect(world.scheduler.takeStats()).toMatchObject({
      externalHits: 20,
      loadedPromptTokens: { host: 20 },
    });
    world.expectAsAlone(5);
    await world.end();
  });
});
