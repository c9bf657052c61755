import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { KvConnector, type WantedBlocks } from "../../../connectors/connector.ts";
import { HOOKS } from "../../../engine/connectors/hooks.ts";
import {
  ConnectorWorld,
  EMPTY_PLAN,
  OUTPUT,
  REQUEST,
  SLOW_MS,
} from "../../support/connector-world.ts";
import { propertyRuns } from "../../support/property-runs.ts";

// oxlint-disable unicorn/no-thenable -- that is what they are here for
/** Values that bite who looks at them. */
const HOSTILE: Readonly<Record<string, () => unknown>> = {
  "an object whose every property throws": () =>
    new Proxy({}, { get: boom, ownKeys: boom, getPrototypeOf: boom, has: boom }),
  "an array whose every property throws": () => new Proxy([], { get: boom, getPrototypeOf: boom }),
  "a revoked proxy": () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  "a function that is a proxy": () => new Proxy(boom, { get: boom }),
  "an error whose message throws": () =>
    Object.defineProperty(new Error("x"), "message", { get: boom }),
  "an error whose name is an object": () =>
    Object.assign(new Error("x"), { name: { toString: boom } }),
  "an error whose stack throws": () =>
    Object.defineProperty(new Error("x"), "stack", { get: boom }),
  "an object whose toJSON throws": () => ({ toJSON: boom }),
  "an object whose toJSON makes it a number": () => ({ toJSON: () => 7 }),
  "an object without a prototype": () => Object.create(null) as unknown,
  "a cyclic object": () => {
    const cyclic: Record<string, unknown> = {};
    cyclic["self"] = cyclic;
    return cyclic;
  },
  "an array of events that changes": () => {
    let reads = 0;
    return new Proxy([], { get: (_, key) => (key === "length" ? ++reads : { kind: "stored" }) });
  },
  "an endless iterator": () =>
    Object.assign([], {
      *[Symbol.iterator]() {
        for (;;) yield 1;
      },
    }),
  "an object whose then throws": () => Object.defineProperty({}, "then", { get: boom }),
  "a thenable": () => ({ then: boom }),
};

/** Only answered: one that is thrown or reported is left lying, and what becomes of it is `stray-errors.ts`'s. */
const PROMISES: typeof HOSTILE = {
  "a promise": () => Promise.resolve({ a: 1 }),
  "a promise that is rejected": () => Promise.reject(new Error("later")),
  "a promise that is rejected by something hostile": () => Promise.reject({ toString: boom }),
  "a promise whose then throws": () =>
    Object.defineProperty(Promise.resolve(1), "then", { get: boom }),
  "a promise whose constructor throws": () =>
    Object.defineProperty(Promise.resolve(1), "constructor", { get: boom }),
};

function boom(): never {
  throw new Error("boom");
}

const values = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...Object.values(HOSTILE)) },
  {
    weight: 2,
    arbitrary: fc
      .oneof(
        fc.constantFrom<unknown>(
          undefined,
          null,
          "pending",
          Number.NaN,
          -1,
          0.5,
          2 ** 53,
          1n,
          boom,
        ),
        fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }),
        fc.dictionary(fc.string(), fc.oneof(fc.double(), fc.string())),
        fc.array(
          fc.record({
            kind: fc.constantFrom("stored", "removed", "cleared", "lost"),
            keys: fc.array(fc.oneof(fc.string(), fc.nat())),
            medium: fc.constantFrom("host", "disk", "", "a b"),
          }),
        ),
      )
      .map((value) => (): unknown => value),
  },
);
/** What a hook does when it is called: takes its time, marks or reports, and answers or throws. */
const deeds = fc.record({
  ms: fc.constantFrom(0, 0, 0, 0, SLOW_MS, SLOW_MS + 1),
  throws: fc.constantFrom(false, false, false, true),
  value: values,
  answer: fc.oneof({ weight: 4, arbitrary: values }, fc.constantFrom(...Object.values(PROMISES))),
  word: values,
  number: fc.oneof(
    fc.constantFrom(-1, 0.5, Number.NaN, 2, 99, Number.POSITIVE_INFINITY),
    fc.nat(4),
  ),
  overlap: fc.boolean(),
});
type Deed = typeof deeds extends fc.Arbitrary<infer D> ? D : never;

const CALLS = [
  "new",
  "find",
  "alloc",
  "meta",
  "ended",
  "finished",
  "preempted",
  "pressure",
  "events",
  "reset",
  "stats",
  "outside",
] as const;

function hostile(
  world: () => ConnectorWorld,
  next: () => Deed,
  running: { hook: boolean },
): KvConnector {
  const connector = new (class extends KvConnector {})();
  for (const hook of HOOKS) {
    if (hook === "import" || hook === "constructor") continue;
    Object.assign(connector, {
      [hook]: (...given: unknown[]) => {
        expect(running.hook).toBe(false);
        running.hook = true;
        try {
          return misbehave(world(), next(), hook, given);
        } finally {
          running.hook = false;
        }
      },
    });
  }
  return connector;
}

function misbehave(
  world: ConnectorWorld,
  deed: Deed,
  hook: string,
  given: readonly unknown[],
): unknown {
  world.time += deed.ms;
  if (deed.overlap) world.host.buildMeta(OUTPUT);
  const word = deed.word();
  if (hook === "findBlocks") {
    const wanted = given[2] as WantedBlocks;
    wanted.mark(deed.number, 0);
    wanted.mark(1, 1, word as string);
  }
  const context = world.contexts[0];
  context?.metrics.count(word as string, deed.number, { label: word as string });
  context?.metrics.set("fine", deed.number, word as Record<string, string>);
  context?.log.warn(word as string);
  if (deed.throws) throw deed.value();
  return deed.answer();
}

function call(world: ConnectorWorld, which: (typeof CALLS)[number]): void {
  const { host } = world;
  switch (which) {
    case "new":
      return host.newRequest(REQUEST);
    case "find": {
      const { answer, marks } = world.lookUp();
      expect(answer === undefined || answer === "pending").toBe(true);
      for (const { connector, block, group, tier } of marks) {
        expect(host.isDisabled(connector)).toBe(false);
        expect([1, 2, 3]).toContain(block);
        expect([0, 1]).toContain(group);
        expect(tier).toMatch(/^[a-z0-9._-]{1,32}$/);
      }
      return;
    }
    case "alloc":
      return host.afterAlloc(REQUEST, () => EMPTY_PLAN);
    case "meta":
      return host.buildMeta(OUTPUT);
    case "ended":
      return host.transfersEnded(0, []);
    case "finished": {
      const params = host.finished(REQUEST, [[]]);
      if (params === undefined) return;
      for (const [name, own] of Object.entries(params)) {
        expect(["a", "b"]).toContain(name);
        expect(JSON.parse(JSON.stringify(own))).toEqual(own);
      }
      return;
    }
    case "preempted":
      return host.preempted(["request-1"], [true]);
    case "pressure":
      return host.pressure(3, world.time);
    case "events":
      for (const { connector, events } of host.takeEvents()) {
        expect(["a", "b"]).toContain(connector);
        for (const { kind, keys, medium } of events) {
          expect(["stored", "removed", "cleared"]).toContain(kind);
          expect(keys.every((key) => typeof key === "string")).toBe(true);
          expect(["host", "disk"]).toContain(medium);
        }
      }
      return;
    case "reset":
      return host.reset(1);
    case "stats":
      return checkSamples(world);
    case "outside":
      return;
  }
}

function checkSamples(world: ConnectorWorld): void {
  for (const { name, labels, value } of world.samples()) {
    expect(name).toMatch(/^kvengine(:connector|_connector)_[a-z0-9_]+$/);
    expect(Number.isFinite(value)).toBe(true);
    expect(["a", "b"]).toContain(labels["connector"]!);
    for (const text of Object.values(labels)) expect(text).toMatch(/^[^\p{Cc}]{0,66}$/u);
  }
}

describe("whatever connectors throw, answer, mark or report", () => {
  test("the host never throws, answers sane values, runs one hook at a time and calls no disabled one", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(deeds, { minLength: 1, maxLength: 30 }),
        fc.array(fc.constantFrom(...CALLS), { maxLength: 40 }),
        async (script, calls) => {
          let at = 0;
          const running = { hook: false };
          const next = (): Deed => script[at++ % script.length]!;
          const make = (): KvConnector => hostile(() => world, next, running);
          const world: ConnectorWorld = new ConnectorWorld([make(), make()]);
          world.start();
          for (const which of calls) {
            call(world, which);
            if (which === "outside") world.host.threwOutside(1, next().value());
            expect(world.turn.connector).toBe(-1);
          }
          // Rejections come between the engine's turns.
          await Promise.resolve();
          await world.host.shutdown(1);
          const numCalls = at;
          for (const which of CALLS) call(world, which);
          // None after the end, but for what `next` gave to the last line of "outside".
          expect(at).toBe(numCalls);
          checkSamples(world);
          expect(new Set(world.disabled).size).toBe(world.disabled.length);
          for (const line of world.lines) {
            expect(line).toMatch(/^(info|warn|error): connector [ab](: | is disabled: )/);
            expect(line).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
          }
        },
      ),
      propertyRuns(2000),
    );
  }, 120_000);

  const DEED = { ms: 0, throws: false, word: () => "w", number: 1, overlap: false };
  const survives = async (
    deed: Omit<Deed, "word"> & { word: () => unknown },
  ): Promise<number[]> => {
    const running = { hook: false };
    const world: ConnectorWorld = new ConnectorWorld([
      hostile(
        () => world,
        () => deed,
        running,
      ),
    ]);
    world.start();
    world.callAll();
    await Bun.sleep(0);
    await world.host.shutdown(1);
    return world.disabled;
  };

  for (const [what, value] of Object.entries(HOSTILE)) {
    test(`${what}, thrown by a hook, disables; answered or reported, it is passed over`, async () => {
      expect(await survives({ ...DEED, throws: true, value, answer: value })).toEqual([0]);
      const answered = await survives({ ...DEED, value, answer: value, word: value });
      // What throws while it is reported is thrown in the hook.
      expect(answered.length).toBeLessThanOrEqual(1);
    });
  }
  for (const [what, answer] of Object.entries(PROMISES)) {
    test(`${what}, answered by a hook, disables when it does not come to a good end`, async () => {
      const good = what === "a promise" || what.includes("then throws");
      expect(await survives({ ...DEED, value: answer, answer })).toEqual(good ? [] : [0]);
    });
  }
});
