/** `testTier`: what is built in passes, and each way of being wrong breaks the rule that is about it. */

import { describe, expect, test } from "bun:test";
import { KvTier, testTier, type TierClass } from "../../connectors/connector.ts";
import Memory from "../../connectors/memory.ts";
import { importTier, TIER_NAMES } from "../../connectors/registry.ts";
import { NUM_TIER_RULES } from "../../connectors/test-tier.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import FileTier from "./examples/file-tier.ts";

const folder = temporaryFolder();

async function failuresOf(tierClass: TierClass): Promise<Record<string, string>> {
  const results = await testTier(tierClass, { patienceMs: 50 });
  return Object.fromEntries(
    results.flatMap(({ rule, failure }) => (failure === undefined ? [] : [[rule, failure]])),
  );
}

test.each([...TIER_NAMES])("the built-in %s keeps every rule, and has its name", async (name) => {
  const tierClass = await importTier(name);
  expect(tierClass.tierName).toBe(name);
  const results = await testTier(tierClass);
  expect(results.length).toBe(NUM_TIER_RULES);
  expect(results.filter(({ failure }) => failure !== undefined)).toEqual([]);
});

test("the example of a file for each page keeps every rule", async () => {
  const results = await testTier(FileTier, { options: { folder } });
  expect(results.filter(({ failure }) => failure !== undefined)).toEqual([]);
});

type Pages = Map<string, Uint8Array>;

/** A correct tier whose methods may be replaced: `this.pages` is what it keeps. */
class Plain extends KvTier {
  static readonly tierName: string = "plain";
  static readonly apiVersion: number = 1;
  static readonly options = {};
  readonly pages: Pages = new Map();

  override async has(keys: readonly string[]): Promise<readonly boolean[]> {
    return keys.map((key) => this.pages.has(key));
  }

  override async store(key: string, page: Uint8Array): Promise<boolean> {
    this.pages.set(key, page.slice());
    return true;
  }

  override async load(key: string, into: Uint8Array): Promise<boolean> {
    const page = this.pages.get(key);
    if (page !== undefined) into.set(page);
    return page !== undefined;
  }

  override async remove(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.pages.delete(key);
  }
}

function withMethods(methods: ThisType<Plain> & Record<string, unknown>): TierClass {
  class Broken extends Plain {}
  Object.assign(Broken.prototype, methods);
  return Broken;
}

test("a plain asynchronous tier keeps every rule, and one that declines everything is told so", async () => {
  expect(await failuresOf(Plain)).toEqual({});
  const failures = await failuresOf(withMethods({ store: () => false }));
  expect(Object.values(failures).join()).toContain("declined every one of 24 pages of 4096 bytes");
});

describe("a rule that a tier breaks is told of by name and reason:", () => {
  const CASES: readonly (readonly [
    what: string,
    methods: ThisType<Plain> & Record<string, unknown>,
    rule: string,
    says: string,
  ])[] = [
    [
      "its start fails",
      { start: () => Promise.reject(new Error("no server")) },
      "is constructed and started",
      "start threw Error: no server",
    ],
    [
      "answers for one key only",
      { has: (keys: readonly string[]) => keys.slice(0, 1).map(() => false) },
      "for as many keys",
      "has answered 1 values for 24 keys",
    ],
    [
      "answers no booleans",
      { has: (keys: readonly string[]) => keys.map(() => 1) },
      "for as many keys",
      "has answered 1; allowed is true or false",
    ],
    [
      "says that it has everything",
      { has: (keys: readonly string[]) => keys.map(() => true) },
      "finds nothing",
      "has answered true for a key that was never stored",
    ],
    [
      "finds what was never stored",
      { load: () => true },
      "finds nothing",
      "load answered true for a key that was never stored",
    ],
    [
      "answers nothing when it loads",
      { load: () => undefined },
      "finds nothing",
      "load answered undefined; allowed is true or false",
    ],
    [
      "keeps the page that it was lent",
      {
        async store(key: string, page: Uint8Array): Promise<boolean> {
          this.pages.set(key, page);
          return true;
        },
      },
      "although the page it was given is gone",
      "load threw TypeError",
    ],
    [
      "keeps half of a page",
      {
        async store(key: string, page: Uint8Array): Promise<boolean> {
          this.pages.set(key, page.slice(0, page.length / 2));
          return true;
        },
      },
      "byte for byte",
      "from byte 2048 on",
    ],
    [
      "looks at the beginning of a key only",
      {
        async store(key: string, page: Uint8Array): Promise<boolean> {
          this.pages.set(key.slice(0, 64), page.slice());
          return true;
        },
        async load(key: string, into: Uint8Array): Promise<boolean> {
          const page = this.pages.get(key.slice(0, 64));
          if (page !== undefined) into.set(page);
          return page !== undefined;
        },
      },
      "each key its own page",
      "other bytes than were stored",
    ],
    [
      "does not bring what it says that it has",
      { load: () => false },
      "has what it brings",
      "has answered true, and load false",
    ],
    [
      "refuses a page that it has",
      {
        async store(key: string, page: Uint8Array): Promise<boolean> {
          if (this.pages.has(key)) throw new Error("duplicate");
          this.pages.set(key, page.slice());
          return true;
        },
      },
      "takes a page that it has already",
      "store threw Error: duplicate",
    ],
    [
      "removes nothing",
      { remove(): void {} },
      "forgets what is removed",
      "load brought a removed page",
    ],
    [
      "removes everything",
      {
        remove(): void {
          this.pages.clear();
        },
      },
      "nothing else",
      "more pages are gone than the one that was removed",
    ],
    [
      "takes one call at a time",
      {
        isBusy: false,
        async store(
          this: Plain & { isBusy: boolean },
          key: string,
          page: Uint8Array,
        ): Promise<boolean> {
          if (this.isBusy) throw new Error("busy");
          this.isBusy = true;
          const copy = page.slice();
          await Promise.resolve();
          this.isBusy = false;
          this.pages.set(key, copy);
          return true;
        },
      },
      "many calls at a time",
      "store threw Error: busy",
    ],
    [
      "reads the page when it is gone",
      {
        async store(key: string, page: Uint8Array): Promise<boolean> {
          await Promise.resolve();
          const copy = Uint8Array.from({ length: 4096 }, (_, i) => page[i] ?? 0);
          this.pages.set(key, copy);
          return true;
        },
      },
      "is not misled",
      "after its page was taken away in the middle of store",
    ],
    [
      "makes room by giving one key the place of another",
      {
        async store(key: string, page: Uint8Array): Promise<boolean> {
          const [first] = this.pages.values();
          if (this.pages.size < 40) this.pages.set(key, page.slice());
          else first?.set(page);
          return true;
        },
      },
      "no wrong page when it is full",
      "after 200 pages were stored",
    ],
    [
      "cannot be cleared",
      { clear: () => Promise.reject(new Error("denied")) },
      "works on after clear",
      "clear threw Error: denied",
    ],
    ["counts in words", { stats: () => ({ pages: "many" }) }, "stats", 'answered "many" for pages'],
    [
      "never ends",
      { shutdown: () => new Promise(() => {}) },
      "ends in good time",
      "shutdown does not answer",
    ],
  ];
  for (const [what, methods, rule, says] of CASES) {
    test(what, async () => {
      const failures = Object.entries(await failuresOf(withMethods(methods)));
      const [, failure] = failures.find(([one]) => one.includes(rule)) ?? [];
      expect(failure).toContain(says);
    });
  }

  test("one that cannot be constructed breaks the first rule, and no other is tried", async () => {
    class Unusable extends Memory {
      constructor() {
        super({ size: 1 });
        throw new Error("no licence");
      }
    }
    const results = await testTier(Unusable);
    expect(results).toMatchObject([{ failure: "its constructor threw Error: no licence" }]);
  });
});

test("what is no tier is refused with a reason", async () => {
  class Nameless extends KvTier {
    override has = (): readonly boolean[] => [];
    override store = (): boolean => false;
    override load = (): boolean => false;
    override remove = (): void => {};
  }
  const named = (more: object): TierClass => Object.assign(class extends Plain {}, more);
  const refusals: readonly (readonly [TierClass, string])[] = [
    [Nameless as unknown as TierClass, "no static `tierName`"],
    [named({ tierName: "A b" }), 'its tierName is "A b"'],
    [named({ tierName: "host" }), "its tierName is `host`, which names a place of ours"],
    [named({ apiVersion: 2 }), "written for version 2 of the tier interface"],
    [
      named({
        options: {
          timeoutMs: { type: "integer", default: 1, min: 1, max: 2, help: "How long it may take" },
        },
      }),
      "its option `timeoutMs` is one of every tier",
    ],
  ];
  for (const [tierClass, says] of refusals) await expect(testTier(tierClass)).rejects.toThrow(says);
});
