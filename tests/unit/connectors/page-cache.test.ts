/** The order in which host pages are forgotten, held against a model that is a plain list. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import type { GpuBlockPoolView } from "../../../connectors/block-pool-view.ts";
import type { SchedulerContext } from "../../../connectors/connector.ts";
import { HostLevel } from "../../../connectors/host-level.ts";
import { MOST_WEIGHT, PageCache } from "../../../connectors/page-cache.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../../support/property-runs.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

interface Modelled {
  readonly key: string;
  readonly page: number;
  isReady: boolean;
  pins: number;
  chances: number;
}

/** The oldest first. */
class Model {
  list: Modelled[] = [];

  of(key: string): Modelled | undefined {
    return this.list.find((entry) => entry.key === key);
  }

  toEnd(entry: Modelled): void {
    this.list = [...this.list.filter((other) => other !== entry), entry];
  }

  evict(count: number, retained: ReadonlySet<string>): string[] {
    const gone: string[] = [];
    for (let round = 0; round <= MOST_WEIGHT; round++) {
      for (const entry of [...this.list]) {
        if (gone.length === count) return gone;
        if (entry.pins > 0) continue;
        if (entry.chances > 0 || retained.has(entry.key)) {
          entry.chances = Math.max(0, entry.chances - 1);
          this.toEnd(entry);
          continue;
        }
        this.list = this.list.filter((other) => other !== entry);
        gone.push(entry.key);
      }
    }
    return gone;
  }
}

const KEYS = ["a", "b", "c", "d", "e", "f", "g"];
const key = fc.constantFrom(...KEYS);
const action = fc.oneof(
  fc.record({
    kind: fc.constantFrom("add", "filled", "pin", "unpin", "touch", "cool", "drop"),
    key,
  }),
  fc.record({ kind: fc.constant("weigh"), key, weight: fc.integer({ min: 0, max: 5 }) }),
  fc.record({
    kind: fc.constant("evict"),
    key,
    count: fc.integer({ min: 0, max: 4 }),
    retained: fc.subarray(KEYS),
  }),
);

test("pages are forgotten in the order of a plain list, pinned, retained and weighty ones as they should", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const [cache, model] = [new PageCache(), new Model()];
      for (const [page, one] of actions.entries()) {
        const entry = model.of(one.key);
        switch (one.kind) {
          case "add":
            if (entry !== undefined) break;
            cache.add(one.key, page);
            model.list.push({ key: one.key, page, isReady: false, pins: 1, chances: 0 });
            break;
          case "filled":
            if (entry === undefined || entry.isReady) break;
            cache.filled(one.key);
            entry.isReady = true;
            entry.pins--;
            break;
          case "pin":
            cache.pin(one.key);
            if (entry !== undefined) entry.pins++;
            break;
          case "unpin":
            if (entry === undefined || entry.pins <= (entry.isReady ? 0 : 1)) break;
            cache.unpin(one.key);
            entry.pins--;
            break;
          case "touch":
            cache.touch(one.key);
            if (entry !== undefined) model.toEnd(entry);
            break;
          case "cool":
            cache.cool(one.key);
            if (entry === undefined) break;
            entry.chances = 0;
            model.list = [entry, ...model.list.filter((other) => other !== entry)];
            break;
          case "drop":
            expect(cache.drop(one.key)).toBe(entry?.page);
            model.list = model.list.filter((other) => other !== entry);
            break;
          case "weigh":
            if (!("weight" in one)) break;
            cache.weigh(one.key, one.weight);
            if (entry !== undefined)
              entry.chances = Math.max(entry.chances, Math.min(one.weight, MOST_WEIGHT));
            break;
          case "evict": {
            if (!("count" in one)) break;
            const retained = new Set(one.retained);
            const { keys } = cache.evict(one.count, (some) => retained.has(some));
            expect(keys).toEqual(model.evict(one.count, retained));
            break;
          }
        }
        expect([cache.size, cache.numPinned]).toEqual([
          model.list.length,
          model.list.filter(({ pins }) => pins > 0).length,
        ]);
        const ready = model.list.filter(({ isReady }) => isReady).map((some) => some.key);
        expect(cache.coldest(Infinity)).toEqual(ready);
      }
    }),
    propertyRuns(300),
  );
});

describe("content of urgent requests", () => {
  /** A host of four pages, of which the first `numRetained` contents are pinned. */
  function hostOf(retained: readonly string[] = []): HostLevel {
    let free = [0, 1, 2, 3];
    const pages = {
      get numFree(): number {
        return free.length;
      },
      alloc: (count: number) => free.splice(0, count),
      free: (some: readonly number[]) => void (free = [...free, ...some]),
    };
    const context = {
      pages,
      isRetained: (one: string) => retained.includes(one),
      numRetained: retained.length,
    } as unknown as SchedulerContext;
    const view = { numBlocks: 8, blockOfHash: () => undefined } as unknown as GpuBlockPoolView;
    return new HostLevel(view, context, { onForgotten() {}, onUnsafe() {} });
  }
  const store = (host: HostLevel, ...keys: readonly string[]): number => {
    const { length } = host.take(keys);
    host.filled(keys.slice(0, length));
    return length;
  };

  test.each([
    [0, 0],
    [7, 0],
    [-1, 1],
    [-3, 3],
    [-100, MOST_WEIGHT],
  ])("of priority %d outlives %d turns of the others", (priority, turns) => {
    const host = hostOf();
    store(host, "mine", "a", "b", "c");
    host.used(["mine"], priority);
    // The first one meets it at once; from then on a turn of the three others lies between.
    let outlived = -1;
    for (let i = 0; i < 60 && host.cache.has("mine"); i++) {
      store(host, `other ${i}`);
      if (i % 3 === 0) outlived++;
    }
    expect(outlived).toBe(turns);
  });

  test("counts for what is stored later, until the cache is reset", () => {
    const host = hostOf();
    host.used(["mine"], -1);
    store(host, "mine", "a", "b", "c");
    store(host, "d");
    expect(["mine", "a"].map((one) => host.cache.has(one))).toEqual([true, false]);
    host.used(["other"], -1);
    host.clear();
    store(host, "other", "e", "f", "g");
    store(host, "h");
    expect(host.cache.has("other")).toBe(false);
  });

  test("and pages that are pinned are none that can be had", () => {
    const host = hostOf(["a", "b", "c"]);
    expect(host.numAvailable).toBe(4);
    store(host, "a", "b", "c", "d");
    expect(host.numAvailable).toBe(1);
    expect(store(host, "e", "f")).toBe(1);
    expect(host.numAvailable).toBe(1);
  });
});
