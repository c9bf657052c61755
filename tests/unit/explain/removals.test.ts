/** The ring of removals and the memory of requests, at both ends of their limits. */

import { describe, expect, test } from "bun:test";
import { HASH_WORDS } from "../../../engine/cache/block-hash.ts";
import { blockKey } from "../../../engine/cache/block-key.ts";
import { BlockPool } from "../../../engine/cache/block-pool.ts";
import { KvCache } from "../../../engine/cache/kv-cache.ts";
import { OFFERED } from "../../../engine/cache/match.ts";
import { NOBODY, Removals } from "../../../engine/cache/removals.ts";
import { MAX_REMOVALS, MAX_REQUESTS } from "../../../engine/explain/explainer.ts";
import { ExplainWorld } from "../../support/explain-world.ts";
import { FULL, requestId } from "../../support/scheduler-world.ts";

/** A hash that no other number has. */
function hashOf(number: number): Int32Array {
  return Int32Array.from({ length: HASH_WORDS }, (_, i) => (i < 2 ? number >> (16 * i) : i));
}

/** A pool whose one block loses content `number` again and again. */
class Losing {
  readonly pool: BlockPool = new BlockPool(2);
  readonly removals: Removals;
  #at = 0;

  constructor(capacity: number) {
    this.removals = new Removals(capacity);
    this.pool.onEvicted((id) => this.removals.add(this.pool, id, "evicted", this.#at++, 5));
    this.pool.onUnhashed((id, why) => this.removals.add(this.pool, id, why, this.#at++, NOBODY));
  }

  store(number: number, group = 0): void {
    const id = new Int32Array(1);
    this.pool.allocate(1, id, 0);
    this.pool.insert(id[0]!, hashOf(number), 0, group, 0);
    this.pool.free(id, 1);
  }

  find(number: number, before = Infinity, group = 0): ReturnType<Removals["lastOf"]> {
    return this.removals.lastOf(hashOf(number), group, { from: 0, to: 1, before });
  }
}

describe("the ring of removals", () => {
  test("has 65,536 of them, and forgets the oldest for one more", () => {
    const losing = new Losing(MAX_REMOVALS);
    expect(MAX_REMOVALS).toBe(65_536);
    for (let number = 0; number <= MAX_REMOVALS; number++) losing.store(number);
    expect([losing.removals.total, losing.removals.oldest]).toEqual([MAX_REMOVALS, 0]);
    for (const number of [0, 1, 40_000, MAX_REMOVALS - 1])
      expect(losing.find(number).get(0)).toEqual({ cause: "evicted", at: number, by: 5 });
    losing.store(-1);
    expect(losing.removals.oldest).toBe(1);
    expect(losing.find(0).size).toBe(0);
    expect(losing.find(1).get(0)?.at).toBe(1);
    expect(losing.find(MAX_REMOVALS).get(0)?.at).toBe(MAX_REMOVALS);
  });

  test("of one has the last", () => {
    const losing = new Losing(1);
    for (let number = 0; number < 4; number++) losing.store(number);
    expect([0, 1, 2, 3].map((number) => losing.find(number).size)).toEqual([0, 0, 1, 0]);
  });

  test("answers the last removal before a moment, of the group that is asked for", () => {
    const losing = new Losing(10);
    losing.store(7);
    losing.store(8, 1);
    losing.store(7);
    losing.pool.unhashAll();
    expect(losing.find(7).get(0)).toEqual({ cause: "reset", at: 2, by: NOBODY });
    expect(losing.find(7, 2).get(0)).toEqual({ cause: "evicted", at: 0, by: 5 });
    expect(losing.find(7, 0).size).toBe(0);
    expect([losing.find(8).size, losing.find(8, Infinity, 1).size]).toEqual([0, 1]);
    losing.store(9);
    losing.pool.unhash(1);
    expect(losing.find(9).get(0)).toMatchObject({ cause: "withdrawn" });
  });

  test("takes content by its key", () => {
    const removals = new Removals(4);
    removals.addKey(blockKey(hashOf(3), 0, 2), "dropped", 11);
    const range = { from: 0, to: 1, before: Infinity };
    expect(removals.lastOf(hashOf(3), 2, range).get(0)).toMatchObject({ cause: "dropped", at: 11 });
    expect(removals.lastOf(hashOf(3), 0, range).size).toBe(0);
  });
});

test("a request that takes blocks for what connectors bring is who took them", () => {
  const kv = new KvCache({ numBlocks: 10, blockSize: 4, groups: [FULL], prefixCaching: true });
  const [first, second] = [kv.createBlocks(3), kv.createBlocks(4)];
  kv.grow(first, 8);
  expect(kv.taker).toBe(3);
  second.appendHashes(new Int32Array(16));
  kv.take(second, kv.match(second, 2, { find: () => OFFERED }));
  expect(kv.taker).toBe(4);
  kv.grow(first, 9);
  expect(kv.taker).toBe(3);
});

describe("the memory of requests", () => {
  test("has 256 of them, and forgets the oldest for one more", async () => {
    const { world, ...explained } = await served();
    const remembers = (handle: number): boolean =>
      world.explainer!.explain({ id: requestId(handle) }) !== undefined;
    expect(MAX_REQUESTS).toBe(256);
    for (let handle = 0; handle < 256; handle++) await explained.send(handle);
    expect([remembers(0), remembers(255)]).toEqual([true, true]);
    expect(world.explainer!.explain({ id: requestId(255) })?.isComplete).toBe(true);
    await explained.send(256);
    expect([remembers(0), remembers(1), remembers(256)]).toEqual([false, true, true]);
    expect(world.explainer!.explain({ id: requestId(256) })?.isComplete).toBe(false);
    await world.stop();
  });

  test("is bounded in tokens, answers included, and keeps the last request whatever its length", async () => {
    const { world, send } = await served({ maxTokens: 40 });
    const remembers = (handle: number): boolean =>
      world.explainer!.explain({ id: requestId(handle) }) !== undefined;
    // 17 tokens each, and 2 of an answer.
    for (const handle of [0, 1]) await send(handle);
    expect([remembers(0), remembers(1)]).toEqual([true, true]);
    await send(2);
    expect([remembers(0), remembers(1), remembers(2)]).toEqual([false, true, true]);
    await send(3, 100);
    expect([remembers(1), remembers(2), remembers(3)]).toEqual([false, false, true]);
    await world.stop();
  });

  test("says of a request that runs that nothing is final", async () => {
    const { world, add } = await served();
    add(0);
    expect(world.explainer!.explain({ id: requestId(0) })?.state).toBe("waiting");
    world.submit(1);
    expect(world.explainer!.explain({ id: requestId(0) })?.state).toBe("running");
    await world.commit();
    expect(world.explainer!.explain({ id: requestId(0) })?.state).toBe("answered");
    add(1);
    world.abort(1);
    expect(world.explainer!.explain({ id: requestId(1) })?.state).toBe("ended");
    await world.drain();
    await world.stop();
  });
});

interface Served {
  readonly world: ExplainWorld["world"];
  readonly add: (handle: number, length?: number) => void;
  readonly send: (handle: number, length?: number) => Promise<void>;
}

/** Prompts of 17 tokens that differ in the first one. */
async function served(explains: { readonly maxTokens?: number } = {}): Promise<Served> {
  const explained = await ExplainWorld.create({ explains });
  const add = (handle: number, length = 17): void => {
    explained.add(Array.from({ length }, (_, i) => (i + handle) % 256));
  };
  return {
    world: explained.world,
    add,
    async send(handle, length): Promise<void> {
      add(handle, length);
      await explained.world.drain();
    },
  };
}
