/** A request ends, is preempted or sees a reset while its blocks are on their way, at each moment of that way (I14, I15, I18, I25, I36). */

import { describe, expect, test } from "bun:test";
import type { LoadPlan, RequestView } from "../../connectors/connector.ts";
import CpuOffload from "../../connectors/cpu-offload.ts";
import { RefusedError } from "../../connectors/connector.ts";
import { ServingWorld } from "../support/serving-world.ts";

/** Begins its loads when it is told to. */
class Waits extends CpuOffload {
  isWaiting = false;
  readonly #plans: (readonly [RequestView, LoadPlan])[] = [];

  override updateStateAfterAlloc(request: RequestView, plan: LoadPlan): void {
    if (this.isWaiting) this.#plans.push([request, plan]);
    else super.updateStateAfterAlloc(request, plan);
  }

  /** Begins what it kept; what nobody wants any more is refused. */
  begin(): void {
    this.isWaiting = false;
    for (const [request, plan] of this.#plans.splice(0)) {
      try {
        super.updateStateAfterAlloc(request, plan);
      } catch (refused) {
        if (!(refused instanceof RefusedError) || refused.code !== "notHeld") throw refused;
      }
    }
  }
}

const MOMENTS = ["planned", "queued", "started", "done, not consumed", "consumed"] as const;
type Moment = (typeof MOMENTS)[number];

/** A long request runs in 4 of 14 blocks, and grows; another one waits for its five blocks, which are on their way. */
async function until(moment: Moment): Promise<{
  readonly serving: ServingWorld;
  readonly connector: Waits;
  readonly running: number;
  readonly loading: number;
}> {
  const connector = new Waits({ mode: "eager" });
  const serving = await ServingWorld.create(connector, { numBlocks: 14 });
  await serving.away(1);
  const { world } = serving;
  const desk = world.desk!;
  const running = serving.add(2, 13, 34);
  world.submit(1);
  await world.commit();
  while (desk.next !== undefined) await desk.run(desk.next);
  connector.isWaiting = moment === "planned";
  const loading = serving.add(1, 24, 12);
  world.submit(1);
  const flight = desk.pending.find(({ kind }) => kind === "load");
  expect(flight === undefined).toBe(moment === "planned");
  expect(world.connectors!.loads.blocks.size).toBe(5);
  if (flight !== undefined && moment === "started") desk.begin(flight);
  if (flight !== undefined && moment.startsWith("done")) await desk.run(flight);
  if (flight !== undefined && moment === "consumed") {
    await desk.run(flight);
    await world.commit();
    world.submit(1);
    expect(world.connectors!.loads.blocks.size).toBe(0);
  }
  return { serving, connector, running, loading };
}

/** Runs the device alone: transfers stand still. */
async function untilPreempted({ world }: ServingWorld): Promise<void> {
  const before = world.scheduler.takeStats().preemptions;
  for (let step = 0; ; step++) {
    expect(step).toBeLessThan(40);
    world.submit(1);
    if (world.scheduler.takeStats().preemptions > before) return;
    await world.commit();
  }
}

describe.each(MOMENTS)("blocks that are %s", (moment) => {
  test("belong to a request that is aborted: it lets go at once, and what arrives is there for the next one", async () => {
    const { serving, connector, loading } = await until(moment);
    const { world } = serving;
    world.abort(loading);
    expect(world.received.get(loading)!.finish?.reason).toBe("abort");
    connector.begin();
    const before = world.desk!.numLoads;
    for (const flight of [...world.desk!.pending]) await world.desk!.run(flight);
    if (world.runner.queued > 0) await world.commit();
    world.submit(1);
    const next = serving.add(1);
    await world.drain();
    // Only what was promised and not begun has to be loaded for it.
    const isNew = moment === "planned";
    expect(world.desk!.numLoads > before).toBe(isNew);
    expect(serving.tiersOf(next)).toEqual(isNew ? { device: 0, host: 20 } : { device: 20 });
    serving.expectNothingLeft([loading]);
    expect(serving.lines).toEqual([]);
    await world.stop();
  });

  test("belong to a request that is preempted: it gives way at once, and gets its tokens later", async () => {
    const { serving, connector, running, loading } = await until(moment);
    const { world } = serving;
    await untilPreempted(serving);
    expect(world.received.get(running)!.finish).toBeUndefined();
    connector.begin();
    await world.drain();
    expect(world.received.get(loading)!.tokens.length).toBe(12);
    serving.expectNothingLeft();
    expect(serving.lines).toEqual([]);
    await world.stop();
  });

  test("are of before a reset: it returns at once, a look-up is a miss, nothing older is published", async () => {
    const { serving, connector, loading } = await until(moment);
    const { world } = serving;
    const { numArrived } = world.connectors!.loads;
    const generation = world.scheduler.resetPrefixCache();
    expect(generation).toBe(1);
    world.scheduler.checkIntegrity();
    expect(world.scheduler.pool.numHashed).toBe(0);
    connector.begin();
    const before = world.desk!.numLoads;
    // The tokens are the same, and not a block of them may come from before.
    const next = serving.add(1);
    for (const flight of [...world.desk!.pending]) await world.desk!.run(flight);
    await world.drain();
    expect(world.desk!.numLoads).toBe(before);
    expect(world.connectors!.loads.numArrived).toBe(numArrived);
    expect(world.received.get(loading)!.tokens.length).toBe(12);
    expect(serving.tiersOf(next)?.["host"] ?? 0).toBe(0);
    serving.expectNothingLeft();
    expect(serving.lines).toEqual([]);
    await world.stop();
  });
});

describe("a store", () => {
  test("whose request has ended goes on, and its blocks serve the prefix cache meanwhile (I25)", async () => {
    const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }));
    const { world } = serving;
    await serving.untilEnded(serving.add(1));
    const { desk } = world;
    expect(desk!.pending.length).toBeGreaterThan(0);
    const again = serving.add(1);
    await serving.untilEnded(again);
    expect(serving.tiersOf(again)).toEqual({ device: 20 });
    await world.drain();
    serving.expectNothingLeft();
    await world.stop();
  });

  test("that has begun keeps its blocks from being handed out; one that has not is given up for a request (I17)", async () => {
    const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }));
    const { world } = serving;
    const desk = world.desk!;
    await serving.untilEnded(serving.add(1));
    const [first, ...others] = [...desk.pending];
    desk.begin(first!);
    // All twelve blocks but those of the copy under way.
    const large = serving.add(2, 46 - 4 * first!.blocks.length, 1);
    expect(world.submit()).toBe(true);
    for (const { blocks } of others)
      for (const id of blocks) expect(world.scheduler.pool.isFlying(id)).toBe(false);
    for (const id of first!.blocks) expect(world.scheduler.pool.references(id)).toBe(0);
    await serving.untilEnded(large);
    await world.drain();
    serving.expectNothingLeft();
    await world.stop();
  });

  test("that has begun is hurried once a request lacks its blocks (I17)", async () => {
    const serving = await ServingWorld.create(new CpuOffload({ mode: "eager" }));
    const { world } = serving;
    const desk = world.desk!;
    await serving.untilEnded(serving.add(1));
    const begun = [...desk.pending];
    for (const flight of begun) desk.begin(flight);
    expect(desk.hurried.size).toBe(0);
    // It needs all twelve blocks.
    const large = serving.add(2, 46, 1);
    expect(world.submit()).toBe(false);
    expect(desk.hurried).toEqual(new Set(begun.map(({ id }) => id)));
    await world.drain();
    expect(world.received.get(large)!.finish).toMatchObject({ reason: "length" });
    serving.expectNothingLeft();
    await world.stop();
  });

  test("from before a reset frees its pages later and is offered to nobody (I18, I36)", async () => {
    const connector = new CpuOffload({ mode: "eager" });
    const serving = await ServingWorld.create(connector);
    const { world } = serving;
    await serving.untilEnded(serving.add(1));
    for (const flight of world.desk!.pending) world.desk!.begin(flight);
    world.scheduler.resetPrefixCache();
    expect(connector.stats()["pages"]).toBe(0);
    const again = serving.add(1);
    await world.drain();
    expect(serving.tiersOf(again) ?? {}).toEqual({});
    serving.expectNothingLeft();
    expect(world.connectors!.pages.numHeld(0)).toBe(connector.stats()["pages"]!);
    await world.stop();
  });
});
