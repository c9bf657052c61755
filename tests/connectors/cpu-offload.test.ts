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

function offload(
  mode: "auto" | "eager" | "lazy",
  more: Partial<WorldOptions> = {},
): Promise<World> {
  const connector = new CpuOffload({ mode });
  return World.create({
    ...SMALL,
    ...more,
    connectors: { list: [{ name: "cpu-offload", connector }], hostPages: 64, ...more.connectors },
  });
}

/** So many that no two prompts are the same by chance. */
const VOCABULARY = 1000;

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

describe("cpu-offload, auto", () => {
  /**
   * Serves requests of some prompts in turn, without a pause; answers how many blocks had content when the first store was begun, -1 =
   * there was none.
   */
  async function contentAtFirstStore(
    numRequests: number,
    numPrompts = numRequests,
  ): Promise<number> {
    const world = await offload("auto", { numBlocks: 1000, vocabSize: VOCABULARY });
    for (let handle = 1; handle <= numRequests; handle++)
      world.add(
        handle,
        makeRequest(handle, promptOf(24, handle % numPrompts, VOCABULARY), { maxTokens: 4 }),
      );
    let first = -1;
    while (world.submit()) {
      await world.commit();
      if (first < 0 && world.desk!.pending.length > 0) first = world.scheduler.pool.numHashed;
    }
    await world.end();
    for (let handle = 1; handle <= numRequests; handle++) world.expectAsAlone(handle);
    return first;
  }

  test("stores nothing beside steps while all that is served fits", async () => {
    expect(await contentAtFirstStore(20)).toBe(-1);
    // Fewer blocks are left than a look covers where the device is full, and more than are stored ahead.
    expect(await contentAtFirstStore(145)).toBe(-1);
  });

  test("stores nothing beside steps while the same is served again and again", async () => {
    expect(await contentAtFirstStore(400, 8)).toBe(-1);
  });

  test("stores before the device is full", async () => {
    const first = await contentAtFirstStore(160);
    expect(first).toBeGreaterThan(300);
    expect(first).toBeLessThan(1000);
  });
});
