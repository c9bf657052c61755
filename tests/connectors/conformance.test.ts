import { describe, expect, test } from "bun:test";
import { RULES } from "../../connectors/conformance-rules.ts";
import { testConnector } from "../../connectors/conformance.ts";
import { KvConnector, RefusedError, type WantedBlocks } from "../../connectors/connector.ts";
import { CONNECTOR_NAMES, importConnector } from "../../connectors/registry.ts";
import { harnessOf } from "../support/conformance-harness.ts";

async function failuresOf(exported: unknown): Promise<Record<string, string>> {
  const results = await testConnector(harnessOf(exported), RULES);
  expect(results.map(({ rule }) => rule)).toEqual(RULES.map(({ name }) => name));
  return Object.fromEntries(
    results.flatMap(({ rule, failure }) => (failure === undefined ? [] : [[rule, failure]])),
  );
}

describe("every connector that is built in", () => {
  for (const name of CONNECTOR_NAMES) {
    test(`${name} keeps every rule, and has the name that it is called by`, async () => {
      const connectorClass = await importConnector(name);
      expect(connectorClass.connectorName).toBe(name);
      expect(await failuresOf(connectorClass)).toEqual({});
    });
  }

  test("is found by its name only", async () => {
    for (const name of ["nul", "", "constructor", "__proto__"]) {
      const names = CONNECTOR_NAMES.join(", ");
      await expect(importConnector(name)).rejects.toThrow(`built in are ${names}`);
    }
  });
});

/** A class whose hooks are these. */
function classWith(hooks: Partial<Record<string, unknown>>, more: object = {}): unknown {
  class Connector extends KvConnector {
    static readonly connectorName = "under-test";
    static readonly apiVersion = 1;
  }
  Object.assign(Connector.prototype, hooks);
  return Object.assign(Connector, more);
}

function fails(): never {
  throw new Error("no");
}

describe("a rule that a connector breaks is told of by name and reason:", () => {
  const NUMBER = { type: "integer", default: 1, min: 0, max: 9, help: "How many there may be" };
  const OPTIONS = { many: NUMBER };
  const CASES: readonly (readonly [exported: unknown, rule: string, says: string])[] = [
    [
      class extends KvConnector {
        static readonly connectorName = "a";
        static readonly apiVersion = 1;
        static readonly options = OPTIONS;
        constructor({ many }: { many: number }) {
          super();
          if (many === 9) throw new RangeError("nine");
        }
      },
      "is constructed",
      "with many = 9 its constructor threw RangeError: nine",
    ],
    [
      classWith({}, { options: { many: { ...NUMBER, help: "many" } } }),
      "has help",
      "the help of many",
    ],
    [
      classWith({
        findBlocks: (_r: unknown, _h: unknown, wanted: WantedBlocks) => wanted.mark(0, 0),
      }),
      "in which nothing is wanted",
      "marked block 0 of group 0; wanted were 0 blocks",
    ],
    [
      classWith({
        findBlocks(this: { asked?: number }, _r: unknown, _h: unknown, wanted: WantedBlocks) {
          this.asked = (this.asked ?? 0) + 1;
          if (this.asked === 2) wanted.mark(1, 0);
        },
      }),
      "alike each time",
      "blocks none; blocks 1; blocks none",
    ],
    [classWith({ findBlocks: () => 3 }), "nothing is wanted", "findBlocks answered 3"],
    [classWith({ getNumNewMatchedTokens: () => -1 }), "nothing is wanted", "answered -1"],
    [
      classWith({ updateStateAfterAlloc: fails }),
      "nothing to load",
      "updateStateAfterAlloc threw Error: no",
    ],
    [
      classWith({
        bindGpuBlockPool(this: { view?: unknown }, view: unknown) {
          this.view = view;
        },
        buildConnectorMeta(
          this: { view: { touchBlocks(ids: unknown): void } },
          output: { completed: number[] },
        ) {
          if (output.completed.length > 0) this.view.touchBlocks(output.completed);
        },
      }),
      "blocks that are gone",
      "buildConnectorMeta threw RefusedError: no block has content",
    ],
    [classWith({ requestFinished: () => 7 }), "never admitted", "requestFinished answered 7"],
    [classWith({ requestFinished: async () => ({}) }), "never admitted", "answered a promise"],
    [
      classWith({ onNewRequest: () => Promise.reject(new Error("later")) }),
      "never admitted",
      "onNewRequest answered a promise",
    ],
    [classWith({ onPreempted: fails }), "preemptions", "onPreempted threw"],
    [classWith({ onMemoryPressure: fails }), "pressure", "onMemoryPressure threw"],
    [classWith({ resetCache: fails }), "resets", "resetCache threw"],
    [classWith({ takeEvents: () => [{ kind: "lost" }] }), "takeEvents", "an event of kind"],
    [classWith({ stats: () => ({ "A b": 1 }) }), "stats", 'a number called "A b"'],
    [classWith({ shutdown: () => new Promise(() => {}) }), "ends in good time", "does not come"],
    [
      classWith({ shutdown: () => Promise.reject(new Error("stuck")) }),
      "ends in good time",
      "threw Error: stuck",
    ],
    [classWith({ shutdown: () => 7 }), "ends in good time", "shutdown answered 7"],
  ];
  for (const [exported, rule, says] of CASES) {
    test(`${rule}: ${says}`, async () => {
      const failures = await failuresOf(exported);
      const [name = "", failure] =
        Object.entries(failures).find(([one]) => one.includes(rule)) ?? [];
      expect(name).toContain(rule);
      expect(failure).toContain(says);
    });
  }

  test("one that throws when it starts breaks every rule that starts it", async () => {
    const failures = Object.values(await failuresOf(classWith({ onSchedulerReady: fails })));
    expect(failures.length).toBe(RULES.length - 1);
    for (const failure of failures) expect(failure).toContain("onSchedulerReady threw Error: no");
  });
});

describe("the empty engine", () => {
  const { view, context } = harnessOf(classWith({})).createEngine();
  const codeOf = (body: () => unknown): string => {
    try {
      body();
    } catch (thrown) {
      if (thrown instanceof RefusedError) return thrown.code;
      throw thrown;
    }
    return "nothing";
  };

  test("refuses as a real one does", () => {
    expect(codeOf(() => view.lease([1], { ttlMs: 1 }))).toBe("stale");
    expect(codeOf(() => view.touchBlocks([1, 0]))).toBe("null");
    expect(codeOf(() => view.freeBlocks([1]))).toBe("notHeld");
    expect(codeOf(() => view.refCount(9))).toBe("invalid");
    expect(codeOf(() => view.hashOf(1.5))).toBe("invalid");
    expect(codeOf(() => context.transfers.store([1], [0]))).toBe("budget");
    expect(codeOf(() => context.transfers.load([0], [1]))).toBe("budget");
    expect(codeOf(() => context.pages.free([0]))).toBe("notHeld");
  });

  test("has nothing", () => {
    expect([...view.iterFreeBlockIdsWithHash()]).toEqual([]);
    expect([view.refCount(1), view.hashOf(1), view.blockOfHash("k")]).toEqual([
      0,
      undefined,
      undefined,
    ]);
    expect([context.pages.alloc(0), context.pages.alloc(1)]).toEqual([[], undefined]);
    expect(context.transfers.cancel(1)).toBe(false);
  });
});
