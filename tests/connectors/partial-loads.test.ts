/** Loads that bring less than they should, of groups of several kinds, and of salted requests: the answer is the same (I19, I28, I29). */

import { describe, expect, test } from "bun:test";
import type { KvEvent } from "../../connectors/connector.ts";
import CpuOffload from "../../connectors/cpu-offload.ts";
import type { GroupSpec } from "../../engine/cache/kv-cache.ts";
import { FULL, STATE, windowOf } from "../support/scheduler-world.ts";
import { ServingWorld } from "../support/serving-world.ts";

const eager = (): CpuOffload => new CpuOffload({ mode: "eager" });

/** Prompt tokens that steps computed since `from`: those of rows of more than one token. */
function promptTokensSince({ world }: ServingWorld, from: number): number {
  const counts = world.runner.seen.slice(from).flatMap((step) => step.counts);
  return counts.filter((count) => count > 1).reduce((sum, count) => sum + count, 0);
}

describe("a load that fails in part", () => {
  test.each([[[2]], [[0]], [[4]], [[1, 3]]])(
    "keeps what arrived; the blocks at %p and what has no copy are computed (I19)",
    async (failed) => {
      const serving = await ServingWorld.create(eager());
      const { world } = serving;
      const desk = world.desk!;
      await serving.away(1);
      const before = world.runner.seen.length;
      const handle = serving.add(1);
      world.submit();
      await desk.run(
        desk.pending.find(({ kind }) => kind === "load")!,
        failed,
      );
      await serving.untilEnded(handle);
      const { numArrived, numFailed } = world.connectors!.loads;
      expect([numArrived, numFailed]).toEqual([5 - failed.length, failed.length]);
      expect(promptTokensSince(serving, before)).toBe(4 + 4 * failed.length);
      await world.drain();
      serving.expectNothingLeft();
      await world.stop();
    },
  );

  test("by a page that is not what was stored is seen, counted, and the page is offered no more (I20, I38)", async () => {
    const connector = eager();
    const serving = await ServingWorld.create(connector);
    const { world } = serving;
    const desk = world.desk!;
    await serving.away(1);
    const pages = connector.stats()["pages"]!;
    const handle = serving.add(1);
    world.submit();
    const load = desk.pending.find(({ kind }) => kind === "load")!;
    desk.corruptPage(load.pages[1]!);
    await desk.run(load);
    world.submit();
    expect(world.connectors!.loads.numFailed).toBe(1);
    expect(connector.stats()["pages"]).toBe(pages - 1);
    await serving.untilEnded(handle);
    await world.drain();
    serving.expectNothingLeft();
    await world.stop();
  });
});

const GROUPS: readonly (readonly [string, readonly GroupSpec[]])[] = [
  ["full and window", [FULL, windowOf(6)]],
  ["full and state", [FULL, STATE]],
  ["state, window and full", [STATE, windowOf(5), FULL]],
  ["window alone", [windowOf(9)]],
  ["two full", [FULL, FULL]],
];

describe.each(GROUPS)("groups: %s", (_, groups) => {
  const options = { groups, numBlocks: 12 * groups.length };

  test("come back from the host", async () => {
    const serving = await ServingWorld.create(eager(), options, { hostPages: 200 });
    const { world } = serving;
    await serving.away(1);
    const handle = serving.add(1);
    await world.drain();
    // Of a window only what the next token sees is brought.
    const { host = 0, device = 0 } = serving.tiersOf(handle) ?? {};
    expect(host + device).toBe(20);
    expect(host).toBe(groups.some(({ kind }) => kind === "full") ? 20 : 8);
    serving.expectNothingLeft();
    await world.stop();
  });

  test("are computed where a block of any group is lost on the way (I19)", async () => {
    for (let page = 0; page < 5 * groups.length; page++) {
      const serving = await ServingWorld.create(eager(), options, { hostPages: 200 });
      const { world } = serving;
      const desk = world.desk!;
      await serving.away(1);
      const handle = serving.add(1);
      world.submit();
      const load = desk.pending.find(({ kind }) => kind === "load")!;
      await desk.run(load, [page % load.pages.length]);
      await serving.untilEnded(handle);
      expect(world.connectors!.loads.numFailed).toBe(1);
      await world.drain();
      serving.expectNothingLeft();
      await world.stop();
    }
  });
});

test("salted requests share nothing through the host with others, and their keys show no salt (I29)", async () => {
  const events: KvEvent[] = [];
  const serving = await ServingWorld.create(
    eager(),
    {},
    {
      hostPages: 200,
      options: { onEvents: (_, some) => events.push(...some) },
    },
  );
  const { world } = serving;
  await serving.away(1, "a secret");
  for (const salt of [undefined, "another", "a secre", "A secret"]) {
    const before = world.desk!.numLoads;
    const handle = serving.add(1, 24, 4, salt);
    await world.drain();
    expect(world.desk!.numLoads).toBe(before);
    expect(serving.tiersOf(handle) ?? {}).toEqual({});
    await serving.away(2);
  }
  const same = serving.add(1, 24, 4, "a secret");
  await world.drain();
  expect(serving.tiersOf(same)).toEqual({ device: 0, host: 20 });
  const keys = events.flatMap((event) => event.keys);
  expect(keys.length).toBeGreaterThan(20);
  for (const key of keys) expect(key).not.toContain("secre");
  serving.expectNothingLeft();
  await world.stop();
});
