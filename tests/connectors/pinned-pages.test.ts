/** Pinned content stays in the host's pages while others come and go, and no request waits or gets anything else because of it. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { PageCache } from "../../connectors/page-cache.ts";
import { blockKey } from "../../engine/cache/block-key.ts";
import { Retained } from "../../engine/connectors/retained.ts";
import { hashBlocks, noneHash } from "../../engine/runner/native.ts";
import { promptOf } from "../support/scheduler-world.ts";
import { ServingWorld } from "../support/serving-world.ts";

/** The keys of the five full blocks of four tokens of the prompt of `salt`. */
function keysOf(salt: number): string[] {
  const hashes = hashBlocks(noneHash("0"), Int32Array.from(promptOf(20, salt, 50)), 4);
  return [0, 1, 2, 3, 4].map((block) => blockKey(hashes, block * 8, 0));
}

describe("cpu-offload", () => {
  test.each([
    ["a pinned prompt is brought back after many others", true, { device: 0, host: 20 }],
    ["one that is not pinned is forgotten for them", false, undefined],
  ] as const)("%s", async (_, isPinned, tiers) => {
    const retained = new Retained(8, () => 0);
    const serving = await ServingWorld.create(
      new CpuOffload({ mode: "eager" }),
      {},
      { hostPages: 24, options: { retained } },
    );
    if (isPinned) retained.add({ id: "p", owner: "", keys: keysOf(1), numTokens: 20, endsAt: 1 });
    await serving.away(1);
    for (let others = 0; others < 4; others++) await serving.away(2 + others);
    const again = serving.add(1);
    await serving.world.drain();
    const told = serving.tiersOf(again);
    expect(told === undefined ? told : { ...told }).toEqual(tiers);
    serving.expectNothingLeft();
    await serving.world.stop();
  });

  test("when all pages are pinned, stores nothing more and serves on", async () => {
    const serving = await ServingWorld.create(
      new CpuOffload({ mode: "eager" }),
      {},
      { hostPages: 6, options: { retained: { has: () => true, size: 6 } } },
    );
    for (const salt of [1, 2, 3]) await serving.away(salt);
    serving.expectNothingLeft();
    await serving.world.stop();
  });
});

describe("the order of pages", () => {
  function cacheOf(...keys: readonly string[]): PageCache {
    const cache = new PageCache();
    for (const [page, key] of keys.entries()) {
      cache.add(key, page);
      cache.filled(key);
    }
    return cache;
  }

  test("passes over what is retained, which counts as used just now", () => {
    const cache = cacheOf("a", "b", "c", "d");
    const isRetained = (key: string): boolean => key === "a" || key === "c";
    expect(cache.evict(1, isRetained)).toEqual({ keys: ["b"], pages: [1] });
    // Of a, c and d: a was passed over.
    expect(cache.evict(3)).toEqual({ keys: ["c", "d", "a"], pages: [2, 3, 0] });
  });

  test("gives nothing where everything is retained, and ends", () => {
    const cache = cacheOf("a", "b", "c");
    expect(cache.evict(2, () => true)).toEqual({ keys: [], pages: [] });
    expect(cache.size).toBe(3);
    expect(cache.evict(9)).toEqual({ keys: ["a", "b", "c"], pages: [0, 1, 2] });
    expect(new PageCache().evict(1, () => true)).toEqual({ keys: [], pages: [] });
  });
});
