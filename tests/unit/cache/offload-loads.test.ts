/** The loads of a lazy offload, with a scan from the head of the free queue and with vLLM's cursor. */

import { describe, expect, test } from "bun:test";
import { ConnectorBlocks } from "../../../engine/cache/gpu-block-pool-view.ts";
import {
  type LoadWorld,
  most,
  OFFLOAD_LOADS,
  type OffloadLoad,
  type Offloader,
  playLoad,
  VllmCursor,
} from "../../support/offload-loads.ts";

/** Blocks allocated a step x (latency in steps + 2), both at their highest. */
function windowOf(load: OffloadLoad): number {
  return most(load, "allocatedIn") * (most(load, "latencyFrom") + 2);
}

/** Stores what the view's iteration gives inside the window; blocks in flight stay where they are. */
class HeadScan implements Offloader {
  readonly #world: LoadWorld;
  readonly #blocks: ConnectorBlocks;
  readonly #window: number;

  constructor(world: LoadWorld, window: number) {
    this.#world = world;
    this.#window = window;
    this.#blocks = new ConnectorBlocks({
      pool: world.pool,
      blockSize: 16,
      committedStep: world.step,
      maxHeld: 0,
      holdTtlMs: 1,
      isPressed: () => false,
      numSpare: () => 0,
      now: world.step,
    });
  }

  scan(): void {
    const { pool, copy } = this.#world;
    const found = [...this.#blocks.view.iterFreeBlockIdsWithHash(this.#window)];
    const ids = found.map(({ id }) => id);
    pool.beginFlight(Int32Array.from(ids), ids.length);
    copy(ids);
  }

  ended(ids: readonly number[]): void {
    this.#blocks.view.markSafe(ids);
    this.#world.pool.endFlight(Int32Array.from(ids), ids.length);
  }
}

const LOADS = Object.values<OffloadLoad>(OFFLOAD_LOADS).map((load) => [load.name, load] as const);

describe("a scan from the head of the free queue (I31)", () => {
  test.each(LOADS)("loses nothing and copies nothing twice: %s", (_, load) => {
    const result = playLoad(load, (world) => new HeadScan(world, windowOf(load)));
    expect(result.numEvicted).toBeGreaterThanOrEqual(40);
    expect(result).toMatchObject({ numLost: 0, numCopiedTwice: 0 });
  });

  test("copies of a backlog what may be handed out soon, not all", () => {
    const load = OFFLOAD_LOADS.backlog;
    const result = playLoad(load, (world) => new HeadScan(world, windowOf(load)));
    expect(result.numCopies).toBeLessThanOrEqual(windowOf(load) + result.numEvicted);
    expect(playLoad(load, (world) => new VllmCursor(world, load)).numCopies).toBe(128);
  });

  test("loses blocks when its window does not follow the latency", () => {
    const load: OffloadLoad = { ...OFFLOAD_LOADS.steady, latencyFrom: () => 10 };
    const { numEvicted, numLost } = playLoad(load, (world) => new HeadScan(world, 8));
    expect(numLost / numEvicted).toBeGreaterThan(0.5);
  });

  test("leaves the order of eviction as it is without it", () => {
    const load = OFFLOAD_LOADS.stall;
    const order = (create: (world: LoadWorld) => Offloader): number[] => {
      let pool: LoadWorld["pool"] | undefined;
      playLoad(load, (world) => {
        ({ pool } = world);
        return create(world);
      });
      return pool?.freeIds() ?? [];
    };
    const without = order(() => ({ scan: () => {}, ended: () => {} }));
    expect(order((world) => new HeadScan(world, 48))).toEqual(without);
    expect(order((world) => new VllmCursor(world, load))).not.toEqual(without);
  });
});

describe("vLLM's cursor", () => {
  const { steady, steadyAtOnce, stall } = OFFLOAD_LOADS;
  test.each([
    [steady.name, steady, 0.05],
    [steadyAtOnce.name, steadyAtOnce, 0.1],
    [stall.name, stall, 1],
  ])("loses what it is there to save: %s", (_, load, part) => {
    const { numEvicted, numLost } = playLoad(load, (world) => new VllmCursor(world, load));
    expect(numLost / numEvicted).toBeGreaterThanOrEqual(part);
  });
});
