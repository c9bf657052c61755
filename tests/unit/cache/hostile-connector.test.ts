/** What a connector is refused, by mistake or on purpose: each refusal changes nothing. */

import { describe, expect, test } from "bun:test";
import { allocate, hashNumber, range } from "../../support/cached-sequence.ts";
import {
  cachedPool,
  connectorOn,
  connectorWorld,
  refusalOf,
} from "../../support/connector-blocks.ts";

const DAY = 86_400_000;

describe("a hold is refused whole, and changes nothing,", () => {
  test.each([
    ["the null block", [1, 0], "null"],
    ["an id beyond the pool", [1, 5], "invalid"],
    ["a negative id", [-1], "invalid"],
    ["half a block", [1.5], "invalid"],
    ["NaN", [1, Number.NaN], "invalid"],
    ["a text", ["1"], "invalid"],
    ["a hole in the list", [1, undefined], "invalid"],
    ["a bigint", [1n], "invalid"],
    ["an object", [new Number(1)], "invalid"],
    ["more ids than the pool has blocks", [1, 1, 1, 1, 1], "invalid"],
    ["what is no list", "12", "invalid"],
    ["nothing", undefined, "invalid"],
    ["a set", new Set([1]), "invalid"],
  ])("for %s", (_, ids, code) => {
    const pool = cachedPool(4);
    const { view, ledger } = connectorOn(pool);
    view.touchBlocks([1]);
    const before = pool.freeIds();
    for (const call of [
      () => view.touchBlocks(ids as number[]),
      () => view.freeBlocks(ids as number[]),
      () => view.lease(ids as number[], { ttlMs: 10 }),
      () => view.markSafe(ids as number[]),
    ])
      expect(refusalOf(call).code).toBe(code as "invalid");
    expect([pool.freeIds(), pool.references(1), ledger.numHeld]).toEqual([before, 1, 1]);
    ledger.checkIntegrity();
  });

  test("for a block without content, or whose step has not committed (I3)", () => {
    const pool = cachedPool(4, 2);
    const world = connectorWorld();
    const { view } = connectorOn(pool, world);
    const [id] = allocate(pool, 1)!;
    pool.insert(id!, hashNumber(9), 0, 0, 1);
    for (const stale of [id!, 4]) {
      expect(refusalOf(() => view.lease([1, stale], { ttlMs: 10 })).code).toBe("stale");
      expect(refusalOf(() => view.touchBlocks([1, stale])).code).toBe("stale");
    }
    expect(pool.references(1)).toBe(0);
    world.committedStep = 1;
    view.touchBlocks([1, id!]);
    expect(pool.references(1)).toBe(1);
  });

  test("above the budget, which counts a block once, however often it is held (I10)", () => {
    const pool = cachedPool(6);
    const { view, ledger } = connectorOn(pool, connectorWorld(), { maxHeld: 3 });
    view.touchBlocks([1, 2, 1]);
    const lease = view.lease([2, 2], { ttlMs: 10 });
    expect(refusalOf(() => view.touchBlocks([3, 4]))).toMatchObject({
      code: "budget",
      available: 1,
    });
    expect(refusalOf(() => view.lease([3, 4, 3], { ttlMs: 10 })).available).toBe(1);
    ledger.checkIntegrity();
    view.touchBlocks([3, 1]);
    expect(refusalOf(() => view.touchBlocks([4])).available).toBe(0);
    view.freeBlocks([2]);
    expect(refusalOf(() => view.touchBlocks([4])).available).toBe(0);
    lease.release();
    view.touchBlocks([4]);
    expect([ledger.numHeld, pool.numFree]).toEqual([3, 3]);
  });

  test("for more free blocks than requests can do without; what others hold takes none from them (I12)", () => {
    const pool = cachedPool(5);
    const world = { ...connectorWorld(), numSpare: 2 };
    const [one, other] = [connectorOn(pool, world), connectorOn(pool, world)];
    expect(refusalOf(() => one.view.touchBlocks([1, 2, 3]))).toMatchObject({
      code: "pressure",
      available: 2,
    });
    one.view.touchBlocks([1, 2, 1, 2]);
    world.numSpare = 0;
    expect(refusalOf(() => other.view.touchBlocks([1, 3])).available).toBe(0);
    other.view.touchBlocks([1, 2]);
    expect([pool.references(1), pool.references(3), pool.numFree]).toEqual([3, 0, 3]);
    one.ledger.checkIntegrity();
    other.ledger.checkIntegrity();
  });

  test("while requests wait for blocks; what is held may be renewed and freed (I12)", () => {
    const pool = cachedPool(3);
    const world = connectorWorld();
    const { view } = connectorOn(pool, world);
    view.touchBlocks([1]);
    const lease = view.lease([1], { ttlMs: 10 });
    world.isPressed = true;
    // Not even what it holds: else a lease that was recalled could be taken again before it ends.
    expect(refusalOf(() => view.touchBlocks([1]))).toMatchObject({
      code: "pressure",
      available: 0,
    });
    expect(refusalOf(() => view.lease([2], { ttlMs: 10 })).code).toBe("pressure");
    expect(lease.renew(20)).toBe(true);
    view.freeBlocks([1]);
    world.isPressed = false;
    view.touchBlocks([2]);
    expect(pool.numFree).toBe(1);
  });
});

describe("a hostile connector", () => {
  test("frees a block twice: refused, and nothing changes (I8)", () => {
    const pool = cachedPool(2);
    const { view } = connectorOn(pool);
    view.touchBlocks([1]);
    view.freeBlocks([1]);
    expect(refusalOf(() => view.freeBlocks([1]))).toMatchObject({
      code: "notHeld",
      message: expect.stringContaining("block 1"),
    });
    expect([pool.references(1), pool.freeIds()]).toEqual([0, [2, 1]]);
  });

  test("frees what another or a request holds: refused, and nothing changes (I2, I8)", () => {
    const pool = cachedPool(3, 2);
    const [owner, thief] = [connectorOn(pool), connectorOn(pool)];
    owner.view.touchBlocks([1]);
    thief.view.touchBlocks([2]);
    const [used] = allocate(pool, 1)!;
    for (const ids of [[1], [used!], [2, 1]])
      expect(refusalOf(() => thief.view.freeBlocks(ids)).code).toBe("notHeld");
    expect([1, 2, used!].map((id) => pool.references(id))).toEqual([1, 1, 1]);
  });

  test("frees an expired touch of a block that it holds anew: told so, and the new one stays (I8, I9)", () => {
    const pool = cachedPool(3);
    const world = connectorWorld();
    const { view, ledger } = connectorOn(pool, world, { holdTtlMs: 30 });
    view.touchBlocks([1, 2]);
    world.now = 30;
    ledger.expire();
    view.touchBlocks([1, 3]);
    expect(refusalOf(() => view.freeBlocks([3, 1]))).toMatchObject({
      code: "lease_expired",
      message: expect.stringContaining("block 1 ended"),
    });
    expect([pool.references(1), pool.references(3)]).toEqual([1, 1]);
    view.freeBlocks([3, 1]);
    expect(pool.numFree).toBe(3);
    // Of block 2 the tombstone is left: one refusal, then there is nothing to free.
    expect(refusalOf(() => view.freeBlocks([2])).code).toBe("lease_expired");
    expect(refusalOf(() => view.freeBlocks([2])).code).toBe("notHeld");
  });

  test("meets each tombstone once, in a list as in single calls", () => {
    const world = connectorWorld();
    const { view } = connectorOn(cachedPool(2), world, { holdTtlMs: 30 });
    view.touchBlocks([1, 1]);
    world.now = 30;
    view.touchBlocks([1]);
    expect(refusalOf(() => view.freeBlocks([1, 1, 1, 1])).code).toBe("invalid");
    expect(refusalOf(() => view.freeBlocks([1, 2])).code).toBe("notHeld");
    expect(refusalOf(() => view.freeBlocks([1, 1])).code).toBe("lease_expired");
    view.freeBlocks([1]);
    expect(refusalOf(() => view.freeBlocks([1])).code).toBe("notHeld");
  });

  test("holds all it may for ever: the rest is free, and it loses each block by its deadline (I10, I11)", () => {
    const pool = cachedPool(10);
    const world = connectorWorld();
    const { view, ledger } = connectorOn(pool, world, { maxHeld: 5, holdTtlMs: 1000 });
    view.touchBlocks(range(1, 5));
    const leases = range(1, 5).map((id) => view.lease([id], { ttlMs: DAY }));
    expect(allocate(pool, 5)).toEqual([6, 7, 8, 9, 10]);
    expect(allocate(pool, 1)).toBeUndefined();
    world.isPressed = true;
    ledger.recall(1000);
    for (; world.now < 2 * DAY; world.now += DAY / 8) {
      for (const lease of leases) lease.renew(DAY);
      for (const id of range(1, 5))
        expect(["pressure", "stale"]).toContain(refusalOf(() => view.touchBlocks([id])).code);
      ledger.expire();
    }
    expect(allocate(pool, 5)).toHaveLength(5);
    expect([ledger.numHeld, leases.some(({ live }) => live)]).toEqual([0, false]);
  });

  test("opens holds without end: refused at 16 for each block it may hold, so memory has a bound (I10)", () => {
    const { view, ledger } = connectorOn(cachedPool(4), connectorWorld(), { maxHeld: 2 });
    for (let i = 0; i < 16; i++) {
      view.lease([1], { ttlMs: DAY });
      view.touchBlocks([1]);
    }
    expect(refusalOf(() => view.touchBlocks([1]))).toMatchObject({ code: "budget", available: 0 });
    expect(refusalOf(() => view.lease([1], { ttlMs: DAY })).code).toBe("budget");
    view.freeBlocks([1]);
    view.touchBlocks([1]);
    expect([ledger.numHeld, ledger.numLeases]).toEqual([1, 16]);
    ledger.checkIntegrity();
  });

  test("changes its list while it is read: what was checked is what is held (I2)", () => {
    const pool = cachedPool(4);
    const { view, ledger } = connectorOn(pool);
    let reads = 0;
    const ids = new Proxy([1], {
      get: (list, name) => (name === "0" ? [1, 0, 99][reads++] : Reflect.get(list, name)),
    });
    view.touchBlocks(ids);
    expect([reads, pool.references(1), ledger.numHeld]).toEqual([1, 1, 1]);
    const given = [2];
    const lease = view.lease(given, { ttlMs: 10 });
    given[0] = 3;
    expect(lease.ids).toEqual([2]);
    lease.release();
    expect([pool.references(2), pool.references(3)]).toEqual([0, 0]);
  });

  test("calls the view from within a list's getter: each call counts whole", () => {
    const pool = cachedPool(4);
    const { view, ledger } = connectorOn(pool, connectorWorld(), { maxHeld: 2 });
    const ids = new Proxy([1, 2], {
      get: (list, name) => {
        if (name === "1") view.touchBlocks([3]);
        return Reflect.get(list, name);
      },
    });
    expect(refusalOf(() => view.lease(ids, { ttlMs: 10 })).code).toBe("budget");
    expect([1, 2, 3].map((id) => pool.references(id))).toEqual([0, 0, 1]);
    ledger.checkIntegrity();
  });

  test("gives a list that says to be endless: refused before it is read", () => {
    const { view } = connectorOn(cachedPool(4));
    for (const length of [2 ** 32 - 1, Infinity, Number.NaN, "many"]) {
      const ids = new Proxy([1], {
        get: (list, name) => (name === "length" ? length : Reflect.get(list, name)),
      });
      expect(refusalOf(() => view.touchBlocks(ids)).code).toBe("invalid");
    }
  });
});
