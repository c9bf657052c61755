import { describe, expect, test } from "bun:test";
import CpuOffload from "../../connectors/cpu-offload.ts";
import {
  FULL,
  makeRequest,
  promptOf,
  World,
  type WorldOptions,
} from "../support/scheduler-world.ts";

const SMALL: WorldOptions = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  blockSize: 4,
  numBlocks: 12,
  groups: [FULL],
};

function offload(mode: "eager" | "lazy", more: Partial<WorldOptions> = {}): Promise<World> {
  const connector = new CpuOffload({ mode });
  return World.create({
    ...SMALL,
    ...more,
    connectors: { list: [{ name: "cpu-offload", connector }], hostPages: 64, ...more.connectors },
  });
}

/** Serves one request to its end, then lets all flights land. */
async function serve(world: World, handle: number, salt: number): Promise<void> {
  world.add(handle, makeRequest(handle, promptOf(24, salt, 50), { maxTokens: 4 }));
  await world.drain();
  world.expectAsAlone(handle);
}

describe.each(["eager", "lazy"] as const)("cpu-offload, %s", (mode) => {
  test("brings back what was evicted, and the answer is the same", async () => {
    const world = await offload(mode);
    await serve(world, 1, 1);
    for (const other of [2, 3, 4]) await serve(world, other, other);
    const before = world.desk!.numLoads;
    await serve(world, 5, 1);
    expect(world.desk!.numLoads).toBeGreaterThan(before);
    expect(world.received.get(5)!.finish!.usage).toMatchObject({
      cachedTokens: 20,
      cacheReceipt: { byTier: { host: 20, device: 0 } },
    });
    await world.end();
  });
});
