import { describe, expect, test } from "bun:test";
import { BlockPool, NULL_BLOCK } from "../../../engine/cache/block-pool.ts";
import { allocate, free, hashNumber, range, touch } from "../../support/cached-sequence.ts";

/** Gives a block the content of a number, for group 0 unless said. */
function insert(pool: BlockPool, id: number, number: number, group = 0, step = 0): void {
  pool.insert(id, hashNumber(number), 0, group, step);
}

function find(pool: BlockPool, number: number, group = 0): number {
  return pool.find(hashNumber(number), 0, group);
}

describe("block pool", () => {
  test("hands out every block but the null block, in order of id at first (I1)", () => {
    const pool = new BlockPool(5);
    expect(allocate(pool, 4)).toEqual([1, 2, 3, 4]);
    expect(pool.numFree).toBe(0);
    expect(allocate(pool, 1)).toBeUndefined();
    pool.checkIntegrity();
  });

  test("a refused allocation changes nothing: counts, order, hashes, generations (I6)", () => {
    const pool = new BlockPool(6);
    allocate(pool, 2);
    insert(pool, 2, 7);
    free(pool, [2]);
    const before = pool.freeIds();
    expect(allocate(pool, 5)).toBeUndefined();
    expect(pool.freeIds()).toEqual(before);
    expect(pool.numUsed).toBe(1);
    expect(find(pool, 7)).toBe(2);
    expect(range(1, 5).map((id) => pool.generation(id))).toEqual([1, 1, 0, 0, 0]);
  });

  test("allocating 0 blocks takes none, also from an empty pool", () => {
    const pool = new BlockPool(2);
    expect(allocate(pool, 0)).toEqual([]);
    expect(pool.numFree).toBe(1);
    allocate(pool, 1);
    expect(allocate(pool, 0)).toEqual([]);
    pool.checkIntegrity();
  });

  test.each([[-1], [Number.NaN]])("allocating %p blocks is an error", (count) => {
    const pool = new BlockPool(4);
    expect(() => pool.allocate(count, new Int32Array(4), 0)).toThrow("no room for");
    expect(pool.freeIds()).toEqual([1, 2, 3]);
  });

  test("allocating past the end of the array is an error that changes nothing", () => {
    const pool = new BlockPool(4);
    expect(() => pool.allocate(2, new Int32Array(2), 1)).toThrow(
      "no room for 2 block ids at 1 of 2",
    );
    expect(pool.freeIds()).toEqual([1, 2, 3]);
  });

  test("of freed blocks those without a hash go to the front, the tail of the table first (I5)", () => {
    const pool = new BlockPool(7);
    free(pool, allocate(pool, 3)!);
    expect(pool.freeIds()).toEqual([3, 2, 1, 4, 5, 6]);
  });

  test("of freed blocks those with a hash go to the back, the tail of the table first (I5)", () => {
    const pool = new BlockPool(7);
    const table = allocate(pool, 4)!;
    for (const id of [1, 3]) insert(pool, id, id);
    free(pool, table);
    expect(pool.freeIds()).toEqual([4, 2, 5, 6, 3, 1]);
    pool.checkIntegrity();
  });

  test("freeing all of an empty queue's blocks keeps both ends (I5)", () => {
    const pool = new BlockPool(5);
    const table = allocate(pool, 4)!;
    for (const id of [1, 2]) insert(pool, id, id);
    free(pool, table);
    expect(pool.freeIds()).toEqual([4, 3, 2, 1]);
    pool.checkIntegrity();
  });

  test("a block with two holders is free after the second lets go (I2)", () => {
    const pool = new BlockPool(3);
    const ids = allocate(pool, 1)!;
    touch(pool, ids);
    free(pool, ids);
    expect(pool.references(1)).toBe(1);
    expect(pool.numFree).toBe(1);
    free(pool, ids);
    expect(pool.references(1)).toBe(0);
    expect(pool.numFree).toBe(2);
  });

  test("touching a free block takes it out of the queue, from the front, the middle and the back", () => {
    for (const id of [1, 2, 3]) {
      const pool = new BlockPool(4);
      touch(pool, [id]);
      expect(pool.freeIds()).toEqual([1, 2, 3].filter((other) => other !== id));
      expect(pool.references(id)).toBe(1);
      pool.checkIntegrity();
    }
  });

  test("a touched block keeps its generation and hash, one handed out loses both (I4)", () => {
    const pool = new BlockPool(3);
    allocate(pool, 1);
    insert(pool, 1, 5, 2, 9);
    free(pool, [1]);
    touch(pool, [1]);
    expect(pool.generation(1)).toBe(1);
    expect([...pool.hashOf(1)!]).toEqual([...hashNumber(5)]);
    expect([pool.groupOf(1), pool.publishedStep(1)]).toEqual([2, 9]);
    free(pool, [1]);
    expect(pool.generation(1)).toBe(1);
    expect(allocate(pool, 2)).toEqual([2, 1]);
    expect(pool.generation(1)).toBe(2);
    expect(pool.hashOf(1)).toBeUndefined();
    expect([pool.groupOf(1), pool.publishedStep(1)]).toEqual([undefined, -1]);
    expect(find(pool, 5, 2)).toBe(0);
  });

  test.each([[NULL_BLOCK], [4], [-1]])(
    "freeing or touching %p is an error that changes nothing (I1, I2)",
    (wrong) => {
      const pool = new BlockPool(4);
      const ids = allocate(pool, 2)!;
      expect(() => free(pool, [...ids, wrong])).toThrow(`block ${wrong} is not held`);
      expect(pool.numUsed).toBe(2);
      pool.checkIntegrity();
      expect(() => touch(pool, [1, wrong])).toThrow(`block ${wrong} is not one of 1..3`);
      expect(pool.references(1)).toBe(1);
    },
  );

  test("freeing a block twice is an error, also within one call (I2)", () => {
    const pool = new BlockPool(4);
    allocate(pool, 1);
    expect(() => free(pool, [1, 1])).toThrow("not held");
    expect(pool.references(1)).toBe(1);
    free(pool, [1]);
    const before = pool.freeIds();
    expect(() => free(pool, [1])).toThrow("not held");
    expect(pool.freeIds()).toEqual(before);
    pool.checkIntegrity();
  });

  test("freeing two references of a block in one call queues it once", () => {
    const pool = new BlockPool(4);
    allocate(pool, 1);
    touch(pool, [1]);
    free(pool, [1, 1]);
    expect(pool.freeIds()).toEqual([1, 2, 3]);
    pool.checkIntegrity();
  });

  test("a pool without a block to give is refused", () => {
    for (const numBlocks of [1, 0, -3, 2.5, Number.NaN])
      expect(() => new BlockPool(numBlocks)).toThrow("at least 2 blocks");
    expect(allocate(new BlockPool(2), 1)).toEqual([1]);
  });

  test("asking about a block that is none is an error", () => {
    const pool = new BlockPool(3);
    for (const id of [0, 3, -1, 1.5]) {
      expect(() => pool.references(id)).toThrow(`block ${id} is not one of 1..2`);
      expect(() => pool.hashOf(id)).toThrow("not one of");
      expect(() => pool.unhash(id)).toThrow("not one of");
      expect(() => insert(pool, id, 1)).toThrow("not one of");
    }
  });
});

describe("hashes of blocks", () => {
  test("a hash is found in its group only (I3)", () => {
    const pool = new BlockPool(4);
    allocate(pool, 2);
    insert(pool, 1, 5, 0);
    expect([find(pool, 5, 0), find(pool, 5, 1), find(pool, 6, 0)]).toEqual([1, 0, 0]);
    insert(pool, 2, 5, 1);
    expect([find(pool, 5, 0), find(pool, 5, 1)]).toEqual([1, 2]);
    expect(pool.numHashed).toBe(2);
    // A group whose keys fall into the same buckets.
    expect(find(pool, 5, 4096)).toBe(0);
    pool.checkIntegrity();
  });

  test("counts blocks that are handed out with content, not those whose content was taken back or is found again", () => {
    const pool = new BlockPool(5);
    allocate(pool, 4);
    for (const id of [1, 2, 3]) insert(pool, id, id);
    free(pool, [1, 2, 3, 4]);
    pool.unhash(2);
    touch(pool, [3]);
    expect(pool.numEvicted).toBe(0);
    allocate(pool, 3);
    expect(pool.numEvicted).toBe(1);
    free(pool, [3]);
    pool.unhashAll();
    allocate(pool, 1);
    expect(pool.numEvicted).toBe(1);
  });

  test("of several blocks with one hash the first inserted is found, then the next (I3)", () => {
    const pool = new BlockPool(6);
    allocate(pool, 5);
    for (const id of [3, 1, 4, 2]) insert(pool, id, 7);
    expect(find(pool, 7)).toBe(3);
    pool.unhash(1);
    expect(find(pool, 7)).toBe(3);
    pool.unhash(3);
    expect(find(pool, 7)).toBe(4);
    pool.checkIntegrity();
    insert(pool, 3, 7);
    expect(find(pool, 7)).toBe(4);
    pool.unhash(4);
    expect(find(pool, 7)).toBe(2);
    pool.unhash(2);
    expect(find(pool, 7)).toBe(3);
    pool.unhash(3);
    expect(find(pool, 7)).toBe(0);
    pool.checkIntegrity();
  });

  test("hashes that share a bucket do not hide each other", () => {
    const pool = new BlockPool(9);
    allocate(pool, 8);
    const words = Int32Array.from({ length: 8 * 8 }, (_, i) => (i % 8 === 7 ? i : 4));
    for (let i = 0; i < 8; i++) pool.insert(i + 1, words, i * 8, 0, 0);
    for (const gone of [4, 1, 8]) pool.unhash(gone);
    const found = range(0, 7).map((i) => pool.find(words, i * 8, 0));
    expect(found).toEqual([0, 2, 3, 0, 5, 6, 7, 0]);
    pool.checkIntegrity();
  });

  test("any word of the hash tells blocks apart", () => {
    const pool = new BlockPool(3);
    allocate(pool, 1);
    insert(pool, 1, 3);
    for (let word = 0; word < 8; word++) {
      const other = hashNumber(3);
      other[word] = (other[word] as number) ^ 1;
      expect(pool.find(other, 0, 0)).toBe(0);
    }
    expect(find(pool, 3)).toBe(1);
  });

  test("a free block or one with a hash cannot be given a hash; nothing changes (I3)", () => {
    const pool = new BlockPool(3);
    expect(() => insert(pool, 1, 5)).toThrow("block 1 is not held");
    allocate(pool, 1);
    insert(pool, 1, 5);
    expect(() => insert(pool, 1, 6)).toThrow("block 1 has a hash already");
    expect([find(pool, 5), find(pool, 6)]).toEqual([1, 0]);
    pool.checkIntegrity();
  });

  test("taking a free block's hash leaves it where it is in the queue (I5)", () => {
    const pool = new BlockPool(5);
    const ids = allocate(pool, 2)!;
    for (const id of ids) insert(pool, id, id);
    free(pool, ids);
    expect(pool.freeIds()).toEqual([3, 4, 2, 1]);
    expect(pool.unhash(2)).toBe(true);
    expect(pool.unhash(2)).toBe(false);
    expect(pool.freeIds()).toEqual([3, 4, 2, 1]);
    pool.checkIntegrity();
  });

  test("all hashes can go at once; references and order stay", () => {
    const pool = new BlockPool(5);
    const ids = allocate(pool, 3)!;
    for (const id of ids) insert(pool, id, id);
    free(pool, [1, 2]);
    const before = pool.freeIds();
    pool.unhashAll();
    expect(pool.freeIds()).toEqual(before);
    expect([pool.numHashed, pool.references(3), find(pool, 3)]).toEqual([0, 1, 0]);
    insert(pool, 3, 3);
    expect(find(pool, 3)).toBe(3);
    pool.checkIntegrity();
  });
});

describe("the cost of a call", () => {
  /** Loop turns of a fixed amount of work in a pool of a size that is full of cached blocks. */
  function operationsAt(numBlocks: number): number {
    const pool = new BlockPool(numBlocks);
    let number = 0;
    const cycle = (): void => {
      const ids = allocate(pool, 16)!;
      for (const id of ids) insert(pool, id, number++);
      touch(pool, ids);
      free(pool, ids);
      free(pool, ids);
      for (const known of [number - 1, number + 1000]) find(pool, known);
    };
    while (pool.numHashed < numBlocks - 1 - 16) cycle();
    const before = pool.operations;
    for (let i = 0; i < 64; i++) cycle();
    return pool.operations - before;
  }

  test("does not grow with the pool", () => {
    const small = operationsAt(200);
    expect(small).toBeGreaterThan(64 * 16 * 3);
    for (const numBlocks of [2_000, 20_000, 200_000]) {
      // Chains of the map are of random length, so the sum may differ a little.
      expect(operationsAt(numBlocks)).toBeLessThan(small * 1.25);
    }
  });
});
