/** Connectors whose look-ups lie (I38): what they promise and do not have is computed, and they are named for it. */

import { describe, expect, test } from "bun:test";
import type {
  FlightId,
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
import BlockOriented from "./examples/block-oriented.ts";

describe("a look-up that lies", () => {
  test.each([-4, 3.5, Number.NaN, -0.5, Number.NEGATIVE_INFINITY, Infinity])(
    "%p matched tokens are no number of tokens",
    async (answer) => {
      class Liar extends Bound {
        override getNumNewMatchedTokens(): number {
          return answer;
        }
      }
      const hostile = await ServingWorld.create(new Liar());
      const says = `findBlocks threw TypeError: getNumNewMatchedTokens answered ${answer}`;
      await expectDisabled(hostile, says, "findBlocks threw");
      expect(hostile.faultsOf()).toEqual({ throw: 1 });
    },
  );

  test("beyond the prompt counts as the prompt; what is never loaded is computed, and it is not asked for a while (I20)", async () => {
    let asked = 0;
    const plans: LoadPlan[] = [];
    class Liar extends Bound {
      override getNumNewMatchedTokens(): number {
        asked++;
        return Number.MAX_SAFE_INTEGER;
      }
      override updateStateAfterAlloc(_request: RequestView, plan: LoadPlan): void {
        plans.push(plan);
      }
    }
    const hostile = await ServingWorld.create(new Liar());
    await hostile.serve();
    hostile.expectNothingLeft();
    // The last token is always computed: 23 tokens are five full blocks.
    expect(plans[0]?.blocks.map(({ block }) => block)).toEqual([0, 1, 2, 3, 4]);
    expect(plans.slice(1).every(({ blocks }) => blocks.length === 0)).toBe(true);
    expect(asked).toBeGreaterThan(1);
    expect(hostile.lines).toEqual([
      "connector hostile: findBlocks promised 5 blocks and did not load them in time (no load of 5 was begun): they are computed, and it is not asked for 1000 ms",
    ]);
    expect(hostile.faultsOf()).toEqual({ late: 1 });
    await hostile.world.stop();
  });

  test("marks of blocks that there are not are told of and passed over", async () => {
    class Liar extends Bound {
      override findBlocks(...[, , wanted]: Parameters<Bound["findBlocks"]>): undefined {
        for (const block of [-1, 0.5, Number.NaN, wanted.numBlocks, 2 ** 40]) wanted.mark(block, 0);
        for (const group of [-1, 1, 7]) wanted.mark(0, group);
      }
    }
    const hostile = await ServingWorld.create(new Liar());
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(hostile.lines).toEqual([
      "connector hostile: findBlocks marked block -1 of group 0; there are 5 blocks in 1 groups",
    ]);
    expect(hostile.faultsOf().answer).toBeGreaterThan(1);
    expect(hostile.isDisabled()).toBe(false);
    await hostile.world.stop();
  });

  /** Promises everything, and loads it from `pageOf`. */
  class WrongPage extends Bound {
    readonly codes = new Set<string>();
    pages: readonly number[] = [];
    override findBlocks(...[, , wanted]: Parameters<Bound["findBlocks"]>): undefined {
      for (let block = 0; block < wanted.numBlocks; block++) wanted.mark(block, 0);
    }
    override updateStateAfterAlloc(_request: RequestView, { blocks }: LoadPlan): void {
      for (const { id } of blocks)
        this.codes.add(codeOf(() => this.context.transfers.load([this.pages[0] ?? 9], [id])));
    }
  }

  test("a page that is not its own cannot be loaded", async () => {
    const connector = new WrongPage();
    const hostile = await ServingWorld.create(connector);
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(connector.codes).toEqual(new Set(["stale"]));
    expect(hostile.faultsOf()).toEqual({ late: 1 });
    expect(hostile.lines[0]).toContain(
      "did not load them in time (the load of 5 was refused as `stale`): they are computed",
    );
    await hostile.world.stop();
  });

  test("a page that was never filled, or holds other content, cannot be loaded as what was promised", async () => {
    class OtherContent extends WrongPage {
      stored: FlightId | undefined;
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        if (this.pages.length === 0) this.pages = this.context.pages.alloc(1) ?? [];
        const [, , last] = completed;
        if (this.stored !== undefined || last === undefined) return;
        this.stored = this.context.transfers.store([last], this.pages);
      }
    }
    const connector = new OtherContent();
    const hostile = await ServingWorld.create(connector);
    hostile.add(9);
    await hostile.world.drain();
    hostile.world.idleMs += 5_000;
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(connector.stored).toBeDefined();
    expect(connector.codes).toEqual(new Set(["stale"]));
    expect(hostile.faultsOf().late).toBeGreaterThan(1);
    await hostile.world.stop();
  });

  test("a page from before a reset of its copies cannot be loaded, until it is filled anew (I36)", async () => {
    const told: string[] = [];
    class Remembers extends BlockOriented {
      override updateStateAfterAlloc(...given: Parameters<BlockOriented["updateStateAfterAlloc"]>) {
        try {
          super.updateStateAfterAlloc(...given);
          told.push(given[1].blocks.length > 0 ? "loads" : "nothing");
        } catch (thrown) {
          told.push(`${codeOfThrown(thrown)}: ${(thrown as Error).message}`);
        }
      }
      override resetCache(): void {}
    }
    const hostile = await ServingWorld.create(new Remembers());
    await hostile.away(1);
    hostile.world.scheduler.resetPrefixCache(false);
    told.length = 0;
    hostile.add(1);
    await hostile.world.drain();
    expect(told).toEqual(["loads"]);
    hostile.world.scheduler.resetPrefixCache();
    hostile.add(1);
    await hostile.world.drain();
    expect(told[1]).toMatch(/^stale: page \d+ was filled before the cache was reset/);
    expect(told.slice(2)).not.toContain("loads");
    hostile.expectNothingLeft();
    await hostile.world.stop();
  });

  test("a load into a block that nobody promised is refused: of a request, a free one, one twice (I17)", async () => {
    const codes = new Set<string>();
    class Writer extends Bound {
      override buildConnectorMeta({ completed }: SchedulerOutput): void {
        const [page] = this.context.pages.alloc(1) ?? [];
        if (page === undefined) return;
        for (const id of [...completed, 1, this.view.numBlocks])
          codes.add(codeOf(() => this.context.transfers.load([page], [id])));
        this.context.pages.free([page]);
      }
    }
    const hostile = await ServingWorld.create(new Writer());
    await hostile.serve();
    hostile.expectNothingLeft();
    expect([...codes]).toEqual(["notHeld"]);
    await hostile.world.stop();
  });

  test("who is pending for ever is a miss after the look-up's time-out, once for each request", async () => {
    class Undecided extends Bound {
      override findBlocks(): "pending" {
        return "pending";
      }
    }
    const hostile = await ServingWorld.create(new Undecided());
    await hostile.serve();
    hostile.expectNothingLeft();
    expect(hostile.lines).toEqual([
      expect.stringMatching(/^connector hostile: findBlocks was pending for \d+ ms: a miss$/),
    ]);
    const { late = 0 } = hostile.faultsOf();
    // Not of a request whose blocks are all on the device.
    expect(late).toBeGreaterThan(3);
    expect(late).toBeLessThanOrEqual(hostile.world.received.size);
    await hostile.world.stop();
  });
});
