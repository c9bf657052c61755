/** The block pool beside a model of arrays, under commands of any kind in any order, wrong ones included. */

import { expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { allocate, free, hashNumber, touch } from "../../support/cached-sequence.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";
import { PoolModel } from "./cache-model.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const MOST_BLOCKS = 12;
const someIds = fc.array(fc.integer({ min: -1, max: MOST_BLOCKS + 1 }), { maxLength: 5 });
const oneId = fc.integer({ min: 1, max: MOST_BLOCKS - 1 });

const command = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("allocate" as const), count: fc.nat(9) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("freeTable" as const),
      pick: fc.nat(),
      count: fc.nat(9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("free" as const), ids: someIds }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("touch" as const), ids: someIds }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("insert" as const),
      id: oneId,
      number: fc.nat(5),
      group: fc.nat(1),
      step: fc.nat(9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("unhash" as const), id: oneId }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("unhashAll" as const), now: fc.nat(4) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("beginFlight" as const), ids: someIds }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("endFlight" as const), ids: someIds }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("land" as const), id: oneId }) },
);
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

function keyOf(number: number, group: number): string {
  return `${group}:${number}`;
}

/** How often each id stands in the list. */
function countsOf(ids: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

function play(pool: BlockPool, model: PoolModel, tables: number[][], command: Command): void {
  const isBlock = (id: number): boolean => id >= 1 && id < model.blocks.length;
  switch (command.kind) {
    case "allocate": {
      const possible = command.count <= model.free.length;
      const expected = possible ? model.take(command.count) : undefined;
      expect(allocate(pool, command.count)).toEqual(expected);
      if (expected !== undefined) tables.push(expected);
      return;
    }
    case "freeTable":
    case "free": {
      const table = command.kind === "free" ? undefined : tables[command.pick % tables.length];
      const ids =
        command.kind === "free"
          ? command.ids
          : (table?.splice(-command.count, command.count) ?? []);
      const held = [...countsOf(ids)].every(
        ([id, count]) => isBlock(id) && model.block(id).references >= count,
      );
      if (held) {
        free(pool, ids);
        model.drop(ids);
      } else {
        expect(() => free(pool, ids)).toThrow("not held");
      }
      return;
    }
    case "touch":
      if (command.ids.every(isBlock)) {
        touch(pool, command.ids);
        model.hold(command.ids);
      } else {
        expect(() => touch(pool, command.ids)).toThrow("is not one of");
      }
      return;
    case "insert": {
      const { id, number, group, step } = command;
      const give = (): void => pool.insert(id, hashNumber(number), 0, group, step);
      const block = isBlock(id) ? model.block(id) : undefined;
      if (block === undefined || block.references === 0 || block.key !== undefined) {
        expect(give).toThrow();
      } else {
        give();
        model.setKey(id, keyOf(number, group), step);
      }
      return;
    }
    case "unhash":
      if (!isBlock(command.id)) return;
      expect(pool.unhash(command.id)).toBe(model.block(command.id).key !== undefined);
      model.block(command.id).key = undefined;
      return;
    case "beginFlight": {
      const ids = Int32Array.from(command.ids);
      if (command.ids.every(isBlock)) {
        pool.beginFlight(ids, ids.length);
        model.fly(command.ids, 1);
      } else {
        expect(() => pool.beginFlight(ids, ids.length)).toThrow("is not one of");
      }
      return;
    }
    case "endFlight":
    case "land": {
      const isOne = command.kind === "land";
      // All flights of one block, or any list, which mostly is wrong.
      const flights = isOne && isBlock(command.id) ? model.block(command.id).flights : 0;
      const list = isOne ? Array.from({ length: flights }, () => command.id) : command.ids;
      const ids = Int32Array.from(list);
      const isFlying = [...countsOf(list)].every(
        ([id, count]) => isBlock(id) && model.block(id).flights >= count,
      );
      if (isFlying) {
        pool.endFlight(ids, ids.length);
        model.fly(list, -1);
      } else {
        expect(() => pool.endFlight(ids, ids.length)).toThrow("is not in flight");
      }
      return;
    }
    case "unhashAll":
      if (command.now > 0) return;
      pool.unhashAll();
      model.clearKeys();
  }
}

function compare(pool: BlockPool, model: PoolModel): void {
  pool.checkIntegrity();
  expect(pool.freeIds()).toEqual(model.queue);
  expect([pool.numFree, pool.numFlying]).toEqual([
    model.free.length,
    model.queue.length - model.free.length,
  ]);
  expect(pool.numHashed).toBe(model.blocks.filter(({ key }) => key !== undefined).length);
  for (const [id, { references, generation, key, step, flights }] of model.blocks.entries()) {
    if (id === 0) continue;
    const hash = pool.hashOf(id);
    const got = [pool.references(id), pool.generation(id), pool.isHashed(id), pool.isFlying(id)];
    expect(got).toEqual([references, generation, key !== undefined, flights > 0]);
    expect(pool.isFree(id)).toBe(model.free.includes(id));
    expect(pool.publishedStep(id)).toBe(key === undefined ? -1 : step);
    if (key !== undefined) {
      const [group, number] = key.split(":").map(Number) as [number, number];
      expect([pool.groupOf(id), hash?.join()]).toEqual([group, hashNumber(number).join()]);
    }
  }
  for (let number = 0; number <= 5; number++)
    for (const group of [0, 1])
      expect(pool.find(hashNumber(number), 0, group)).toBe(model.find(keyOf(number, group)));
}

test("the block pool does what plain arrays do, under any commands (I1, I2, I3, I4, I5, I6)", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: MOST_BLOCKS }),
      fc.array(command, { maxLength: 80, size: "max" }),
      (numBlocks, commands) => {
        const pool = new BlockPool(numBlocks);
        const model = new PoolModel(numBlocks);
        const tables: number[][] = [];
        for (const command of commands) {
          play(pool, model, tables, command);
          compare(pool, model);
        }
      },
    ),
    propertyRuns(500),
  );
});
