/** A pool, two connectors' ledgers and views, beside models of arrays, under commands of any kind in any order. */

import { expect, test } from "bun:test";
import * as fc from "fast-check";
import type { BlockLease, FreeBlock } from "../../../connectors/block-pool-view.ts";
import { RefusedError } from "../../../connectors/errors.ts";
import { blockKey } from "../../../engine/cache/block-key.ts";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { ConnectorBlocks } from "../../../engine/cache/gpu-block-pool-view.ts";
import { allocate, free, hashNumber } from "../../support/cached-sequence.ts";
import { propertyRuns } from "../../support/property-runs.ts";
import { PoolModel } from "./cache-model.ts";
import {
  type Command,
  command,
  type ConnectorCommand,
  MOST_BLOCKS,
  type RequestCommand,
} from "./connector-commands.ts";
import { ConnectorModel, type ModelLease, type ModelWorld } from "./connector-model.ts";

const HOLD_TTL = 7;
const NUM_NUMBERS = 5;
const NUM_GROUPS = 2;

/** Of the model's keys the text that a view gives. */
const TEXTS = new Map<string, string>();
for (let number = 0; number < NUM_NUMBERS; number++)
  for (let group = 0; group < NUM_GROUPS; group++)
    TEXTS.set(`${group}:${number}`, blockKey(hashNumber(number), 0, group));

/** What a call answers, or the code of its refusal. */
function outcome(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    if (error instanceof RefusedError) return error.code;
    throw error;
  }
}

/** A connector and its model; with each lease that of the model. */
class Connector {
  readonly real: ConnectorBlocks;
  readonly model: ConnectorModel;
  readonly leases: { readonly real: BlockLease; readonly model: ModelLease }[] = [];
  #iteration: IterableIterator<FreeBlock> | undefined;

  constructor(pool: BlockPool, world: ModelWorld, maxHeld: number) {
    this.real = new ConnectorBlocks({
      pool,
      blockSize: 16,
      committedStep: () => world.committed,
      maxHeld,
      holdTtlMs: HOLD_TTL,
      isPressed: () => world.pressed,
      numSpare: () => world.spare,
      now: () => world.now,
    });
    this.model = new ConnectorModel(world, maxHeld, HOLD_TTL);
  }

  lease(ids: readonly number[], ttlMs: number): void {
    const expected = this.model.lease(ids, ttlMs);
    const got = outcome(() => this.real.view.lease(ids, { ttlMs }));
    if (typeof expected === "string") expect(got).toBe(expected);
    else this.leases.push({ real: got as BlockLease, model: expected });
  }

  iterate(within: number): void {
    const { view } = this.real;
    if (this.model.closed) {
      expect(outcome(() => view.iterFreeBlockIdsWithHash(within))).toBe("closed");
      return;
    }
    const older = this.#iteration;
    const isOlderOpen = this.model.pass !== undefined;
    this.#iteration = view.iterFreeBlockIdsWithHash(within);
    this.model.begin(within);
    this.#compareNext(this.#iteration, this.model.next());
    if (isOlderOpen) expect(outcome(() => older?.next())).toBe("closed");
  }

  next(): void {
    const iteration = this.#iteration;
    if (iteration === undefined) return;
    if (this.model.closed) expect(outcome(() => iteration.next())).toBe("closed");
    else
      this.#compareNext(iteration, this.model.pass === undefined ? undefined : this.model.next());
  }

  endIteration(): void {
    this.#iteration?.return?.();
    this.model.pass = undefined;
  }

  disable(): void {
    this.real.disable();
    this.model.disable();
  }

  #compareNext(
    iteration: IterableIterator<FreeBlock>,
    expected: ReturnType<ConnectorModel["next"]>,
  ): void {
    const { done, value } = iteration.next();
    if (expected === undefined) {
      expect(done).toBe(true);
      return;
    }
    const { id, key, distance } = expected;
    expect(value).toEqual({ id, hash: TEXTS.get(key) as string, distance });
  }
}

class World {
  readonly pool: BlockPool;
  readonly model: ModelWorld;
  readonly connectors: readonly Connector[];
  readonly #tables: number[][] = [];
  readonly #flights: (readonly number[])[] = [];

  constructor(numBlocks: number, maxHeld: readonly [number, number]) {
    this.pool = new BlockPool(numBlocks);
    this.model = {
      pool: new PoolModel(numBlocks),
      now: 0,
      committed: -1,
      pressed: false,
      spare: Infinity,
    };
    this.connectors = maxHeld.map((most) => new Connector(this.pool, this.model, most));
  }

  do(command: Command): void {
    const fitting = "ids" in command ? { ...command, ids: this.#fit(command.ids) } : command;
    if ("who" in fitting) this.#ask(this.connectors[fitting.who]!, fitting);
    else this.#move(fitting);
    this.#compare();
  }

  /** Fills the pool with committed content and lets go of most of it. */
  warm(): void {
    this.do({ kind: "commit" });
    for (let number = 0; this.pool.numFree > 0; number++) {
      this.do({ kind: "allocate", count: Math.min(2, this.pool.numFree) });
      this.do({ kind: "fill", pick: number, number, group: number % 2, ahead: 0 });
    }
    while (this.#tables.length > 1) this.do({ kind: "freeTable", pick: 0 });
  }

  /** All of the requests' and the transfers' ends. */
  end(): void {
    for (const table of this.#tables.splice(0)) this.#free(table);
    for (const ids of this.#flights.splice(0)) this.#land(ids);
    this.#compare();
  }

  #move(command: RequestCommand): void {
    const { pool, model } = this;
    switch (command.kind) {
      case "allocate": {
        const possible = command.count <= model.pool.free.length;
        const expected = possible ? model.pool.take(command.count) : undefined;
        expect(allocate(pool, command.count)).toEqual(expected);
        if (expected !== undefined && expected.length > 0) this.#tables.push(expected);
        return;
      }
      case "fill":
        this.#fill(command);
        return;
      case "freeTable": {
        const [table] = this.#tables.splice(command.pick % this.#tables.length, 1);
        if (table !== undefined) this.#free(table);
        return;
      }
      case "commit":
        model.committed++;
        return;
      case "withdraw":
        this.#withdraw(command.id);
        return;
      case "reset":
        if (command.now > 0) return;
        pool.unhashAll();
        model.pool.clearKeys();
        return;
      case "press":
        model.pressed = command.isPressed;
        model.spare = command.spare;
        return;
      case "fly": {
        const { ids } = command;
        pool.beginFlight(Int32Array.from(ids), ids.length);
        model.pool.fly(ids, 1);
        this.#flights.push(ids);
        return;
      }
      case "land": {
        const [ids] = this.#flights.splice(command.pick % this.#flights.length, 1);
        if (ids !== undefined) this.#land(ids);
        return;
      }
      case "wait":
        model.now += command.ms;
    }
  }

  #ask(connector: Connector, command: ConnectorCommand): void {
    const { real, model, leases } = connector;
    const { view } = real;
    switch (command.kind) {
      case "expire":
        expect(real.ledger.expire()).toBe(model.expire());
        return;
      case "recall":
        real.ledger.recall(this.model.now + command.after);
        model.recall(this.model.now + command.after);
        return;
      case "disable":
        if (command.now === 0 && !model.closed) connector.disable();
        return;
      case "touch":
        expect(outcome(() => view.touchBlocks(command.ids))).toBe(model.touch(command.ids));
        return;
      case "free":
        expect(outcome(() => view.freeBlocks(command.ids))).toBe(model.free(command.ids));
        return;
      case "freeTouched": {
        const { touches } = model;
        const from = touches.length === 0 ? 0 : command.pick % touches.length;
        const ids = touches.slice(from, from + command.count).map(({ id }) => id);
        expect(outcome(() => view.freeBlocks(ids))).toBe(model.free(ids));
        return;
      }
      case "lease":
        connector.lease(command.ids, command.ttl);
        return;
      case "renew": {
        const lease = leases[command.pick % leases.length];
        if (lease === undefined) return;
        const got = outcome(() => lease.real.renew(command.ttl));
        expect(got).toBe(model.renew(lease.model, command.ttl));
        return;
      }
      case "release": {
        const lease = leases[command.pick % leases.length];
        lease?.real.release();
        if (lease !== undefined) model.release(lease.model);
        return;
      }
      case "markSafe": {
        const expected = model.checkIds(command.ids);
        if (expected === undefined) model.markSafe(command.ids);
        expect(outcome(() => view.markSafe(command.ids))).toBe(expected);
        return;
      }
      case "clearSafe": {
        const keys = command.numbers.map((number) => `${number % NUM_GROUPS}:${number}`);
        if (!model.closed) model.clearSafe(keys);
        const got = outcome(() => view.clearSafe(keys.map((key) => TEXTS.get(key) ?? "")));
        expect(got).toBe(model.closed ? "closed" : undefined);
        return;
      }
      case "iterate":
        connector.iterate(command.within);
        return;
      case "next":
        for (let i = 0; i < command.count; i++) connector.next();
        return;
      case "endIteration":
        connector.endIteration();
    }
  }

  /** A step fills a table's blocks; it has committed, or will. */
  #fill({ pick, number, group, ahead }: Extract<Command, { kind: "fill" }>): void {
    const step = this.model.committed + ahead;
    for (const [i, id] of (this.#tables[pick % this.#tables.length] ?? []).entries()) {
      if (this.pool.isHashed(id)) continue;
      const content = (number + i) % NUM_NUMBERS;
      this.pool.insert(id, hashNumber(content), 0, group, step);
      this.model.pool.setKey(id, `${group}:${content}`, step);
    }
  }

  /** A step has failed: its block has no content. What has committed stays. */
  #withdraw(id: number): void {
    if (id >= this.pool.numBlocks || this.model.pool.block(id).step <= this.model.committed) return;
    this.pool.unhash(id);
    this.model.pool.block(id).key = undefined;
  }

  /** Ids of blocks that a smaller pool lacks stand for others; what is no block anywhere stays. */
  #fit(ids: readonly number[]): number[] {
    const isBlock = (id: number): boolean => Number.isInteger(id) && id > 0 && id < MOST_BLOCKS;
    return ids.map((id) => (isBlock(id) ? 1 + ((id - 1) % (this.pool.numBlocks - 1)) : id));
  }

  #free(table: readonly number[]): void {
    free(this.pool, table);
    this.model.pool.drop(table);
  }

  #land(ids: readonly number[]): void {
    this.pool.endFlight(Int32Array.from(ids), ids.length);
    this.model.pool.fly(ids, -1);
  }

  #compare(): void {
    const { pool, model, connectors } = this;
    pool.checkIntegrity();
    for (const { real } of connectors) real.ledger.checkIntegrity();
    const isHeld = new Set(connectors.flatMap(({ real }) => [...real.ledger.heldIds()]));
    const isRunning = new Set(this.#tables.flat());
    let [numRunning, numHeld, numInFlight] = [0, 0, 0];
    for (let id = 1; id < pool.numBlocks; id++) {
      if (isRunning.has(id)) numRunning++;
      else if (isHeld.has(id)) numHeld++;
      else if (pool.isFlying(id)) numInFlight++;
    }
    const got = {
      queue: pool.freeIds(),
      numFree: pool.numFree,
      references: model.pool.blocks.map((_, id) => (id === 0 ? 0 : pool.references(id))),
      generations: model.pool.blocks.map((_, id) => (id === 0 ? 0 : pool.generation(id))),
      sum: pool.numFree + numRunning + numHeld + numInFlight,
      connectors: connectors.map((connector) => factsOf(connector, pool.numBlocks)),
    };
    const expected = {
      queue: model.pool.queue,
      numFree: model.pool.free.length,
      references: model.pool.blocks.map(({ references }) => references),
      generations: model.pool.blocks.map(({ generation }) => generation),
      sum: pool.numBlocks - 1,
      connectors: connectors.map((connector) => expectedOf(connector, model.pool)),
    };
    // The plain comparison is much faster; the other one says what differs.
    if (!Bun.deepEquals(got, expected)) expect(got).toEqual(expected);
  }
}

function factsOf({ real, model, leases }: Connector, numBlocks: number): object {
  const { view, ledger } = real;
  const ids = Array.from({ length: numBlocks - 1 }, (_, i) => i + 1);
  return {
    numHeld: ledger.numHeld,
    holds: [...ledger.heldIds()].sort((a, b) => a - b),
    nextDeadline: ledger.nextDeadline,
    leases: leases.map(({ real: { live, expiresAt, ids } }) => ({ live, expiresAt, ids })),
    hashes: model.closed ? [] : ids.map((id) => view.hashOf(id)),
    found: model.closed ? [] : [...TEXTS.values()].map((key) => view.blockOfHash(key)),
  };
}

function expectedOf({ model, leases }: Connector, pool: PoolModel): object {
  const keyOf = (id: number): string | undefined =>
    model.isVisible(id) ? TEXTS.get(pool.block(id).key ?? "") : undefined;
  const find = (key: string): number | undefined => model.find(key) || undefined;
  return {
    numHeld: model.numHeld,
    holds: model.holds.sort((a, b) => a - b),
    nextDeadline: model.nextDeadline,
    leases: leases.map(({ model: lease }) => ({
      live: model.isLive(lease),
      expiresAt: lease.expiresAt,
      ids: [...lease.ids],
    })),
    hashes: model.closed ? [] : pool.blocks.map((_, id) => keyOf(id)).slice(1),
    found: model.closed ? [] : [...TEXTS.keys()].map(find),
  };
}

test("pool, ledgers and views do what plain arrays do, under any commands (I1-I10, I12)", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: MOST_BLOCKS }),
      fc.tuple(fc.nat(8), fc.nat(8)),
      fc.boolean(),
      fc.array(command, { minLength: 10, maxLength: 70, size: "max" }),
      (numBlocks, maxHeld, isWarm, commands) => {
        const world = new World(numBlocks, maxHeld);
        if (isWarm) world.warm();
        for (const command of commands) world.do(command);
        // At rest nothing is held, whatever was done (I7).
        world.end();
        world.model.now += 86_400_000;
        for (const who of [0, 1]) world.do({ kind: "expire", who });
        expect([world.pool.numFree, world.pool.numUsed, world.pool.numFlying]).toEqual([
          numBlocks - 1,
          0,
          0,
        ]);
      },
    ),
    propertyRuns(3000),
  );
}, 600_000);
