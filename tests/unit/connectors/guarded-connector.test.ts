import { describe, expect, test } from "bun:test";
import { KvConnector, type SchedulerContext } from "../../../connectors/connector.ts";
import { HOOKS, type Hook } from "../../../engine/connectors/hooks.ts";
import { ConnectorWorld, OUTPUT, REQUEST, SLOW_MS } from "../../support/connector-world.ts";

type Method = Exclude<Hook, "import" | "constructor">;
const METHODS = HOOKS.filter((hook): hook is Method => hook !== "import" && hook !== "constructor");
/** Hooks that answer something. */
const ANSWERING: readonly Method[] = ["findBlocks", "requestFinished", "takeEvents", "stats"];

/** A connector one of whose hooks is the test's; the others count their calls. */
function withHook(
  hook: Method,
  body: (...given: unknown[]) => unknown,
): {
  readonly connector: KvConnector;
  readonly calls: Method[];
} {
  const connector = new (class extends KvConnector {})();
  const calls: Method[] = [];
  for (const one of METHODS) {
    const plain = KvConnector.prototype[one] as (...given: unknown[]) => unknown;
    Object.assign(connector, {
      [one]: (...given: unknown[]) => {
        calls.push(one);
        return (one === hook ? body : plain).apply(connector, given);
      },
    });
  }
  return { connector, calls };
}

/** The whole of a connector's life, its end included. */
async function live(world: ConnectorWorld): Promise<void> {
  world.start();
  world.callAll();
  world.callAll();
  await world.host.shutdown(1000);
}

describe("a hook that throws disables its connector, which is never called again:", () => {
  for (const hook of METHODS) {
    test(hook, async () => {
      const { connector, calls } = withHook(hook, () => {
        throw new Error("boom");
      });
      const other = withHook("shutdown", () => {});
      const world = new ConnectorWorld([connector, other.connector]);
      await live(world);
      expect(calls.filter((one) => one === hook)).toHaveLength(1);
      expect(calls.at(-1)).toBe(hook);
      expect(world.disabled).toEqual([0]);
      expect(world.host.isDisabled(0)).toBe(true);
      expect(world.faults("a", "throw")).toBe(1);
      expect(world.lines).toEqual([
        `warn: connector a: ${hook} threw Error: boom`,
        `error: connector a is disabled: ${hook} threw; what it holds is released, what it offers counts as a miss`,
      ]);
      // The one beside it does not notice.
      expect(world.host.isDisabled(1)).toBe(false);
      expect(other.calls.filter((one) => one === "buildConnectorMeta")).toHaveLength(2);
      expect(other.calls.at(-1)).toBe("shutdown");
    });
  }
});

describe("a hook that holds up the engine disables its connector:", () => {
  for (const hook of METHODS.filter((one) => one !== "shutdown")) {
    test(hook, async () => {
      const { connector, calls } = withHook(hook, () => {
        world.time += SLOW_MS + 1;
        return hook === "findBlocks" ? "pending" : undefined;
      });
      const world = new ConnectorWorld([connector]);
      await live(world);
      expect(calls.at(-1)).toBe(hook);
      expect(world.disabled).toEqual([0]);
      expect(world.faults("a", "slow")).toBe(1);
      expect(world.lines).toContain(
        `warn: connector a: ${hook} held up the engine for 101 ms; allowed are 100`,
      );
    });
  }

  test("not one that takes just as long as is allowed", () => {
    const { connector } = withHook("buildConnectorMeta", () => void (world.time += SLOW_MS));
    const world = new ConnectorWorld([connector]).start();
    for (let i = 0; i < 5; i++) world.host.buildMeta(OUTPUT);
    expect(world.disabled).toEqual([]);
  });

  test("what a slow look-up answered or marked does not count", () => {
    const { connector } = withHook("findBlocks", (_request, _hashes, wanted) => {
      (wanted as { mark: (block: number, group: number) => void }).mark(1, 0);
      world.time += SLOW_MS + 1;
      return "pending";
    });
    const world = new ConnectorWorld([connector]).start();
    expect(world.lookUp()).toEqual({ answer: undefined, marks: [] });
  });
});

describe("an answer that the interface does not allow counts as none, is told of, and disables nobody:", () => {
  const WRONG: readonly unknown[] = [
    0,
    Number.NaN,
    -1,
    "later",
    true,
    Symbol("s"),
    () => {},
    [{ kind: "lost", keys: [], medium: "host" }],
    [{ kind: "stored", keys: [1], medium: "host" }],
    [{ kind: "stored", keys: ["k"], medium: "a b" }],
    [{ kind: "stored", keys: "k", medium: "host" }],
    [7],
    Object.assign([], { length: 2 ** 31 }),
    { value: ["a", 1] },
    { Bad: 1 },
    { good: Number.POSITIVE_INFINITY },
    { good: "1" },
    Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`n${i}`, i])),
  ];
  const NOTHING: Partial<Record<Method, unknown>> = {
    findBlocks: undefined,
    requestFinished: undefined,
    takeEvents: [],
  };
  for (const hook of ANSWERING) {
    test(hook, () => {
      let numWrong = 0;
      for (const answer of WRONG) {
        const { connector } = withHook(hook, () => answer);
        const world = new ConnectorWorld([connector]).start();
        const { host } = world;
        const answers: Partial<Record<Method, unknown>> = {
          findBlocks: world.lookUp().answer,
          requestFinished: host.finished(REQUEST, [[]]),
          takeEvents: host.takeEvents(),
        };
        // An object of any kind is fine as parameters for the client.
        if (hook === "requestFinished" && typeof answer === "object" && !Array.isArray(answer))
          continue;
        expect(answers[hook]).toEqual(NOTHING[hook]);
        expect(world.faults("a", "answer")).toBeGreaterThan(0);
        expect(world.disabled).toEqual([]);
        expect(world.lines[0]).toStartWith(`warn: connector a: ${hook} answered`);
        numWrong++;
      }
      expect(numWrong).toBeGreaterThan(10);
    });
  }

  test("getNumNewMatchedTokens, whose wrong numbers throw in the default findBlocks", () => {
    for (const tokens of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, "16", null]) {
      const liar = new (class extends KvConnector {
        override getNumNewMatchedTokens(): number {
          return tokens as number;
        }
      })();
      const world = new ConnectorWorld([liar]).start();
      expect(world.lookUp()).toEqual({ answer: undefined, marks: [] });
      expect(world.faults("a", "throw")).toBe(1);
      expect(world.disabled).toEqual([0]);
    }
  });

  test("more tokens than there are bring what was wanted and no more", () => {
    const liar = new (class extends KvConnector {
      override getNumNewMatchedTokens(): number {
        return 1e9;
      }
    })();
    const { marks } = new ConnectorWorld([liar]).start().lookUp();
    expect(marks.map(({ block }) => block)).toEqual([1, 1, 2, 2, 3, 3]);
  });
});

describe("a promise where nothing waits for one", () => {
  for (const hook of METHODS.filter((one) => one !== "shutdown")) {
    test(`of ${hook} is told of; when it is rejected, its connector is disabled`, async () => {
      const { promise, reject } = Promise.withResolvers<unknown>();
      const { connector } = withHook(hook, () => promise);
      const world = new ConnectorWorld([connector]).start();
      world.callAll();
      // Its stats are asked for with each look at the numbers.
      expect(world.faults("a", "promise")).toBe(hook === "stats" ? 2 : 1);
      expect(world.lines).toEqual([
        `warn: connector a: ${hook} answered a promise; nothing waits for it`,
      ]);
      expect(world.disabled).toEqual([]);
      reject(new Error("later"));
      await Bun.sleep(0);
      expect(world.disabled).toEqual([0]);
      expect(world.lines[1]).toBe(`warn: connector a: ${hook} threw later Error: later`);
    });
  }

  test("of another make than ours is not touched", () => {
    let touched = 0;
    // oxlint-disable-next-line unicorn/no-thenable -- what a connector may answer
    const thenable = { then: () => void touched++ };
    const { connector } = withHook("onNewRequest", () => thenable);
    const world = new ConnectorWorld([connector]).start();
    world.host.newRequest(REQUEST);
    expect([world.faults("a", "promise"), touched]).toEqual([1, 0]);
  });
});

describe("hooks never overlap", () => {
  test("what a hook sets off through the engine is refused and counted", () => {
    const { connector, calls } = withHook("onNewRequest", () => world.host.buildMeta(OUTPUT));
    const world = new ConnectorWorld([connector]).start();
    world.host.newRequest(REQUEST);
    expect(calls).not.toContain("buildConnectorMeta");
    expect(world.faults("a", "overlap")).toBe(1);
    expect(world.lines).toEqual([
      expect.stringContaining(
        "a: buildConnectorMeta was left out, since it came while its own onNewRequest ran",
      ),
    ]);
    world.host.buildMeta(OUTPUT);
    expect(calls).toContain("buildConnectorMeta");
  });

  test("nor those of two connectors", () => {
    const { connector } = withHook("onNewRequest", () => world.host.buildMeta(OUTPUT));
    const other = withHook("shutdown", () => {});
    const world = new ConnectorWorld([connector, other.connector]).start();
    world.host.newRequest(REQUEST);
    expect(other.calls).not.toContain("buildConnectorMeta");
    expect(world.turn.connector).toBe(-1);
  });
});

describe("the log", () => {
  test("has each kind of fault of a hook once a minute, with how many were left out", () => {
    const { connector } = withHook("takeEvents", () => 7);
    const world = new ConnectorWorld([connector]).start();
    const line = "warn: connector a: takeEvents answered 7 for events; allowed is an array";
    for (let i = 0; i < 100; i++) world.host.takeEvents();
    world.time = 59_999;
    world.host.takeEvents();
    expect(world.lines).toEqual([line]);
    world.time = 60_000;
    world.host.takeEvents();
    expect(world.lines).toEqual([line, `${line}; 100 more before this`]);
    expect(world.faults("a", "answer")).toBe(102);
  });

  test("cannot be forged by what is thrown", () => {
    const { connector } = withHook("onNewRequest", () => {
      throw new Error(`x\nerror: forged\r\u2028${"y".repeat(10_000)}`);
    });
    const world = new ConnectorWorld([connector]).start();
    world.host.newRequest(REQUEST);
    expect(world.lines[0]).toStartWith(
      "warn: connector a: onNewRequest threw Error: x error: forged y",
    );
    expect(world.lines[0]!.length).toBeLessThan(700);
  });
});

test("a connector that threw outside its hooks is disabled", () => {
  const { connector, calls } = withHook("shutdown", () => {});
  const world = new ConnectorWorld([connector]).start();
  world.host.threwOutside(0, new Error("in a timer"));
  world.host.threwOutside(0, 5);
  world.callAll();
  expect(calls).toEqual(["bindGpuBlockPool", "onSchedulerReady"]);
  expect(world.faults("a", "outside")).toBe(2);
  expect(world.lines[0]).toBe(
    "warn: connector a: its code threw outside its hooks: Error: in a timer",
  );
});

test("a disabled connector's context still answers, and does no harm", () => {
  let kept: SchedulerContext | undefined;
  const { connector } = withHook("onSchedulerReady", (context) => {
    kept = context as SchedulerContext;
    throw new Error("no");
  });
  const world = new ConnectorWorld([connector]).start();
  kept?.log.info("still here");
  kept?.metrics.count("late");
  expect(world.lines.at(-1)).toBe("info: connector a: still here");
});
