import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { BlockPool, NULL_BLOCK } from "../../../engine/cache/block-pool.ts";
import { BlockTable } from "../../../engine/cache/block-table.ts";

function allocate(pool: BlockPool, count: number): number[] | undefined {
  const into = new Int32Array(count);
  return pool.allocate(count, into, 0) ? [...into] : undefined;
}

function free(pool: BlockPool, ids: readonly number[]): void {
  pool.free(Int32Array.from(ids), ids.length);
}

describe("block pool", () => {
  test("hands out every block but the null block, in order of id at first", () => {
    const pool = new BlockPool(5);
    expect(allocate(pool, 4)).toEqual([1, 2, 3, 4]);
    expect(pool.numFree).toBe(0);
    expect(allocate(pool, 1)).toBeUndefined();
    pool.checkIntegrity();
  });

  test("a refused allocation changes nothing", () => {
    const pool = new BlockPool(6);
    allocate(pool, 2);
    const before = pool.freeIds();
    expect(allocate(pool, 4)).toBeUndefined();
    expect(pool.freeIds()).toEqual(before);
    expect(pool.numUsed).toBe(2);
  });

  test("freed blocks go to the front, the tail of the table first", () => {
    const pool = new BlockPool(7);
    const table = allocate(pool, 3)!;
    free(pool, table);
    expect(pool.freeIds()).toEqual([3, 2, 1, 4, 5, 6]);
  });

  test("a block with two holders is free after the second lets go", () => {
    const pool = new BlockPool(3);
    const ids = allocate(pool, 1)!;
    pool.touch(Int32Array.from(ids), 1);
    free(pool, ids);
    expect(pool.references(1)).toBe(1);
    expect(pool.numFree).toBe(1);
    free(pool, ids);
    expect(pool.references(1)).toBe(0);
    expect(pool.numFree).toBe(2);
  });

  test("touching a free block takes it out of the queue", () => {
    const pool = new BlockPool(4);
    pool.touch(Int32Array.of(2), 1);
    expect(pool.freeIds()).toEqual([1, 3]);
    pool.checkIntegrity();
  });

  test.each([[NULL_BLOCK], [4], [-1]])("freeing %p is an error that changes nothing", (wrong) => {
    const pool = new BlockPool(4);
    const ids = allocate(pool, 2)!;
    expect(() => free(pool, [...ids, wrong])).toThrow(`block ${wrong} is not held`);
    expect(pool.numUsed).toBe(2);
    pool.checkIntegrity();
    expect(() => pool.touch(Int32Array.of(1, wrong), 2)).toThrow(
      `block ${wrong} is not one of 1..3`,
    );
    expect(pool.references(1)).toBe(1);
  });

  test("freeing a block twice is an error, also within one call", () => {
    const pool = new BlockPool(4);
    allocate(pool, 1);
    expect(() => free(pool, [1, 1])).toThrow("not held");
    expect(pool.references(1)).toBe(1);
    free(pool, [1]);
    expect(() => free(pool, [1])).toThrow("not held");
    pool.checkIntegrity();
  });

  test("a pool without a block to give is refused", () => {
    for (const numBlocks of [1, 0, -3, 2.5, Number.NaN]) {
      expect(() => new BlockPool(numBlocks)).toThrow("at least 2 blocks");
    }
    expect(allocate(new BlockPool(2), 1)).toEqual([1]);
  });

  test("behaves like a list of free ids and a count for each block, under any commands", () => {
    const command = fc.oneof(
      fc.record({ kind: fc.constant("allocate" as const), count: fc.nat(9) }),
      fc.record({ kind: fc.constant("free" as const), pick: fc.nat(), count: fc.nat(9) }),
      fc.record({
        kind: fc.constant("touch" as const),
        ids: fc.array(fc.integer({ min: -1, max: 13 }), { maxLength: 5 }),
      }),
      fc.record({
        kind: fc.constant("freeAny" as const),
        ids: fc.array(fc.integer({ min: -1, max: 13 }), { maxLength: 5 }),
      }),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 12 }),
        fc.array(command, { maxLength: 60 }),
        (numBlocks, commands) => {
          const pool = new BlockPool(numBlocks);
          let queue = Array.from({ length: numBlocks - 1 }, (_, i) => i + 1);
          const references = new Map<number, number>(queue.map((id) => [id, 0]));
          const tables: number[][] = [];
          const drop = (ids: readonly number[]): void => {
            for (const id of ids) references.set(id, references.get(id)! - 1);
            for (const id of ids)
              if (references.get(id) === 0 && !queue.includes(id)) queue.unshift(id);
          };
          for (const step of commands) {
            if (step.kind === "allocate") {
              const got = allocate(pool, step.count);
              const expected = step.count <= queue.length ? queue.splice(0, step.count) : undefined;
              expect(got).toEqual(expected);
              for (const id of expected ?? []) references.set(id, 1);
              if (expected !== undefined) tables.push(expected);
            } else if (step.kind === "free") {
              const table = tables[step.pick % Math.max(tables.length, 1)];
              const ids = table?.splice(Math.max(0, table.length - step.count)) ?? [];
              if (ids.every((id) => references.get(id)! > 0)) {
                free(pool, ids);
                drop(ids);
              }
            } else if (step.kind === "touch") {
              if (step.ids.every((id) => references.has(id))) {
                pool.touch(Int32Array.from(step.ids), step.ids.length);
                for (const id of step.ids) references.set(id, references.get(id)! + 1);
                queue = queue.filter((id) => references.get(id) === 0);
              } else {
                expect(() => pool.touch(Int32Array.from(step.ids), step.ids.length)).toThrow();
              }
            } else {
              const dropped = new Map<number, number>();
              for (const id of step.ids) dropped.set(id, (dropped.get(id) ?? 0) + 1);
              if ([...dropped].every(([id, count]) => (references.get(id) ?? 0) >= count)) {
                free(pool, step.ids);
                drop(step.ids);
              } else {
                expect(() => free(pool, step.ids)).toThrow("not held");
              }
            }
            pool.checkIntegrity();
            expect(pool.freeIds()).toEqual(queue);
            for (const [id, count] of references) expect(pool.references(id)).toBe(count);
          }
        },
      ),
      { numRuns: 2000, seed: 41 },
    );
  });
});

describe("block table", () => {
  test("grows to a length, keeps what it had, gives all back tail first", () => {
    const pool = new BlockPool(12);
    const table = new BlockTable(2);
    table.growTo(2, pool);
    table.growTo(7, pool);
    table.growTo(5, pool);
    expect([...table.entries]).toEqual([1, 2, 3, 4, 5, 6, 7]);
    table.release(pool);
    expect(table.length).toBe(0);
    expect(pool.freeIds().slice(0, 3)).toEqual([7, 6, 5]);
    pool.checkIntegrity();
  });

  test("growing past the pool is an error that leaves the table as it was", () => {
    const pool = new BlockPool(4);
    const table = new BlockTable(1);
    table.growTo(2, pool);
    expect(() => table.growTo(4, pool)).toThrow("2 blocks were promised, 1 are free");
    expect([...table.entries]).toEqual([1, 2]);
    pool.checkIntegrity();
  });
});
