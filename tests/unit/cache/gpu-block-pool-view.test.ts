/** What a connector can see of the pool, and that it can do nothing else. */

import { describe, expect, test } from "bun:test";
import type { FreeBlock, GpuBlockPoolView } from "../../../connectors/block-pool-view.ts";
import { blockKey } from "../../../engine/cache/block-key.ts";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { allocate, free, hashNumber, range, touch } from "../../support/cached-sequence.ts";
import {
  cachedPool,
  connectorOn,
  connectorWorld,
  refusalOf,
} from "../../support/connector-blocks.ts";

const keyOf = (number: number, group = 0): string => blockKey(hashNumber(number), 0, group);

function idsOf(blocks: Iterable<FreeBlock>): number[] {
  return [...blocks].map(({ id }) => id);
}

/** The next block of an open iteration; 0 = it has ended. */
function nextId(iteration: IterableIterator<FreeBlock>): number {
  const { done, value } = iteration.next();
  return done === true ? 0 : value.id;
}

describe("the view", () => {
  test("tells how large the pool is, the null block aside, and what is free in it", () => {
    const pool = cachedPool(5);
    const { view } = connectorOn(pool);
    allocate(pool, 1);
    pool.beginFlight(Int32Array.of(3), 1);
    view.touchBlocks([2]);
    touch(pool, [2]);
    expect([view.numBlocks, view.numFreeBlocks, view.blockSize]).toEqual([5, 2, 16]);
    expect([1, 2, 3].map((id) => view.refCount(id))).toEqual([1, 2, 0]);
  });

  test("shows content when its step has committed, not before (I3)", () => {
    const pool = new BlockPool(4);
    const world = { ...connectorWorld(), committedStep: -1 };
    const { view } = connectorOn(pool, world);
    allocate(pool, 2);
    pool.insert(1, hashNumber(7), 0, 0, 4);
    pool.insert(2, hashNumber(7), 0, 1, 5);
    free(pool, [2, 1]);
    const seen = (): unknown => ({
      hashes: [1, 2, 3].map((id) => view.hashOf(id)),
      found: [view.blockOfHash(keyOf(7, 0)), view.blockOfHash(keyOf(7, 1))],
      free: idsOf(view.iterFreeBlockIdsWithHash()),
    });
    const nothing = [undefined, undefined, undefined];
    expect(seen()).toEqual({ hashes: nothing, found: [undefined, undefined], free: [] });
    view.markSafe([1, 2]);
    world.committedStep = 4;
    const first = [keyOf(7, 0), undefined, undefined];
    expect(seen()).toEqual({ hashes: first, found: [1, undefined], free: [1] });
    world.committedStep = 5;
    expect(seen()).toEqual({
      hashes: [keyOf(7, 0), keyOf(7, 1), undefined],
      found: [1, 2],
      free: [1, 2],
    });
  });

  test("finds the first committed one of several blocks with one content (I3)", () => {
    const pool = new BlockPool(5);
    const world = connectorWorld();
    const { view } = connectorOn(pool, world);
    allocate(pool, 3);
    for (const [id, step] of [
      [1, 5],
      [2, 0],
      [3, 0],
    ] as const)
      pool.insert(id, hashNumber(7), 0, 0, step);
    expect(view.blockOfHash(keyOf(7))).toBe(2);
    world.committedStep = 5;
    expect(view.blockOfHash(keyOf(7))).toBe(1);
    expect([view.blockOfHash(keyOf(8)), view.blockOfHash(keyOf(7, 3))]).toEqual([
      undefined,
      undefined,
    ]);
  });

  test("refuses to look at what is no block, or no key", () => {
    const { view } = connectorOn(cachedPool(3));
    for (const id of [0, 4, -1, 0.5, Number.NaN, "1" as never, undefined as never]) {
      for (const call of [() => view.refCount(id), () => view.hashOf(id)])
        expect(refusalOf(call)).toMatchObject({
          code: "invalid",
          message: expect.stringContaining("integers from 1 to 3"),
        });
    }
    expect(refusalOf(() => view.blockOfHash("a:0")).code).toBe("invalid");
    for (const keys of [["a:0"], [keyOf(1), 5], "a", undefined, [keyOf(1), undefined]])
      expect(refusalOf(() => view.clearSafe(keys as string[])).code).toBe("invalid");
    for (const within of [-1, Number.NaN, "3"])
      expect(refusalOf(() => view.iterFreeBlockIdsWithHash(within as number)).code).toBe("invalid");
  });

  test("is frozen functions and numbers: from it, a lease or an iteration there is no way to the pool", () => {
    const { view } = connectorOn(cachedPool(3));
    const lease = view.lease([1], { ttlMs: 10 });
    const iteration = view.iterFreeBlockIdsWithHash();
    const expected: [object, (string | symbol)[]][] = [
      [
        view,
        [
          "numBlocks",
          "numFreeBlocks",
          "blockSize",
          "numLost",
          "refCount",
          "hashOf",
          "blockOfHash",
          "iterFreeBlockIdsWithHash",
          "lease",
          "touchBlocks",
          "freeBlocks",
          "markSafe",
          "clearSafe",
        ],
      ],
      [lease, ["ids", "expiresAt", "live", "renew", "release", Symbol.dispose]],
      [iteration, ["next", "return", Symbol.iterator]],
    ];
    for (const [object, names] of expected) {
      expect(new Set(Reflect.ownKeys(object))).toEqual(new Set(names));
      expect(Object.getPrototypeOf(object)).toBe(Object.prototype);
      expect(Object.isFrozen(object)).toBe(true);
      for (const name of names) {
        const value: unknown = Reflect.get(object, name);
        // No function of ours is a constructor or carries anything.
        if (typeof value === "function")
          expect(new Set(Reflect.ownKeys(value))).toEqual(new Set(["length", "name"]));
        else
          expect(["number", "boolean"]).toContain(Array.isArray(value) ? "number" : typeof value);
      }
    }
    expect(Object.isFrozen(lease.ids)).toBe(true);
    expect(() => {
      (view as { numBlocks: number }).numBlocks = 9;
    }).toThrow();
    expect(() => {
      (lease.ids as number[])[0] = 2;
    }).toThrow();
  });
});

describe("marks of blocks that have a copy", () => {
  test("end when the block is handed out again, not when it is held or freed (I4)", () => {
    const pool = cachedPool(3);
    const { view } = connectorOn(pool);
    view.markSafe([1, 2, 1]);
    expect(idsOf(view.iterFreeBlockIdsWithHash())).toEqual([3]);
    view.touchBlocks([2]);
    view.freeBlocks([2]);
    expect(idsOf(view.iterFreeBlockIdsWithHash())).toEqual([3]);
    const [id] = allocate(pool, 1)!;
    pool.insert(id!, hashNumber(1), 0, 0, 0);
    free(pool, [id!]);
    expect(idsOf(view.iterFreeBlockIdsWithHash())).toEqual([3, 1]);
  });

  test("are each connector's own", () => {
    const pool = cachedPool(2);
    const [one, other] = [connectorOn(pool), connectorOn(pool)];
    one.view.markSafe([1]);
    other.view.markSafe([2]);
    expect(idsOf(one.view.iterFreeBlockIdsWithHash())).toEqual([2]);
    expect(idsOf(other.view.iterFreeBlockIdsWithHash())).toEqual([1]);
  });

  test("are taken from all blocks with a content whose copy is gone; a wrong key changes nothing", () => {
    const pool = new BlockPool(5);
    const { view } = connectorOn(pool);
    const ids = allocate(pool, 4)!;
    for (const [i, id] of ids.entries()) pool.insert(id, hashNumber(i < 2 ? 7 : 8), 0, 0, 0);
    free(pool, [4, 3, 2, 1]);
    view.markSafe(ids);
    expect(refusalOf(() => view.clearSafe([keyOf(7), "?"])).code).toBe("invalid");
    expect(idsOf(view.iterFreeBlockIdsWithHash())).toEqual([]);
    view.clearSafe([keyOf(7), keyOf(9)]);
    expect(idsOf(view.iterFreeBlockIdsWithHash())).toEqual([1, 2]);
  });

  test("are not given to blocks without content", () => {
    const pool = cachedPool(2, 1);
    const { view } = connectorOn(pool);
    allocate(pool, 1);
    view.markSafe([2]);
    pool.insert(2, hashNumber(2), 0, 0, 0);
    free(pool, [2]);
    expect(idsOf(view.iterFreeBlockIdsWithHash())).toEqual([1, 2]);
  });
});

describe("iterating over free blocks", () => {
  test("goes in the order of eviction; what has no content, a copy, or is in flight counts for the distance", () => {
    const pool = cachedPool(7, 6);
    const { view } = connectorOn(pool);
    expect(pool.freeIds()).toEqual([7, 1, 2, 3, 4, 5, 6]);
    view.markSafe([2]);
    pool.beginFlight(Int32Array.of(4), 1);
    expect([...view.iterFreeBlockIdsWithHash()]).toEqual([
      { id: 1, hash: keyOf(1), distance: 1 },
      { id: 3, hash: keyOf(3), distance: 3 },
      { id: 5, hash: keyOf(5), distance: 5 },
      { id: 6, hash: keyOf(6), distance: 6 },
    ]);
  });

  test.each([
    [0, []],
    [1, []],
    [2, [1]],
    [4, [1, 2, 3]],
    [7, [1, 2, 3, 4, 5, 6]],
    [99, [1, 2, 3, 4, 5, 6]],
  ])("ends before a distance of %p", (within, ids) => {
    const { view } = connectorOn(cachedPool(7, 6));
    expect(idsOf(view.iterFreeBlockIdsWithHash(within))).toEqual(ids);
  });

  test("goes on where it was when the block it stands at is handed out, held, or freed to the end", () => {
    const pool = cachedPool(6);
    const { view } = connectorOn(pool);
    const iteration = view.iterFreeBlockIdsWithHash();
    expect(nextId(iteration)).toBe(1);
    allocate(pool, 1);
    expect(nextId(iteration)).toBe(2);
    view.touchBlocks([2]);
    expect(nextId(iteration)).toBe(3);
    // Behind the last one: it is not given a second time.
    view.touchBlocks([3]);
    view.freeBlocks([2, 3]);
    expect([...iteration]).toEqual([
      { id: 4, hash: keyOf(4), distance: 0 },
      { id: 5, hash: keyOf(5), distance: 1 },
      { id: 6, hash: keyOf(6), distance: 2 },
    ]);
  });

  test("sees blocks that are freed while it is open, and counts those that come to the front", () => {
    const pool = cachedPool(5, 3);
    const { view } = connectorOn(pool);
    const held = allocate(pool, 2)!;
    const iteration = view.iterFreeBlockIdsWithHash();
    expect(nextId(iteration)).toBe(1);
    pool.insert(held[0]!, hashNumber(9), 0, 0, 0);
    free(pool, held);
    expect([...iteration].map(({ id, distance }) => [id, distance])).toEqual([
      [2, 2],
      [3, 3],
      [held[0]!, 4],
    ]);
  });

  test("left open across steps stays right, whatever the requests do, and ends", () => {
    const pool = cachedPool(40);
    const { view } = connectorOn(pool);
    const iteration = view.iterFreeBlockIdsWithHash();
    const seen: number[] = [];
    for (let step = 1; ; step++) {
      const id = nextId(iteration);
      if (id === 0) break;
      seen.push(id);
      // Each step evicts two blocks, fills them and frees them to the end of the queue.
      const table = allocate(pool, 2)!;
      for (const [i, one] of table.entries()) pool.insert(one, hashNumber(step * 100 + i), 0, 0, 0);
      free(pool, table);
      pool.checkIntegrity();
    }
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.length).toBeGreaterThan(13);
    expect(pool.numFree).toBe(40);
  });

  test("ends when a later one begins; one that was not begun is none", () => {
    const { view } = connectorOn(cachedPool(3));
    const [first, second] = [view.iterFreeBlockIdsWithHash(), view.iterFreeBlockIdsWithHash()];
    expect(nextId(first)).toBe(1);
    expect(nextId(second)).toBe(1);
    expect(refusalOf(() => first.next())).toMatchObject({
      code: "closed",
      message: expect.stringContaining("one at a time"),
    });
    // Giving up the older one leaves the newer one open.
    first.return?.();
    expect([nextId(second), nextId(second), nextId(second), nextId(second)]).toEqual([2, 3, 0, 0]);
  });

  test("costs the pool nothing once it was left early", () => {
    const pool = cachedPool(100);
    const { view } = connectorOn(pool);
    for (const { id } of view.iterFreeBlockIdsWithHash()) if (id === 3) break;
    pool.beginFlight(Int32Array.of(1), 1);
    pool.endFlight(Int32Array.of(1), 1);
    const before = pool.operations;
    expect(allocate(pool, 10)).toEqual(range(1, 10));
    expect(idsOf(view.iterFreeBlockIdsWithHash(2))).toEqual([11, 12]);
    expect(pool.operations - before).toBeLessThanOrEqual(10 + 10 + 2);
  });
});

describe("the cost of a call", () => {
  const CALLS: [string, (view: GpuBlockPoolView, id: number) => void][] = [
    ["touchBlocks and freeBlocks", (view, id) => (view.touchBlocks([id]), view.freeBlocks([id]))],
    ["lease and release", (view, id) => view.lease([id], { ttlMs: 9 }).release()],
    ["hashOf and blockOfHash", (view, id) => view.blockOfHash(view.hashOf(id) ?? "")],
    ["markSafe and clearSafe", (view, id) => (view.markSafe([id]), view.clearSafe([keyOf(id)]))],
    ["a scan of a window", (view) => idsOf(view.iterFreeBlockIdsWithHash(32))],
    ["a refused hold", (view) => refusalOf(() => view.touchBlocks([1, 0]))],
  ];

  /** Loop turns of the pool for each of the calls, on a pool full of cached blocks. */
  function operationsAt(numBlocks: number): number[] {
    const pool = cachedPool(numBlocks);
    const { view } = connectorOn(pool, connectorWorld(), { maxHeld: 64 });
    return CALLS.map(([, call]) => {
      const before = pool.operations;
      for (let i = 0; i < 50; i++) call(view, 1 + ((i * 7919) % numBlocks));
      return pool.operations - before;
    });
  }

  test("does not grow with the pool", () => {
    const [small, large] = [operationsAt(1_000), operationsAt(1_000_000)];
    for (const [i, [name]] of CALLS.entries()) {
      // Chains of the map are of random length, so the sums may differ a little.
      const most = small[i]! * 1.25 + 1;
      expect([name, large[i]! <= most]).toEqual([name, true]);
    }
  }, 60_000);

  test("of a scan is one look a block, also when each block that it gives is held, freed and comes again", () => {
    const numBlocks = 2_000;
    const pool = cachedPool(numBlocks);
    const { view } = connectorOn(pool);
    const before = pool.operations;
    let given = 0;
    for (const { id } of view.iterFreeBlockIdsWithHash()) {
      view.touchBlocks([id]);
      view.freeBlocks([id]);
      given++;
    }
    expect(given).toBe(numBlocks);
    // To give each block, to pass it again behind the last, and to hold and free it.
    expect(pool.operations - before).toBeLessThanOrEqual(4 * numBlocks);
  });
});

test("the view counts blocks with content that are handed out without its mark", () => {
  const pool = cachedPool(4);
  const { view } = connectorOn(pool);
  view.markSafe([2]);
  expect(view.numLost).toBe(0);
  pool.allocate(4, new Int32Array(4), 0);
  expect(view.numLost).toBe(3);
});
