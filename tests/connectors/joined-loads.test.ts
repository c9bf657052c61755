/** Loads that several requests wait for, and loads that nobody should wait for. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { ServingWorld } from "../support/serving-world.ts";

/** The prompt of salt 1 is in host pages only: 24 tokens, of which five blocks of four may be brought. */
async function withContentAway(): Promise<ServingWorld> {
  const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }), { numBlocks: 16 });
  await serving.away(1);
  return serving;
}

describe("a load that several requests wait for", () => {
  test("is one load: who comes later joins it, and finishes with it (I16)", async () => {
    const serving = await withContentAway();
    const { world } = serving;
    const desk = world.desk!;
    const before = desk.numLoads;
    const handles = [serving.add(1), serving.add(1), serving.add(1)];
    world.submit();
    expect(desk.numLoads).toBe(before + 1);
    expect(world.connectors!.loads.numJoined).toBe(10);
    await desk.run(desk.next!);
    world.submit();
    for (const handle of handles) await serving.untilEnded(handle);
    for (const handle of handles) expect(serving.tiersOf(handle)).toEqual({ device: 0, host: 20 });
    expect(desk.numLoads).toBe(before + 1);
    await world.drain();
    serving.expectNothingLeft();
    await world.stop();
  });

  test("goes on for the others when the one that it was begun for is aborted (I16)", async () => {
    const serving = await withContentAway();
    const { world } = serving;
    const desk = world.desk!;
    const before = desk.numLoads;
    const first = serving.add(1);
    const second = serving.add(1);
    world.submit();
    world.abort(first);
    expect(desk.pending.length).toBe(1);
    await desk.run(desk.next!);
    await serving.untilEnded(second);
    expect(desk.numLoads).toBe(before + 1);
    expect(serving.tiersOf(second)).toEqual({ device: 0, host: 20 });
    await world.drain();
    serving.expectNothingLeft([first]);
    await world.stop();
  });

  test("leaves each of them to compute when it fails, and is not tried again (I16, I20)", async () => {
    const serving = await withContentAway();
    const { world } = serving;
    const desk = world.desk!;
    const before = desk.numLoads;
    const handles = [serving.add(1), serving.add(1)];
    world.submit();
    await desk.run(desk.next!, "all");
    await world.drain();
    expect(desk.numLoads).toBe(before + 1);
    expect(world.connectors!.loads.numFailed).toBe(5);
    for (const handle of handles) expect(serving.tiersOf(handle)?.["host"] ?? 0).toBe(0);
    serving.expectNothingLeft();
    await world.stop();
  });
});

describe("a request does not wait for a load when computing is quicker", () => {
  test("of its own", async () => {
    const serving = await withContentAway();
    const { world } = serving;
    world.desk!.loadBytesPerSecond = 1;
    const before = world.desk!.numLoads;
    const computed = { ...world.connectors!.decisions };
    const handle = serving.add(1);
    await serving.untilEnded(handle);
    expect(world.desk!.numLoads).toBe(before);
    expect(world.connectors!.decisions).toEqual({ ...computed, compute: computed.compute + 1 });
    await world.drain();
    serving.expectNothingLeft();
    await world.stop();
  });

  test("of another", async () => {
    const serving = await withContentAway();
    const { world } = serving;
    const first = serving.add(1);
    world.submit();
    world.desk!.loadBytesPerSecond = 1;
    const second = serving.add(1);
    await serving.untilEnded(second);
    expect(world.received.get(first)!.tokens).toEqual([]);
    expect(world.connectors!.loads.numJoined).toBe(0);
    await world.drain();
    serving.expectNothingLeft();
    await world.stop();
  });
});

test("the head is computed while the tail loads, where both then end at about the same time", async () => {
  const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }), { numBlocks: 16 });
  const { world } = serving;
  const desk = world.desk!;
  // A block takes 4 ms to compute, and 4 ms to load: five blocks are three and two. Decodes take next to nothing.
  world.runner.microsOf = (counts) =>
    counts.reduce((sum, count) => sum + (count > 1 ? count * 1_000 : 1), 0);
  await serving.away(1);
  desk.loadBytesPerSecond = (desk.pageBytes / 4) * 1_000;
  const before = world.runner.seen.length;
  const handle = serving.add(1);
  world.submit();
  expect(world.connectors!.decisions.both).toBe(1);
  expect(desk.pending.map(({ kind, blocks }) => [kind, blocks.length])).toEqual([["load", 2]]);
  const rows = (): (readonly number[])[] =>
    world.runner.seen.slice(before).map(({ starts, counts }) => starts.concat(counts));
  expect(rows()).toEqual([[0, 12]]);
  await world.commit();
  expect(world.submit()).toBe(false);
  await desk.run(desk.next!);
  world.submit();
  expect(rows().slice(0, 2)).toEqual([
    [0, 12],
    [20, 4],
  ]);
  await serving.untilEnded(handle);
  expect(serving.tiersOf(handle)).toEqual({ device: 0, host: 8 });
  await world.drain();
  serving.expectNothingLeft();
  await world.stop();
});

test("a load that hangs is given up at its deadline; while it hangs its page is offered to nobody, and its connector is not to blame", async () => {
  const serving = await withContentAway();
  const { world } = serving;
  const desk = world.desk!;
  const first = serving.add(1);
  world.submit();
  const hung = desk.next!;
  desk.begin(hung);
  desk.stuck.add(hung.id);
  world.idleMs += 50;
  await serving.untilEnded(first);
  // The connector is asked again, and the device has nothing of it.
  world.idleMs += 2_000;
  for (const salt of [20, 21, 22]) await serving.untilEnded(serving.add(salt, 24, 4));
  const before = desk.numLoads;
  await serving.untilEnded(serving.add(1));
  expect(desk.numLoads).toBe(before);
  expect(serving.lines).toEqual([]);
  await desk.run(hung);
  world.submit();
  for (const salt of [23, 24, 25]) await serving.untilEnded(serving.add(salt, 24, 4));
  const back = serving.add(1);
  await world.drain();
  expect(serving.tiersOf(back)?.["host"]).toBeGreaterThan(0);
  serving.expectNothingLeft();
  await world.stop();
});
