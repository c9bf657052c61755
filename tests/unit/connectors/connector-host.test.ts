import { describe, expect, test } from "bun:test";
import {
  type BlockHashes,
  type KvEvent,
  KvConnector,
  type RequestView,
  type WantedBlocks,
} from "../../../connectors/connector.ts";
import { HOOKS } from "../../../engine/connectors/hooks.ts";
import {
  ConnectorWorld,
  EMPTY_PLAN,
  HASHES,
  OUTPUT,
  RecordedMarks,
  REQUEST,
} from "../../support/connector-world.ts";

/** Writes down each call of a hook, with the connector's name. */
function recorder(name: string, calls: string[], answers: Partial<KvConnector> = {}): KvConnector {
  const connector = new (class extends KvConnector {})();
  for (const hook of HOOKS) {
    if (hook === "import" || hook === "constructor") continue;
    const answer = answers[hook] as ((...given: unknown[]) => unknown) | undefined;
    const plain = KvConnector.prototype[hook] as (...given: unknown[]) => unknown;
    Object.assign(connector, {
      [hook]: (...given: unknown[]) => {
        calls.push(`${name}.${hook}`);
        return (answer ?? plain).apply(connector, given);
      },
    });
  }
  return connector;
}

describe("start-up", () => {
  test("every connector has its view before any has its context", () => {
    const calls: string[] = [];
    new ConnectorWorld([recorder("a", calls), recorder("b", calls)]).start();
    expect(calls).toEqual([
      "a.bindGpuBlockPool",
      "b.bindGpuBlockPool",
      "a.onSchedulerReady",
      "b.onSchedulerReady",
    ]);
  });

  test("each has a view and a context of its own, under its own name", () => {
    const views: unknown[] = [];
    const keeps = (): KvConnector =>
      recorder("x", [], { bindGpuBlockPool: (view) => void views.push(view) });
    const world = new ConnectorWorld([keeps(), keeps()]).start();
    expect(views[0]).not.toBe(views[1]);
    expect(world.contexts.map(({ name }) => name)).toEqual(["a", "b"]);
  });

  test("no hook is called before it, and none again", () => {
    const calls: string[] = [];
    const world = new ConnectorWorld([recorder("a", calls)]);
    world.callAll();
    expect(calls).toEqual([]);
    world.start();
    world.start();
    expect(calls).toEqual(["a.bindGpuBlockPool", "a.onSchedulerReady"]);
  });
});

describe("fan-out", () => {
  test("every hook reaches every connector, in order, once a call", () => {
    const calls: string[] = [];
    const world = new ConnectorWorld([recorder("a", calls), recorder("b", calls)]).start();
    calls.length = 0;
    world.callAll();
    const hooks = [
      "onNewRequest",
      "findBlocks",
      "updateStateAfterAlloc",
      "buildConnectorMeta",
      "updateConnectorOutput",
      "onPreempted",
      "onMemoryPressure",
      "requestFinished",
      "takeEvents",
      "resetCache",
      "stats",
    ];
    expect(calls).toEqual(hooks.flatMap((hook) => [`a.${hook}`, `b.${hook}`]));
  });

  test("transfers go to the connector that they are of", () => {
    const calls: string[] = [];
    const world = new ConnectorWorld([recorder("a", calls), recorder("b", calls)]).start();
    calls.length = 0;
    world.host.transfersEnded(1, []);
    world.host.transfersEnded(7, []);
    expect(calls).toEqual(["b.updateConnectorOutput"]);
  });

  test("an admission reaches each connector with its own plan", () => {
    const plans: unknown[] = [];
    const keeps = (): KvConnector =>
      recorder("x", [], { updateStateAfterAlloc: (_request, plan) => void plans.push(plan) });
    const world = new ConnectorWorld([keeps(), keeps()]).start();
    world.host.afterAlloc(REQUEST, (place) => ({ ...EMPTY_PLAN, deadline: place }));
    expect(plans).toEqual([
      { blocks: [], deadline: 0 },
      { blocks: [], deadline: 1 },
    ]);
  });

  test("events carry their connector's name", () => {
    const event: KvEvent = { kind: "stored", keys: ["k"], medium: "host" };
    const quiet = recorder("a", []);
    const world = new ConnectorWorld([quiet, recorder("b", [], { takeEvents: () => [event] })]);
    expect(world.start().host.takeEvents()).toEqual([{ connector: "b", events: [event] }]);
  });

  test("without connectors it costs nothing and answers as if nobody knew anything", async () => {
    const { host } = new ConnectorWorld([]).start();
    expect(host.numConnectors).toBe(0);
    host.newRequest(REQUEST);
    expect(host.findBlocks(REQUEST, HASHES, new RecordedMarks())).toBeUndefined();
    expect(host.finished(REQUEST, [[]])).toBeUndefined();
    expect(host.takeEvents()).toEqual([]);
    expect(host.takeSamples(true)).toEqual([]);
    await host.shutdown(0);
  });
});

/** Marks by a script. */
function marks(script: (wanted: WantedBlocks) => "pending" | undefined): KvConnector {
  return new (class extends KvConnector {
    override findBlocks(
      _request: RequestView,
      _hashes: BlockHashes,
      wanted: WantedBlocks,
    ): "pending" | undefined {
      return script(wanted);
    }
  })();
}

describe("a look-up", () => {
  test("gives each block to the first connector that marks it", () => {
    const first = marks((wanted) => {
      wanted.mark(1, 0);
      return undefined;
    });
    const second = marks((wanted) => {
      expect(wanted.isWanted(1, 0)).toBe(false);
      wanted.mark(1, 0);
      wanted.mark(2, 0, "disk");
      return undefined;
    });
    expect(new ConnectorWorld([first, second]).start().lookUp()).toEqual({
      answer: undefined,
      marks: [
        { connector: 0, block: 1, group: 0, tier: "a" },
        { connector: 1, block: 2, group: 0, tier: "disk" },
      ],
    });
  });

  test("is pending when any connector does not know yet, and keeps what others marked", () => {
    const world = new ConnectorWorld([
      marks(() => "pending"),
      marks((wanted) => {
        wanted.mark(1, 1);
        return undefined;
      }),
    ]).start();
    const { answer, marks: marked } = world.lookUp();
    expect(answer).toBe("pending");
    expect(marked).toHaveLength(1);
  });

  test("passes by blocks that are not wanted, and refuses nothing for them", () => {
    const world = new ConnectorWorld([
      marks((wanted) => {
        wanted.mark(0, 0);
        return undefined;
      }),
    ]).start();
    expect(world.lookUp().marks).toEqual([]);
    expect(world.faults("a", "answer")).toBe(0);
  });

  test("by getNumNewMatchedTokens marks the whole blocks of the answer in every group", () => {
    const easy = new (class extends KvConnector {
      override getNumNewMatchedTokens(): number {
        return 40;
      }
    })();
    const { marks: marked } = new ConnectorWorld([easy]).start().lookUp();
    expect(marked.map(({ block, group }) => [block, group])).toEqual([
      [1, 0],
      [1, 1],
      [2, 0],
      [2, 1],
    ]);
  });

  test("tells of marks where no block is, once, and does not disable for them", () => {
    const bad: readonly unknown[] = [-1, 4, 1.5, Number.NaN, 2 ** 40, "1", undefined];
    const liar = marks((wanted) => {
      for (const block of bad) wanted.mark(block as number, 0);
      wanted.mark(1, 2);
      return undefined;
    });
    const world = new ConnectorWorld([liar]).start();
    for (let i = 0; i < 3; i++) expect(world.lookUp().marks).toEqual([]);
    expect(world.faults("a", "answer")).toBe(3);
    expect(world.lines).toEqual([
      "warn: connector a: findBlocks marked block -1 of group 0; there are 4 blocks in 2 groups",
    ]);
    expect(world.disabled).toEqual([]);
  });

  test("takes tiers for labels: a few short names, else the connector's own", () => {
    const tiers = ["disk", "a b", "x".repeat(33), 7, "host-2.fast", ...Array.from("abcdefghij")];
    const seen: string[] = [];
    let next = 0;
    const many = marks((wanted) => {
      wanted.mark(1, 0, tiers[next] as string);
      return undefined;
    });
    const world = new ConnectorWorld([{ name: "many", connector: many }]).start();
    for (next = 0; next < tiers.length; next++) seen.push(world.lookUp().marks[0]!.tier);
    const known = ["disk", "many", "many", "many", "host-2.fast", "a", "b", "c", "d", "e", "f"];
    expect(seen).toEqual([...known, "many", "many", "many", "many"]);
    expect(world.faults("many", "answer")).toBe(7);
  });

  test("is closed when findBlocks has returned", () => {
    let kept: WantedBlocks | undefined;
    const keeps = marks((wanted) => {
      kept = wanted;
      return undefined;
    });
    const world = new ConnectorWorld([keeps]).start();
    world.lookUp();
    expect(() => kept?.mark(1, 0)).toThrow("a look-up ends when findBlocks returns");
    expect(() => kept?.isWanted(1, 0)).toThrow("a look-up ends");
    expect(() => kept?.numBlocks).toThrow("a look-up ends");
  });
});

describe("the client's parameters", () => {
  const answers = (params: unknown): KvConnector =>
    recorder("x", [], { requestFinished: () => params as Record<string, unknown> });
  const finish = (...connectors: KvConnector[]): unknown =>
    new ConnectorWorld(connectors).start().host.finished(REQUEST, [[]]);

  test("of the only connector are as it gave them", () => {
    expect(finish(answers({ host: "h", port: 1 }))).toEqual({ host: "h", port: 1 });
  });

  test("of several are by their names, so that no key can clash, also when one has none", () => {
    const params = { host: "h", b: 1 };
    expect(finish(answers(params), answers({ host: "other" }))).toEqual({
      a: { host: "h", b: 1 },
      b: { host: "other" },
    });
    expect(finish(answers(undefined), answers({ host: "h" }))).toEqual({ b: { host: "h" } });
    expect(finish(answers(undefined), answers(undefined))).toBeUndefined();
  });

  test("are a copy: what the connector does to its object later changes nothing", () => {
    const params = { nested: { n: 1 } };
    const copy = finish(answers(params));
    params.nested.n = 2;
    expect(copy).toEqual({ nested: { n: 1 } });
  });

  test("that no client could be given are left out and told of", () => {
    const cyclic: Record<string, unknown> = {};
    cyclic["self"] = cyclic;
    const large = { text: "x".repeat(65_536) };
    for (const params of [7, "text", [1], null, cyclic, { n: 1n }, large, new Date(0)]) {
      const world = new ConnectorWorld([answers(params)]).start();
      expect(world.host.finished(REQUEST, [[]])).toBeUndefined();
      expect(world.faults("a", "answer")).toBe(1);
      expect(world.disabled).toEqual([]);
    }
  });
});

describe("shutdown", () => {
  test("is called once for each, after which no hook is", async () => {
    const calls: string[] = [];
    const world = new ConnectorWorld([recorder("a", calls), recorder("b", calls)]).start();
    calls.length = 0;
    await world.host.shutdown(1000);
    await world.host.shutdown(1000);
    world.callAll();
    expect(calls).toEqual(["a.shutdown", "b.shutdown"]);
  });

  test("waits for what the connectors promise", async () => {
    const ends: (() => void)[] = [];
    const waits = (): KvConnector =>
      recorder("x", [], { shutdown: () => new Promise<void>((resolve) => ends.push(resolve)) });
    const world = new ConnectorWorld([waits(), waits()]).start();
    let ended = false;
    const ending = world.host.shutdown(60_000).then(() => (ended = true));
    await Promise.resolve();
    expect(ended).toBe(false);
    for (const end of ends) end();
    await ending;
    expect(world.lines).toEqual([]);
  });

  test("does not wait for ever: who is late is named", async () => {
    const never = recorder("x", [], { shutdown: () => new Promise<void>(() => {}) });
    const world = new ConnectorWorld([never, recorder("b", [])]).start();
    await world.host.shutdown(1);
    expect(world.lines).toEqual(["warn: connector a: shutdown did not end by its deadline"]);
  });

  test("that throws or rejects ends all the same", async () => {
    const throws = recorder("x", [], {
      shutdown: () => {
        throw new Error("no");
      },
    });
    const rejects = recorder("x", [], { shutdown: () => Promise.reject(new Error("nor later")) });
    const world = new ConnectorWorld([throws, rejects]).start();
    await world.host.shutdown(60_000);
    expect(world.faults("a", "throw")).toBe(1);
    expect(world.faults("b", "throw")).toBe(1);
  });

  test("says when it must have ended, by the context's clock", async () => {
    let deadline = 0;
    const world = new ConnectorWorld([
      recorder("x", [], { shutdown: (given) => void (deadline = given) }),
    ]).start();
    world.time = 500;
    await world.host.shutdown(1000);
    expect(deadline).toBe(1500);
  });
});

test("the cost of hooks is counted by hook", () => {
  const world = new ConnectorWorld([
    recorder("a", [], { buildConnectorMeta: () => void (world.time += 20) }),
  ]).start();
  for (let i = 0; i < 3; i++) world.host.buildMeta(OUTPUT);
  const cost = world
    .samples()
    .filter(({ labels }) => labels["hook"] === "buildConnectorMeta")
    .map(({ name, value }) => [name, value]);
  expect(cost).toEqual([
    ["kvengine:connector_hook_calls_total", 3],
    ["kvengine:connector_hook_seconds_total", 0.06],
  ]);
});
