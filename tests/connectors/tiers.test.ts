/** What leaves device and host comes back from tiers; what of a tier does not work is a miss that is counted and named. */

import { describe, expect, test } from "bun:test";
import CpuOffload from "../../connectors/cpu-offload.ts";
import Memory from "../../connectors/memory.ts";
import Tiered from "../../connectors/tiered.ts";
import type { TierDriving } from "../../connectors/tier-options.ts";
import type { KvTier } from "../../connectors/tier.ts";
import type { LoadedTier } from "../../engine/connectors/tiers/js-tier-port.ts";
import type { WorldConnectors } from "../support/scheduler-world.ts";
import { ServingWorld } from "../support/serving-world.ts";

const DRIVING: TierDriving = {
  writes: "through",
  promote: true,
  inFlight: 8,
  timeoutMs: 15,
  retries: 0,
  failures: 3,
};

function loaded(tier: KvTier, name = "memory", driving: Partial<TierDriving> = {}): LoadedTier {
  return { name, tier, driving: { ...DRIVING, ...driving }, path: undefined };
}

/** A device of twelve blocks and a host of eight pages: a prompt has six blocks. */
function serve(
  tiers: readonly LoadedTier[],
  more: Partial<WorldConnectors> = {},
): Promise<ServingWorld> {
  const connector = new Tiered({ mode: "eager" });
  return ServingWorld.create(
    [{ name: "tiered", connector, tiers }],
    {},
    { hostPages: 8, microsPerToken: 2000, ...more },
  );
}

/** A tier with methods that a test may change. */
class Changing extends Memory {
  numHas = 0;
  onLoad: ((key: string, into: Uint8Array) => unknown) | undefined;
  onStore: ((key: string, page: Uint8Array) => unknown) | undefined;
  onHas: ((keys: readonly string[]) => unknown) | undefined;

  constructor() {
    super({ size: 1e9 });
  }

  override has(keys: readonly string[]): readonly boolean[] {
    this.numHas++;
    return (this.onHas?.(keys) ?? super.has(keys)) as readonly boolean[];
  }

  override load(key: string, into: Uint8Array): boolean {
    return (this.onLoad === undefined ? super.load(key, into) : this.onLoad(key, into)) as boolean;
  }

  override store(key: string, page: Uint8Array): boolean {
    return (
      this.onStore === undefined ? super.store(key, page) : this.onStore(key, page)
    ) as boolean;
  }
}

/** Samples of the tiers' counters, by their labels. */
function pagesOf(serving: ServingWorld, tier = "memory"): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { name, labels, value } of serving.world.host!.takeSamples(true)) {
    if (name !== "kvengine_connector_tier_pages_total" || labels["tier"] !== tier) continue;
    counts[`${labels["kind"]} ${labels["outcome"]}`] = value;
  }
  return counts;
}

async function end(serving: ServingWorld): Promise<void> {
  serving.expectNothingLeft();
  await serving.world.stop();
}

describe("a tier", () => {
  test("brings back what left the device and the host's pages, and the receipt says so", async () => {
    const serving = await serve([loaded(new Memory({ size: 1e9 }))]);
    await serving.away(1);
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 0, memory: 20 });
    const counts = pagesOf(serving);
    expect(counts["load ok"]).toBe(5);
    expect(counts["store ok"]).toBeGreaterThan(20);
    await end(serving);
  });

  test("that is behind another one brings what that does not have; in order", async () => {
    const [near, far] = [new Changing(), new Changing()];
    const serving = await serve([
      loaded(near, "near", { promote: false }),
      loaded(far, "far", { promote: false }),
    ]);
    await serving.away(1);
    near.onHas = (keys) => keys.map((_, i) => i === 0);
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 0, near: 4, far: 16 });
    await end(serving);
  });

  test("is one of four places that a prompt's blocks come from: device, host and two tiers, in one look", async () => {
    const [near, far] = [new Changing(), new Changing()];
    const serving = await serve([loaded(near, "near"), loaded(far, "far")], { hostPages: 16 });
    await serving.away(1);
    // Three blocks come to the device and to host pages; of these the device keeps two.
    serving.add(1, 13, 1);
    await serving.world.drain();
    serving.add(60, 36, 4);
    await serving.world.drain();
    near.onHas = (keys) => keys.map((_, i) => i === 0);
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 8, host: 4, near: 4, far: 4 });
    await end(serving);
  });

  test("that stands before another gets what comes from those behind it", async () => {
    const near = new Changing();
    const serving = await serve([loaded(near, "near"), loaded(new Memory({ size: 1e9 }))]);
    await serving.away(1);
    near.clear();
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 0, memory: 20 });
    expect(near.stats()["pages"]).toBeGreaterThanOrEqual(5);
    await end(serving);
  });

  test("that answers later makes requests wait for the answer, and for no longer than a look-up may", async () => {
    const tier = new Changing();
    const later: (() => void)[] = [];
    const serving = await serve([loaded(tier)], {
      turn: () => later.splice(0).map((go) => go()).length > 0,
    });
    await serving.away(1);
    tier.onHas = (keys) =>
      new Promise((resolve) => later.push(() => resolve(keys.map(() => true))));
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 0, memory: 20 });
    tier.onHas = () => new Promise(() => {});
    await serving.away(2);
    const missed = serving.add(2);
    await serving.world.drain();
    expect(serving.tiersOf(missed) ?? {}).toEqual({});
    await end(serving);
  });

  test("that is written back gets what is about to leave the host's pages, and nothing before", async () => {
    const tier = new Changing();
    const driving = { writes: "back" } as const;
    const serving = await serve([loaded(tier, "memory", driving)], { hostPages: 200 });
    serving.add(1);
    await serving.world.drain();
    expect(tier.stats()["pages"]).toBe(0);
    for (let salt = 2; salt < 40; salt++) {
      serving.add(salt);
      await serving.world.drain();
    }
    expect(tier.stats()["pages"]).toBeGreaterThan(20);
    const back = serving.add(1);
    await serving.world.drain();
    expect(Object.keys(serving.tiersOf(back) ?? {})).toContain("memory");
    await end(serving);
  });

  test("that is of no use to the next run gets nothing more at the end", async () => {
    const tier = new Changing();
    const serving = await serve([loaded(tier, "memory", { writes: "back" })], { hostPages: 200 });
    serving.add(1);
    await serving.world.drain();
    expect(tier.stats()["pages"]).toBe(0);
    await serving.world.host!.shutdown(1000);
    expect(tier.stats()["pages"]).toBe(0);
    await serving.world.stop();
  });

  test("is left alone where computing is quicker, and tried again after a minute", async () => {
    const tier = new Changing();
    const later: (() => void)[] = [];
    let ms = 0;
    const turn = (): boolean => {
      serving.world.idleMs += ms;
      return later.splice(0).map((go) => go()).length > 0;
    };
    const options = { loadTimeoutMs: 1e6 };
    const serving = await serve([loaded(tier, "memory", { timeoutMs: 1e6 })], { turn, options });
    await serving.away(1);
    // Each page takes longer than the whole prompt.
    ms = 60;
    tier.onLoad = (key, into) =>
      new Promise((resolve) =>
        later.push(() => resolve(Memory.prototype.load.call(tier, key, into))),
      );
    serving.add(1);
    await serving.world.drain();
    ms = 0;
    tier.onLoad = undefined;
    await serving.away(1);
    const computed = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(computed) ?? {}).toEqual({});
    expect(serving.world.connectors!.tiers.numLeft).toBeGreaterThan(0);
    serving.world.idleMs += 60_000;
    await serving.away(1);
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 0, memory: 20 });
    await end(serving);
  });
});

describe("a tier that does not work", () => {
  const HOWS: readonly (readonly [string, (key: string, into: Uint8Array) => unknown, string])[] = [
    [
      "throws",
      () => {
        throw new Error("no disk");
      },
      "load failed",
    ],
    ["rejects", () => Promise.reject(new Error("no disk")), "load failed"],
    ["has nothing of what it says", () => false, "load none"],
    ["lies", () => true, "load older"],
    ["brings garbage", (_key, into) => into.fill(7) === into, "load older"],
    ["hangs", () => new Promise(() => {}), "load late"],
  ];
  test.each([...HOWS])(
    "since it %s costs a miss: nobody waits for long, every token is right",
    async (_how, load, outcome) => {
      const tier = new Changing();
      const serving = await serve([loaded(tier)]);
      await serving.away(1);
      tier.onLoad = load;
      const { now } = serving.world;
      const missed = serving.add(1);
      await serving.world.drain();
      expect(serving.tiersOf(missed)?.["memory"] ?? 0).toBe(0);
      expect(pagesOf(serving)[outcome]).toBeGreaterThan(0);
      // Computing it takes four steps, a call of the tier 15 ms; a load may take 40.
      expect(serving.world.now - now).toBeLessThan(30);
      await end(serving);
    },
  );

  test("is switched off after some failures, with one line, and works again later", async () => {
    const tier = new Changing();
    const serving = await serve([loaded(tier)]);
    await serving.away(1);
    tier.onLoad = () => {
      throw new Error("no disk");
    };
    for (let i = 0; i < 3; i++) {
      serving.add(1);
      await serving.world.drain();
      await serving.away(1);
    }
    const off =
      "loads from tier memory are switched off after 3 failures in a row, the last one: threw Error: no disk";
    expect(serving.lines).toEqual([`connector tiered: ${off}`]);
    const { numHas } = tier;
    serving.add(1);
    await serving.world.drain();
    expect(tier.numHas - numHas).toBeLessThan(12);
    await serving.away(1);
    tier.onLoad = undefined;
    serving.world.idleMs += 1000;
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)?.["memory"]).toBeGreaterThan(0);
    expect(serving.lines.length).toBe(1);
    await end(serving);
  });

  test("since it is full declines, and what it has is still found", async () => {
    const tier = new Changing();
    const serving = await serve([loaded(tier)]);
    await serving.away(1);
    tier.onStore = () => false;
    await serving.away(2);
    const back = serving.add(1);
    await serving.world.drain();
    expect(serving.tiersOf(back)).toEqual({ device: 0, memory: 20 });
    expect(pagesOf(serving)["store none"]).toBeGreaterThan(0);
    expect(serving.lines).toEqual([]);
    await end(serving);
  });

  test("for a moment is tried again: a store after a while, a load at once", async () => {
    const tier = new Changing();
    let numFailures = 1;
    const flaky =
      <A extends readonly unknown[]>(works: (...args: A) => unknown) =>
      (...args: A): unknown => {
        if (numFailures-- > 0) throw new Error("flaky");
        return works(...args);
      };
    tier.onStore = flaky((key, page) => Memory.prototype.store.call(tier, key, page));
    const serving = await serve([loaded(tier, "memory", { retries: 1 })], { hostPages: 64 });
    serving.add(1);
    await serving.world.drain();
    expect(tier.stats()["pages"]).toBe(5);
    serving.world.idleMs += 60;
    serving.world.submit();
    await serving.world.settled();
    await new Promise((done) => setImmediate(done));
    expect(tier.stats()["pages"]).toBe(6);
    await serving.world.stop();
    const again = await serve([loaded(tier, "memory", { retries: 1 })]);
    await again.away(1);
    numFailures = 1;
    tier.onLoad = flaky((key, into) => Memory.prototype.load.call(tier, key, into));
    const back = again.add(1);
    await again.world.drain();
    expect(again.tiersOf(back)).toEqual({ device: 0, memory: 20 });
    await end(again);
  });
});

test("a reset drops what tiers have: nothing from before it is brought", async () => {
  const tier = new Changing();
  tier.clear = () => {};
  const serving = await serve([loaded(tier)]);
  await serving.away(1);
  serving.world.scheduler.resetPrefixCache();
  const back = serving.add(1);
  await serving.world.drain();
  expect(serving.tiersOf(back) ?? {}).toEqual({});
  expect(pagesOf(serving)["load older"]).toBe(5);
  await end(serving);
});

test("what a tier answered before a reset is not believed after it", async () => {
  const tier = new Changing();
  tier.onHas = (keys) => Promise.resolve(Memory.prototype.has.call(tier, keys));
  const serving = await serve([loaded(tier)]);
  await serving.away(1);
  const brought = serving.add(1);
  await serving.world.drain();
  expect(serving.tiersOf(brought)).toEqual({ device: 0, memory: 20 });
  await serving.away(1);
  expect(pagesOf(serving)["load none"] ?? 0).toBe(0);
  serving.world.scheduler.resetPrefixCache();
  const back = serving.add(1);
  await serving.world.drain();
  expect(serving.tiersOf(back) ?? {}).toEqual({});
  const { "load older": older = 0, "load none": none = 0 } = pagesOf(serving);
  expect([older, none]).toEqual([0, 0]);
  await end(serving);
});

test("a reset of the device alone leaves tiers their content", async () => {
  const serving = await serve([loaded(new Memory({ size: 1e9 }))]);
  await serving.away(1);
  serving.world.scheduler.resetPrefixCache(false);
  const back = serving.add(1);
  await serving.world.drain();
  expect(serving.tiersOf(back)).toEqual({ device: 0, memory: 20 });
  await end(serving);
});

test("without tiers it is cpu-offload", async () => {
  const tiered = await serve([]);
  const plain = await ServingWorld.create(new CpuOffload({ mode: "eager" }), {}, { hostPages: 8 });
  for (const serving of [tiered, plain]) await serving.serve();
  expect(tiered.world.desk!.numLoads).toBe(plain.world.desk!.numLoads);
  expect(tiered.world.desk!.numStores).toBe(plain.world.desk!.numStores);
  for (const serving of [tiered, plain]) await end(serving);
});
