/** A connector that works, until one of its hooks throws, at any moment: it is named and isolated, and the engine serves on (I38, I39). */

import { describe, expect, test } from "bun:test";
import type { BlockId, KvConnector, RequestView } from "../../connectors/connector.ts";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { HOOKS } from "../../engine/connectors/hooks.ts";
import { ServingWorld } from "../support/serving-world.ts";

type Method = Exclude<(typeof HOOKS)[number], "import" | "constructor">;
const METHODS = HOOKS.filter((hook): hook is Method => hook !== "import" && hook !== "constructor");

/** Offloads, and leases the blocks of each request that ends, so that there is something to be asked back. */
class Working extends CpuOffload {
  override requestFinished(
    request: RequestView,
    blocks: readonly (readonly BlockId[])[],
  ): undefined {
    super.requestFinished(request, blocks);
    const full = blocks.flat().slice(0, 2);
    for (const id of full) this.lease(id);
  }

  lease: (id: BlockId) => void = () => {};

  override bindGpuBlockPool(...[view]: Parameters<CpuOffload["bindGpuBlockPool"]>): void {
    super.bindGpuBlockPool(view);
    this.lease = (id) => {
      if (view.numFreeBlocks > 4) view.lease([id], { ttlMs: 30 });
    };
  }
}

/** Whose hook `method` throws at its call number `at`, which is counted from 1 on. */
function throwing(method: Method, at: number): KvConnector & { readonly called: () => number } {
  const connector = new Working({ mode: "eager" });
  const works = connector[method].bind(connector) as (...given: unknown[]) => unknown;
  let calls = 0;
  return Object.assign(connector, {
    called: () => calls,
    [method]: (...given: unknown[]): unknown => {
      if (++calls === at) throw new Error("this one");
      return works(...given);
    },
  });
}

/** All that makes hooks run: eviction and loads, preemption, pressure by leases, a reset, a look at the metrics. */
async function live(hostile: ServingWorld): Promise<void> {
  const { world } = hostile;
  await hostile.serve();
  hostile.faultsOf();
  world.scheduler.resetPrefixCache();
  for (const salt of [4, 5, 6]) hostile.add(salt, 9, 30);
  await world.drain();
  hostile.faultsOf();
  world.scheduler.resetPrefixCache();
  await hostile.serve();
  for (const salt of [7, 8]) {
    await hostile.untilEnded(hostile.add(salt, 9, 4));
    // It needs nearly all blocks, and two are leased.
    hostile.add(salt + 10, 40, 4);
    await world.drain();
  }
}

describe.each(METHODS)("%s throws", (method) => {
  test.each(["bindGpuBlockPool", "onSchedulerReady", "shutdown"].includes(method) ? [1] : [1, 2])(
    "at call %i: it is disabled with one line, what it holds ends, everyone gets the same tokens",
    async (at) => {
      const connector = throwing(method, at);
      const hostile = await ServingWorld.create(connector, {}, { options: { recallMs: 4 } });
      await live(hostile);
      hostile.expectNothingLeft();
      if (method === "shutdown") await hostile.world.host?.shutdown(0);
      expect(connector.called()).toBe(at);
      const [warning, error, ...more] = hostile.lines.filter(
        (line) => !line.includes("touches of"),
      );
      expect(more).toEqual([]);
      expect(warning).toBe(`connector hostile: ${method} threw Error: this one`);
      expect(error).toStartWith(`connector hostile is disabled: ${method} threw;`);
      expect(hostile.faultsOf().throw).toBe(1);
      expect(hostile.isDisabled()).toBe(true);
      if (method !== "shutdown") expect(hostile.world.connectors?.pages.numHeld(0)).toBe(0);
      await hostile.world.stop();
    },
  );
});

test("beside a connector that dies another works on, in either order (I39)", async () => {
  for (const place of [0, 1]) {
    const dying = { name: "hostile", connector: throwing("updateStateAfterAlloc", 3) };
    const other = { name: "cpu-offload", connector: new CpuOffload({ mode: "eager" }) };
    const list = place === 0 ? [dying, other] : [other, dying];
    const hostile = await ServingWorld.create(list);
    await live(hostile);
    hostile.expectNothingLeft();
    expect(hostile.isDisabled("hostile")).toBe(true);
    expect(hostile.isDisabled("cpu-offload")).toBe(false);
    expect(hostile.faultsOf("cpu-offload")).toEqual({});
    const before = hostile.world.desk!.numLoads;
    await hostile.serve();
    expect(hostile.world.desk!.numLoads).toBeGreaterThan(before);
    hostile.expectNothingLeft();
    await hostile.world.stop();
  }
});
