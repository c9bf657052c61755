/** No connector can keep a request from running: leases under pressure, and without it (I9 to I12, I24). */

import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import type {
  BlockId,
  BlockLease,
  RequestView,
  SchedulerOutput,
} from "../../connectors/connector.ts";
import { RefusedError } from "../../connectors/connector.ts";
import { Bound, codeOf, ServingWorld } from "../support/serving-world.ts";
import { propertyRuns } from "../support/property-runs.ts";

const RECALL_MS = 10;

/** Leases as many complete blocks as it may, until it is told to stop. */
class Leases extends Bound {
  readonly leases: BlockLease[] = [];
  readonly recalls: (readonly [numBlocks: number, deadline: number, at: number])[] = [];
  readonly #ttlMs: number;

  constructor(ttlMs: number) {
    super();
    this.#ttlMs = ttlMs;
  }

  override requestFinished(
    _request: RequestView,
    [blocks = []]: readonly (readonly BlockId[])[],
  ): undefined {
    for (const id of blocks) {
      if (id === 0 || this.view.hashOf(id) === undefined || this.leases.length >= 6) continue;
      this.leases.push(this.view.lease([id], { ttlMs: this.#ttlMs }));
    }
  }

  override onMemoryPressure(numBlocks: number, deadline: number): void {
    this.recalls.push([numBlocks, deadline, this.context.now()]);
  }
}

describe("a connector that holds its full allowance, half of the pool", () => {
  test("keeps the oldest request waiting no longer than its leases last, though it needs the whole pool (I11, I24)", async () => {
    const connector = new Leases(300);
    const hostile = await ServingWorld.create(connector);
    const { world } = hostile;
    await hostile.untilEnded(hostile.add(1, 24, 4));
    expect(world.connectors?.ledgers.numHeldBy(0)).toBe(6);
    const since = world.now;
    const oldest = hostile.add(2, 40, 6);
    // Those behind it fit in what is left, and must not run before it all the same.
    const behind = [3, 4, 5].map((salt) => hostile.add(salt, 10, 2));
    let steps = 0;
    await world.drain(() => steps++);
    const { finishOrder } = world;
    expect(finishOrder.indexOf(oldest)).toBeLessThan(finishOrder.indexOf(behind[0]!));
    expect(world.now - since).toBeLessThan(300 + 40);
    expect(steps).toBeLessThan(100);
    hostile.expectNothingLeft();
    await world.stop();
  });

  test("is asked for them at once; until the recall's deadline it may renew, then no more; unrenewed, each is gone at its deadline (I9, I12)", async () => {
    const connector = new Leases(30);
    const hostile = await ServingWorld.create(connector, {}, { options: { recallMs: RECALL_MS } });
    const { world } = hostile;
    await hostile.untilEnded(hostile.add(1, 24, 4));
    const { leases, recalls } = connector;
    const large = hostile.add(2, 40, 6);
    const pressedAt = world.now;
    expect(world.submit()).toBe(false);
    expect(recalls).toEqual([[4, pressedAt + RECALL_MS, pressedAt]]);
    const [renewed, ...others] = leases;
    const free = connector.view.iterFreeBlockIdsWithHash().next();
    expect(free.done).toBe(true);

    // One is renewed in time, and once more a moment before the deadline.
    expect(renewed!.renew()).toBe(true);
    world.idleMs += RECALL_MS - 1;
    world.submit();
    expect(renewed!.renew(20)).toBe(true);
    world.idleMs += 1;
    for (const lease of leases) expect(lease.renew()).toBe(false);
    expect(leases.every(({ live }) => live)).toBe(true);

    const end = others[0]!.expiresAt;
    world.idleMs += end - world.now - 1;
    world.submit();
    expect(others.every(({ live }) => live)).toBe(true);
    world.idleMs += 1;
    world.submit();
    expect(others.some(({ live }) => live)).toBe(false);
    expect(renewed!.live).toBe(end < renewed!.expiresAt);
    // The pool has 11 blocks now, and the request needs 10 and one more: it runs at the latest when the renewed one ends.
    await world.drain();
    expect(world.received.get(large)!.firstTokenAt).toBeGreaterThan(0);
    hostile.expectNothingLeft();
    await world.stop();
  });

  test("cannot take anew what becomes free for a request that waits (I12, I24)", async () => {
    const codes: string[] = [];
    class Greedy extends Leases {
      override buildConnectorMeta({ stepId }: SchedulerOutput): void {
        if (stepId >= 0) return;
        for (let id = 1; id <= this.view.numBlocks; id++) {
          if (this.view.hashOf(id) !== undefined && this.view.refCount(id) === 0)
            codes.push(codeOf(() => this.view.lease([id], { ttlMs: 1000 })));
        }
      }
    }
    const hostile = await ServingWorld.create(new Greedy(40), {}, { options: { maxHeld: 12 } });
    const { world } = hostile;
    await hostile.untilEnded(hostile.add(1, 24, 4));
    const since = world.now;
    const large = hostile.add(2, 40, 6);
    while (world.received.get(large)!.finish === undefined) {
      if (!world.submit() && world.runner.queued === 0) world.idleMs += 1;
      else await world.commit();
    }
    expect(world.now - since).toBeLessThan(40 + 20);
    expect(new Set(codes)).toEqual(new Set(codes.length === 0 ? [] : ["pressure"]));
    await world.drain();
    hostile.expectNothingLeft();
    await world.stop();
  });
});

test("without pressure a lease that is renewed every half of its time lives on, and its content with it", async () => {
  const connector = new Leases(20);
  const hostile = await ServingWorld.create(connector);
  const { world } = hostile;
  await hostile.untilEnded(hostile.add(1, 12, 4));
  const [lease] = connector.leases;
  const key = connector.view.hashOf(lease!.ids[0]!);
  for (const other of connector.leases.slice(1)) other.release();
  for (let i = 0; i < 50; i++) {
    world.idleMs += 10 - 1;
    hostile.add(i + 2, 12, 1);
    await hostile.untilEnded(i + 1);
    expect(lease!.renew()).toBe(true);
  }
  expect(lease!.live).toBe(true);
  expect(connector.recalls).toEqual([]);
  expect(connector.view.hashOf(lease!.ids[0]!)).toBe(key!);
  lease!.release();
  await world.drain();
  hostile.expectNothingLeft();
  await world.stop();
});

/** What a connector of the property does when a hook of it runs. */
interface Whim {
  readonly hook: number;
  readonly first: number;
  readonly count: number;
  readonly ttlMs: number;
  readonly how: "lease" | "touch" | "renew" | "release" | "nothing";
}

const MOST_TTL = 50;
const whim: fc.Arbitrary<Whim> = fc.record({
  hook: fc.nat(4),
  first: fc.integer({ min: 1, max: 12 }),
  count: fc.integer({ min: 1, max: 6 }),
  ttlMs: fc.integer({ min: 1, max: MOST_TTL }),
  how: fc.constantFrom("lease", "lease", "lease", "touch", "renew", "release", "nothing"),
});

/** Follows its whims in turn, whatever is refused. */
class Whimsical extends Bound {
  readonly #whims: readonly Whim[];
  #leases: BlockLease[] = [];
  #next = 0;
  held = 0;

  constructor(whims: readonly Whim[]) {
    super();
    this.#whims = whims;
  }

  #follow(hook: number): void {
    const whim = this.#whims[this.#next % this.#whims.length]!;
    if (whim.hook !== hook && whim.hook !== 4) return;
    this.#next++;
    const { numBlocks } = this.view;
    const ids = Array.from(
      { length: whim.count },
      (_, i) => ((whim.first + i - 1) % numBlocks) + 1,
    );
    for (const id of ids) {
      try {
        if (whim.how === "lease") this.#leases.push(this.view.lease([id], { ttlMs: whim.ttlMs }));
        else if (whim.how === "touch") this.view.touchBlocks([id]);
        else if (whim.how === "release") this.#leases.shift()?.release();
        else if (whim.how === "renew") for (const lease of this.#leases) lease.renew(whim.ttlMs);
        this.held++;
      } catch (refused) {
        if (!(refused instanceof RefusedError)) throw refused;
      }
    }
    this.#leases = this.#leases.filter(({ live }) => live);
  }

  override findBlocks(): undefined {
    this.#follow(0);
  }
  override buildConnectorMeta({ stepId }: SchedulerOutput): void {
    if (stepId >= 0) this.#follow(1);
  }
  override requestFinished(): undefined {
    this.#follow(2);
  }
  override onMemoryPressure(): void {
    this.#follow(3);
  }
}

/** Two connectors that take what becomes free in turns, so that a request never finds all it needs. */
const TAKING_TURNS = {
  whims: [
    [{ hook: 0, first: 1, count: 4, ttlMs: 1, how: "touch" as const }],
    [{ hook: 0, first: 1, count: 1, ttlMs: 1, how: "lease" as const }],
  ],
  requests: [
    { salt: 0, promptTokens: 15, maxTokens: 2, after: 0 },
    { salt: 1, promptTokens: 33, maxTokens: 1, after: 0 },
    { salt: 0, promptTokens: 1, maxTokens: 1, after: 0 },
  ],
};

test("progress: whatever connectors hold, the oldest request gets a token within a bounded time (I10, I11)", async () => {
  const load = fc.record({
    whims: fc.array(fc.array(whim, { minLength: 1, maxLength: 12 }), {
      minLength: 1,
      maxLength: 3,
    }),
    requests: fc.array(
      fc.record({
        salt: fc.nat(3),
        promptTokens: fc.integer({ min: 1, max: 40 }),
        maxTokens: fc.integer({ min: 1, max: 8 }),
        after: fc.nat(6),
      }),
      { minLength: 1, maxLength: 8 },
    ),
  });
  let held = 0;
  let expired = 0;
  await fc.assert(
    fc.asyncProperty(load, async ({ whims, requests }) => {
      const connectors = whims.map((some) => new Whimsical(some));
      const hostile = await ServingWorld.create(
        connectors.map((connector, place) => ({ name: `whimsical-${place}`, connector })),
        {},
        { options: { recallMs: RECALL_MS, holdTtlMs: MOST_TTL } },
      );
      const { world } = hostile;
      let oldest = -1;
      let since = world.now;
      let tokens = 0;
      const check = (): void => {
        const first = [...world.received].find(([, { finish }]) => finish === undefined);
        if (first === undefined) return;
        const [handle, { tokens: got }] = first;
        if (handle !== oldest || got.length !== tokens) since = world.now;
        oldest = handle;
        tokens = got.length;
        // Its prompt takes a step; each lease lasts MOST_TTL, and may be renewed once more before the recall's deadline.
        expect(world.now - since).toBeLessThan(RECALL_MS + MOST_TTL + 10);
        for (let place = 0; place < connectors.length; place++)
          expect(world.connectors!.ledgers.numHeldBy(place)).toBeLessThanOrEqual(6);
      };
      for (const { salt, promptTokens, maxTokens, after } of requests) {
        hostile.add(salt, promptTokens, maxTokens);
        for (let i = 0; i < after; i++) {
          check();
          if (world.submit() || world.runner.queued > 0) await world.commit();
        }
      }
      await world.drain(check);
      hostile.expectNothingLeft();
      held += connectors.reduce((sum, connector) => sum + connector.held, 0);
      await world.stop();
      expired += hostile.lines.length;
    }),
    { ...propertyRuns(200), examples: [[TAKING_TURNS]] },
  );
  expect(held).toBeGreaterThan(100);
  expect(expired).toBeGreaterThan(0);
}, 120_000);
