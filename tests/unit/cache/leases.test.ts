/** What a connector holds, and until when. */

import { describe, expect, test } from "bun:test";
import { allocate, free, hashNumber } from "../../support/cached-sequence.ts";
import {
  cachedPool,
  connectorOn,
  connectorWorld,
  refusalOf,
} from "../../support/connector-blocks.ts";

const DAY = 86_400_000;

describe("a lease", () => {
  test("is a reference on each block: it leaves the queue, and goes to the end afterwards (I2, I5)", () => {
    const pool = cachedPool(4);
    const { view, ledger } = connectorOn(pool);
    const lease = view.lease([1, 3], { ttlMs: 10 });
    expect([pool.references(1), pool.references(3), ledger.numHeld]).toEqual([1, 1, 2]);
    expect(pool.freeIds()).toEqual([2, 4]);
    expect([lease.ids, lease.expiresAt, lease.live]).toEqual([[1, 3], 10, true]);
    lease.release();
    expect(pool.freeIds()).toEqual([2, 4, 3, 1]);
    expect([pool.isHashed(1), lease.live, ledger.numHeld]).toEqual([true, false, 0]);
  });

  test("released twice is released once, also by the end of a `using` scope (I8)", () => {
    const pool = cachedPool(3);
    const { view } = connectorOn(pool);
    const other = view.lease([1], { ttlMs: 10 });
    {
      using lease = view.lease([1, 2], { ttlMs: 10 });
      lease.release();
      expect(pool.references(1)).toBe(1);
    }
    expect([pool.references(1), pool.references(2)]).toEqual([1, 0]);
    other.release();
    expect(pool.numFree).toBe(3);
  });

  test("keeps the block from everybody: of its requests the last one may let go (I7)", () => {
    const pool = cachedPool(2, 0);
    const [id] = allocate(pool, 1)!;
    pool.insert(id!, hashNumber(1), 0, 0, 0);
    const { view } = connectorOn(pool);
    const lease = view.lease([id!], { ttlMs: 10 });
    free(pool, [id!]);
    expect([pool.numFree, view.hashOf(id!)]).toEqual([1, expect.any(String)]);
    lease.release();
    expect(pool.numFree).toBe(2);
  });

  test("ends at its deadline, not before, and cannot be renewed then (I9)", () => {
    const pool = cachedPool(2);
    const world = connectorWorld();
    const { view, ledger } = connectorOn(pool, world);
    const lease = view.lease([1], { ttlMs: 10 });
    world.now = 9;
    expect([ledger.expire(), lease.live, pool.numFree]).toEqual([0, true, 1]);
    world.now = 10;
    expect(lease.live).toBe(false);
    expect([ledger.expire(), pool.numFree, ledger.numExpired]).toEqual([1, 2, 1]);
    expect([lease.renew(), lease.renew(5), ledger.nextDeadline]).toEqual([false, false, undefined]);
    lease.release();
    expect(pool.numFree).toBe(2);
  });

  test("that is due is over for the connector before anybody has ended it (I9)", () => {
    const world = connectorWorld();
    const { view, ledger } = connectorOn(cachedPool(2), world);
    const lease = view.lease([1], { ttlMs: 10 });
    world.now = 10;
    expect(lease.renew()).toBe(false);
    expect([view.refCount(1), ledger.expire(), ledger.expire()]).toEqual([0, 1, 0]);
  });

  test("lives for as long as it is renewed every half of its time", () => {
    const world = connectorWorld();
    const { view, ledger } = connectorOn(cachedPool(2), world);
    const lease = view.lease([1], { ttlMs: 1000 });
    for (; world.now < 10 * DAY; world.now += DAY / 4) {
      expect(lease.renew(DAY / 2)).toBe(true);
      ledger.expire();
    }
    expect(lease.live).toBe(true);
    expect(lease.renew()).toBe(true);
    expect(lease.expiresAt).toBe(world.now + 1000);
  });

  test("of no blocks is over at once", () => {
    const { view, ledger } = connectorOn(cachedPool(2));
    const lease = view.lease([], { ttlMs: 10 });
    expect([lease.ids, lease.live, lease.renew()]).toEqual([[], false, false]);
    lease.release();
    expect([ledger.numLeases, ledger.nextDeadline]).toEqual([0, undefined]);
  });

  test("tells when the next of all holds ends", () => {
    const world = connectorWorld();
    const { view, ledger } = connectorOn(cachedPool(4), world, { holdTtlMs: 50 });
    expect(ledger.nextDeadline).toBeUndefined();
    view.touchBlocks([1]);
    expect(ledger.nextDeadline).toBe(50);
    const [late, early] = [60, 40].map((ttlMs) => view.lease([2], { ttlMs }));
    expect(ledger.nextDeadline).toBe(40);
    early!.renew(70);
    expect(ledger.nextDeadline).toBe(50);
    view.freeBlocks([1]);
    expect(ledger.nextDeadline).toBe(60);
    late!.release();
    expect(ledger.nextDeadline).toBe(70);
  });

  test.each([[0.5], [0], [-1], [DAY + 1], [Infinity], [Number.NaN], ["10"], [undefined]])(
    "cannot be for %p ms",
    (ttlMs) => {
      const pool = cachedPool(2);
      const { view } = connectorOn(pool);
      const lease = view.lease([2], { ttlMs: 10 });
      expect(refusalOf(() => view.lease([1], { ttlMs: ttlMs as number }))).toMatchObject({
        code: "invalid",
        message: expect.stringContaining("allowed is 1 to 86400000"),
      });
      if (ttlMs !== undefined)
        expect(refusalOf(() => lease.renew(ttlMs as number)).code).toBe("invalid");
      expect([pool.references(1), lease.expiresAt]).toEqual([0, 10]);
    },
  );

  test.each([[1], [DAY]])("can be for %p ms", (ttlMs) => {
    const { view } = connectorOn(cachedPool(2));
    expect(view.lease([1], { ttlMs }).expiresAt).toBe(ttlMs);
  });

  test("needs to be told for how long", () => {
    const { view } = connectorOn(cachedPool(2));
    expect(refusalOf(() => view.lease([1], undefined as never)).code).toBe("invalid");
  });
});

describe("a touch", () => {
  test("is held until the block is freed, once for each time that it was touched (I8)", () => {
    const pool = cachedPool(3);
    const { view } = connectorOn(pool);
    view.touchBlocks([1, 2, 1]);
    view.touchBlocks([1]);
    expect([pool.references(1), pool.references(2)]).toEqual([3, 1]);
    view.freeBlocks([1, 2]);
    expect([pool.references(1), pool.references(2)]).toEqual([2, 0]);
    expect(refusalOf(() => view.freeBlocks([1, 1, 1])).code).toBe("notHeld");
    expect(pool.references(1)).toBe(2);
    view.freeBlocks([1, 1]);
    expect(pool.numFree).toBe(3);
  });

  test("of no blocks, freed again, is nothing", () => {
    const { view, ledger } = connectorOn(cachedPool(1));
    view.touchBlocks([]);
    view.freeBlocks([]);
    expect(ledger.nextDeadline).toBeUndefined();
  });

  test("ends after the time that all touches have (I9)", () => {
    const pool = cachedPool(3);
    const world = connectorWorld();
    const { view, ledger } = connectorOn(pool, world, { holdTtlMs: 30 });
    view.touchBlocks([1]);
    world.now = 20;
    view.touchBlocks([1, 2]);
    world.now = 30;
    expect([ledger.expire(), pool.references(1), pool.references(2)]).toEqual([0, 1, 1]);
    world.now = 50;
    expect([ledger.expire(), pool.numFree, ledger.numExpired]).toEqual([2, 3, 3]);
  });

  test("is closed by freeing in the order of touching: the newest one stays", () => {
    const world = connectorWorld();
    const { view, ledger } = connectorOn(cachedPool(1), world, { holdTtlMs: 30 });
    view.touchBlocks([1]);
    world.now = 20;
    view.touchBlocks([1]);
    view.freeBlocks([1]);
    expect(ledger.nextDeadline).toBe(50);
  });

  test("is none of a lease: what is leased cannot be freed", () => {
    const { view } = connectorOn(cachedPool(1));
    const lease = view.lease([1], { ttlMs: 10 });
    expect(refusalOf(() => view.freeBlocks([1])).code).toBe("notHeld");
    expect(lease.live).toBe(true);
  });
});

describe("a recall", () => {
  test("lets leases be renewed to its deadline, not from there on (I12)", () => {
    const world = connectorWorld();
    const { view, ledger } = connectorOn(cachedPool(3), world);
    const [lease, unrenewed] = [100, 30].map((ttlMs) => view.lease([1], { ttlMs }));
    ledger.recall(40);
    const later = view.lease([2], { ttlMs: 100 });
    world.now = 39;
    expect(lease!.renew()).toBe(true);
    expect(unrenewed!.live).toBe(false);
    world.now = 40;
    expect([lease!.renew(), lease!.live, lease!.expiresAt]).toEqual([false, true, 139]);
    expect(later.renew()).toBe(true);
    world.now = 139;
    expect([ledger.expire(), lease!.live, later.live]).toEqual([1, false, true]);
  });

  test("ends a lease the time of a touch after its deadline at the latest, however long it was opened for (I9, I11)", () => {
    const world = connectorWorld();
    const pool = cachedPool(1);
    const { view, ledger } = connectorOn(pool, world, { holdTtlMs: 30 });
    const lease = view.lease([1], { ttlMs: DAY });
    ledger.recall(40);
    expect(lease.expiresAt).toBe(70);
    world.now = 39;
    expect([lease.renew(DAY), lease.expiresAt]).toEqual([true, 70]);
    world.now = 70;
    expect([ledger.expire(), lease.live, pool.numFree]).toEqual([1, false, 1]);
  });

  test("cannot be put off by a later one", () => {
    const world = connectorWorld();
    const { view, ledger } = connectorOn(cachedPool(1), world);
    const lease = view.lease([1], { ttlMs: 100 });
    ledger.recall(10);
    ledger.recall(90);
    world.now = 10;
    expect(lease.renew()).toBe(false);
  });
});

describe("a disabled connector", () => {
  test("holds nothing, and every call of it is refused (I7)", () => {
    const pool = cachedPool(5);
    const blocks = connectorOn(pool);
    const { view, ledger } = blocks;
    const lease = view.lease([1, 2], { ttlMs: 10 });
    view.touchBlocks([2, 3, 3]);
    const iteration = view.iterFreeBlockIdsWithHash();
    iteration.next();
    blocks.disable();
    expect([pool.numFree, pool.numUsed, ledger.numHeld, ledger.nextDeadline]).toEqual([
      5,
      0,
      0,
      undefined,
    ]);
    expect([lease.live, lease.renew()]).toEqual([false, false]);
    lease.release();
    lease[Symbol.dispose]();
    for (const call of [
      () => view.numBlocks,
      () => view.numFreeBlocks,
      () => view.blockSize,
      () => view.refCount(1),
      () => view.hashOf(1),
      () => view.blockOfHash("x"),
      () => view.iterFreeBlockIdsWithHash(),
      () => iteration.next(),
      () => view.lease([1], { ttlMs: 10 }),
      () => view.touchBlocks([1]),
      () => view.freeBlocks([2]),
      () => view.markSafe([1]),
      () => view.clearSafe([]),
    ])
      expect(refusalOf(call).code).toBe("closed");
    blocks.disable();
    expect([ledger.expire(), pool.numFree]).toEqual([0, 5]);
    ledger.checkIntegrity();
  });

  test("takes nothing from another (I2)", () => {
    const pool = cachedPool(3);
    const [one, other] = [connectorOn(pool), connectorOn(pool)];
    one.view.touchBlocks([1, 2]);
    other.view.touchBlocks([2, 3]);
    one.disable();
    expect([1, 2, 3].map((id) => pool.references(id))).toEqual([0, 1, 1]);
    other.view.freeBlocks([2, 3]);
    expect(pool.numFree).toBe(3);
  });
});
