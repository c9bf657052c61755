/**
 * Connectors that do everything wrong, at a scheduler that serves (I38): each ends in a line of the log and a count, every request gets
 * its tokens, and nothing is left (I7).
 */

import { describe, expect, test } from "bun:test";
import type {
  BlockId,
  FreeBlock,
  LoadPlan,
  RequestView,
  SchedulerOutput,
} from "../../connectors/connector.ts";
import {
  Bound,
  codeOf,
  codeOfThrown,
  expectDisabled,
  ServingWorld,
} from "../support/serving-world.ts";

type Blocks = readonly (readonly BlockId[])[];

describe("a hold that is not its own", () => {
  test("a double free is refused; not caught, it disables (I8)", async () => {
    class DoubleFree extends Bound {
      override requestFinished(_request: RequestView, [blocks = []]: Blocks): undefined {
        const full = blocks.slice(0, 2);
        this.view.touchBlocks(full);
        this.view.freeBlocks(full);
        this.view.freeBlocks(full);
      }
    }
    const hostile = await ServingWorld.create(new DoubleFree());
    await expectDisabled(
      hostile,
      "requestFinished threw RefusedError: block",
      "requestFinished threw",
    );
    expect(hostile.faultsOf()).toEqual({ throw: 1 });
  });

  test("a free of blocks that requests or other connectors hold is refused and changes nothing (I2, I8)", async () => {
    const codes = new Set<string>();
    class Holder extends Bound {
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        if (this.view.numFreeBlocks > 6) this.view.touchBlocks(completed.slice(0, 1));
      }
    }
    class Thief extends Bound {
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        for (let id = 1; id <= this.view.numBlocks; id++) {
          const before = this.view.refCount(id);
          codes.add(codeOf(() => this.view.freeBlocks([id])));
          expect(this.view.refCount(id)).toBe(before);
        }
        const before = this.view.numFreeBlocks;
        if (completed.length > 0) codes.add(codeOf(() => this.view.freeBlocks(completed)));
        expect(this.view.numFreeBlocks).toBe(before);
      }
    }
    const hostile = await ServingWorld.create([
      { name: "holder", connector: new Holder() },
      { name: "hostile", connector: new Thief() },
    ]);
    await hostile.serve();
    hostile.expectNothingLeft();
    expect([...codes]).toEqual(["notHeld"]);
    expect(hostile.faultsOf()).toEqual({});
    await hostile.world.stop();
  });

  test("a free of an expired touch meets its tombstone, and the block that it holds anew stays held (I8, I9)", async () => {
    const seen: string[] = [];
    class Late extends Bound {
      held: BlockId | undefined;
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        const [id] = completed;
        if (this.held !== undefined || id === undefined) return;
        this.held = id;
        this.view.touchBlocks([id]);
      }
    }
    const connector = new Late();
    const hostile = await ServingWorld.create(connector);
    hostile.add(1);
    await hostile.world.drain();
    const id = connector.held as BlockId;
    expect(connector.view.refCount(id)).toBe(0);
    connector.view.touchBlocks([id]);
    seen.push(codeOf(() => connector.view.freeBlocks([id])));
    expect(connector.view.refCount(id)).toBe(1);
    connector.view.freeBlocks([id]);
    seen.push(codeOf(() => connector.view.freeBlocks([id])));
    expect(seen).toEqual(["lease_expired", "notHeld"]);
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(hostile.lines).toEqual([
      "connector hostile: its code left 1 touches of blocks to end at their deadline",
    ]);
    expect(hostile.faultsOf()).toEqual({ held: 1 });
    await hostile.world.stop();
  });

  test("who holds all it may for ever loses each hold at its deadline (I9, I10, I11)", async () => {
    let most = 0;
    class Hoarder extends Bound {
      override buildConnectorMeta({ stepId }: SchedulerOutput): void {
        if (stepId < 0) return;
        for (let id = 1; id <= this.view.numBlocks; id++) {
          try {
            this.view.touchBlocks([id]);
          } catch (refused) {
            expect(codeOfThrown(refused)).toBeOneOf(["stale", "budget", "pressure"]);
          }
        }
        most = Math.max(most, hostile.world.connectors?.ledgers.numHeldBy(0) ?? 0);
      }
    }
    const hostile: ServingWorld = await ServingWorld.create(new Hoarder());
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(most).toBe(6);
    expect(hostile.lines[0]).toMatch(
      /^connector hostile: its code left \d+ touches of blocks to end/,
    );
    expect(hostile.faultsOf().held).toBeGreaterThan(0);
    await hostile.world.stop();
  });

  test.each([
    ["touchBlocks", (one: Bound): unknown => one.view.touchBlocks([0])],
    ["freeBlocks", (one: Bound): unknown => one.view.freeBlocks([0])],
    ["lease", (one: Bound): unknown => one.view.lease([0], { ttlMs: 1 })],
    ["markSafe", (one: Bound): unknown => one.view.markSafe([0])],
    [
      "store",
      (one: Bound): unknown => one.context.transfers.store([0], one.context.pages.alloc(1)!),
    ],
  ])("block 0 can be used for nothing: %s", async (_, use) => {
    class Zero extends Bound {
      override buildConnectorMeta(): void {
        expect(codeOf(() => use(this))).toBe("null");
        use(this);
      }
    }
    const hostile = await ServingWorld.create(new Zero());
    await expectDisabled(
      hostile,
      "buildConnectorMeta threw RefusedError: block 0 ",
      "buildConnectorMeta threw",
    );
    expect(hostile.faultsOf()).toEqual({ throw: 1 });
  });
});

describe("what it keeps for later", () => {
  test("an iterator that stays open across steps gives no block twice and none that is not free", async () => {
    const passes: FreeBlock[][] = [];
    class Iterates extends Bound {
      #open: IterableIterator<FreeBlock> | undefined;
      override buildConnectorMeta(): void {
        if (this.#open === undefined) passes.push([]);
        this.#open ??= this.view.iterFreeBlockIdsWithHash();
        const next = this.#open.next();
        if (next.done === true) this.#open = undefined;
        else {
          expect(this.view.refCount(next.value.id)).toBe(0);
          expect(this.view.hashOf(next.value.id)).toBe(next.value.hash);
          passes.at(-1)?.push(next.value);
        }
      }
    }
    const hostile = await ServingWorld.create(new Iterates());
    await hostile.serve();
    hostile.expectNothingLeft();
    for (const pass of passes) expect(new Set(pass.map(({ id }) => id)).size).toBe(pass.length);
    expect(passes.flat().length).toBeGreaterThan(10);
    expect(hostile.lines).toEqual([]);
    await hostile.world.stop();
  });

  test("view, context and leases are over after shutdown, and every call is refused (I40)", async () => {
    const connector = new Bound();
    const hostile = await ServingWorld.create(connector);
    hostile.add(1);
    await hostile.world.drain();
    const { view, context } = connector;
    const id = view.blockOfHash(view.iterFreeBlockIdsWithHash().next().value.hash)!;
    const pages = context.pages.alloc(1)!;
    const lease = view.lease([id], { ttlMs: 1000 });
    await hostile.world.host?.shutdown(0);
    expect(lease.live).toBe(false);
    expect(lease.renew()).toBe(false);
    lease.release();
    for (const call of [
      (): unknown => view.touchBlocks([id]),
      (): unknown => view.freeBlocks([id]),
      (): unknown => view.lease([id], { ttlMs: 1 }),
      (): unknown => view.numFreeBlocks,
      (): unknown => view.hashOf(id),
      (): unknown => view.iterFreeBlockIdsWithHash(),
      (): unknown => context.transfers.store([id], pages),
      (): unknown => context.transfers.load(pages, [id]),
      (): unknown => context.pages.alloc(1),
      (): unknown => context.pages.free(pages),
      (): unknown => context.blocksOf("request-0"),
    ])
      expect(codeOf(call)).toBe("closed");
    hostile.expectNothingLeft();
    await hostile.world.desk?.stop(1000);
    await hostile.world.runner.stop();
  });
});

describe("time", () => {
  test("a hook that holds up the engine for two seconds is its last", async () => {
    class Slow extends Bound {
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        this.view.touchBlocks(completed);
        hostile.world.idleMs += 2_000;
      }
    }
    const hostile: ServingWorld = await ServingWorld.create(new Slow(), {}, { slowHookMs: 1_000 });
    await expectDisabled(
      hostile,
      "buildConnectorMeta held up the engine for 2000 ms; allowed are 1000",
      "buildConnectorMeta held up the engine",
    );
    expect(hostile.faultsOf()).toEqual({ slow: 1 });
  });

  test("who takes no results, and loses what it stored, costs nothing but its own pages (I14)", async () => {
    class Deaf extends Bound {
      readonly pages = new Map<string, number>();
      override findBlocks(...[, hashes, wanted]: Parameters<Bound["findBlocks"]>): undefined {
        for (let block = 0; block < wanted.numBlocks; block++)
          if (this.pages.has(hashes.keyOf(block, 0))) wanted.mark(block, 0);
      }
      override updateStateAfterAlloc(_request: RequestView, { blocks }: LoadPlan): void {
        for (const { key, id } of blocks) {
          try {
            this.context.transfers.load([this.pages.get(key)!], [id]);
          } catch (refused) {
            // The store of its page has not ended.
            expect(codeOfThrown(refused)).toBe("stale");
          }
        }
      }
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        for (const id of completed) {
          if (this.context.transfers.numFree === 0) return;
          const [page] = this.context.pages.alloc(1) ?? [];
          if (page === undefined) return;
          this.pages.set(this.view.hashOf(id)!, page);
          this.context.transfers.store([id], [page]);
        }
      }
    }
    const hostile = await ServingWorld.create(new Deaf());
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(hostile.world.desk!.numLoads).toBeGreaterThan(0);
    expect(hostile.isDisabled()).toBe(false);
    await hostile.world.stop();
  });
});
