/** What may be copied, from when on, and whose pages are in use (I4, I17, I18). */

import { expect, test } from "bun:test";
import type { FlightId, SchedulerOutput, TransferResult } from "../../connectors/connector.ts";
import { Bound, codeOf, codeOfThrown, ServingWorld } from "../support/serving-world.ts";

test("a block can be stored once the step that fills it has committed, and not before (I17)", async () => {
  const early = new Set<string>();
  let stored = 0;
  class Early extends Bound {
    override buildConnectorMeta({ completed }: SchedulerOutput): void {
      const pages = this.context.pages.alloc(1)!;
      const [blocks = []] = this.context.blocksOf("request-0") ?? [];
      for (const id of blocks) {
        if (this.view.hashOf(id) !== undefined) continue;
        early.add(codeOf(() => this.context.transfers.store([id], pages)));
      }
      const [id] = completed;
      if (id === undefined) return this.context.pages.free(pages);
      this.context.transfers.store([id], pages);
      stored++;
    }
  }
  const serving = await ServingWorld.create(new Early());
  await serving.untilEnded(serving.add(1, 24, 6));
  expect([...early]).toEqual(["stale"]);
  expect(stored).toBeGreaterThan(1);
  await serving.world.drain();
  serving.expectNothingLeft();
  await serving.world.stop();
});

test("a page that is freed while a flight uses it is handed out when that has ended, and belongs to nobody until then", async () => {
  class Frees extends Bound {
    flight: FlightId | undefined;
    page: number | undefined;
    ended: readonly TransferResult[] = [];
    override buildConnectorMeta({ completed }: SchedulerOutput): void {
      const [id] = completed;
      if (id === undefined || this.flight !== undefined) return;
      [this.page] = this.context.pages.alloc(1)!;
      this.flight = this.context.transfers.store([id], [this.page!]);
      this.context.pages.free([this.page!]);
    }
    override updateConnectorOutput(results: readonly TransferResult[]): void {
      this.ended = [...this.ended, ...results];
    }
  }
  const connector = new Frees();
  const serving = await ServingWorld.create(connector, {}, { hostPages: 2 });
  const { world } = serving;
  await serving.untilEnded(serving.add(1));
  const { pages } = connector.context;
  expect(pages.numFree).toBe(1);
  expect(pages.alloc(2)).toBeUndefined();
  const [other] = pages.alloc(1)!;
  expect(other).not.toBe(connector.page!);
  expect(codeOf(() => pages.free([connector.page!]))).toBe("notHeld");
  await world.drain();
  expect(connector.ended).toMatchObject([{ id: connector.flight, ok: true }]);
  expect(pages.alloc(1)).toEqual([connector.page!]);
  serving.expectNothingLeft();
  await world.stop();
});

test("each transfer has one result, whatever is cancelled, twice, or by another (I14)", async () => {
  const results: TransferResult[] = [];
  class Cancels extends Bound {
    readonly flights: FlightId[] = [];
    override buildConnectorMeta({ completed }: SchedulerOutput): void {
      for (const id of completed) {
        try {
          this.flights.push(this.context.transfers.store([id], this.context.pages.alloc(1)!));
        } catch (refused) {
          expect(codeOfThrown(refused)).toBe("budget");
        }
      }
    }
    override updateConnectorOutput(some: readonly TransferResult[]): void {
      results.push(...some);
    }
  }
  const [one, other] = [new Cancels(), new Bound()];
  const serving = await ServingWorld.create([
    { name: "one", connector: one },
    { name: "other", connector: other },
  ]);
  const { world } = serving;
  await serving.untilEnded(serving.add(1));
  const [first, second, third] = one.flights;
  const { transfers } = one.context;
  expect(other.context.transfers.cancel(first!)).toBe(false);
  expect([transfers.cancel(first!), transfers.cancel(first!)]).toEqual([true, true]);
  world.desk!.begin(world.desk!.pending.find(({ id }) => id === second)!);
  expect([
    transfers.cancel(second!),
    transfers.cancel(9_999),
    transfers.cancel(Number.NaN),
  ]).toEqual([false, false, false]);
  await world.desk!.run(
    world.desk!.pending.find(({ id }) => id === third)!,
    "all",
  );
  await world.drain();
  expect(results.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(one.flights);
  const of = (id: FlightId): TransferResult | undefined =>
    results.find((result) => result.id === id);
  expect(of(first!)).toMatchObject({ ok: false, cancelled: true });
  expect(of(second!)).toMatchObject({ ok: true, cancelled: false, failedBlockIds: [] });
  expect(of(third!)).toMatchObject({ ok: false, cancelled: false });
  expect(of(third!)!.failedBlockIds.length).toBe(1);
  expect(transfers.cancel(second!)).toBe(false);
  serving.expectNothingLeft();
  await world.stop();
});
