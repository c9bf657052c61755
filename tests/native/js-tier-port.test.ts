/** A tier in JavaScript and real pages: what it is lent, when it is taken away, and which of what it brings counts. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { KvTier } from "../../connectors/connector.ts";
import type { TierDriving } from "../../connectors/tier-options.ts";
import type { TierResult } from "../../connectors/tier-port.ts";
import { HostPages } from "../../engine/connectors/host-pages.ts";
import { JsTierPort } from "../../engine/connectors/tiers/js-tier-port.ts";
import { PICK } from "../../engine/scheduler/batch.ts";
import { fillRow, TransferLab } from "../support/transfer-lab.ts";

const KEYS = ["a:0", "b:0"] as const;
const DRIVING: TierDriving = {
  writes: "through",
  promote: true,
  inFlight: 4,
  timeoutMs: 100,
  retries: 0,
  failures: 3,
};

/** Keeps pages, and does with each call what the test says. */
class Scripted extends KvTier {
  readonly pages = new Map<string, Uint8Array>();
  readonly lent: Uint8Array[] = [];
  onStore: (key: string, page: Uint8Array) => unknown = (key, page) => {
    this.pages.set(key, page.slice());
    return true;
  };
  onLoad: (key: string, into: Uint8Array) => unknown = (key, into) => {
    into.set(this.pages.get(key) ?? []);
    return this.pages.has(key);
  };
  onHas: () => unknown = () => [true];

  override has(): readonly boolean[] {
    return this.onHas() as readonly boolean[];
  }

  override store(key: string, page: Uint8Array): boolean {
    this.lent.push(page);
    return this.onStore(key, page) as boolean;
  }

  override load(key: string, into: Uint8Array): boolean {
    this.lent.push(into);
    return this.onLoad(key, into) as boolean;
  }

  override remove(): void {}
}

let lab: TransferLab;
let pages: HostPages;
let tier: Scripted;
let port: JsTierPort;
let now: number;
let lines: string[];
let nextFlight = 1;

beforeAll(async () => {
  lab = await TransferLab.open();
});
afterAll(() => lab.close());

beforeEach(() => {
  now = 1;
  lines = [];
  pages = new HostPages(lab.transfers.numPages, () => lab.transfers.numReady);
  tier = new Scripted();
  port = open();
});

function open(driving: Partial<TierDriving> = {}): JsTierPort {
  return new JsTierPort(
    { name: "scripted", tier, driving: { ...DRIVING, ...driving }, path: undefined },
    {
      transfers: lab.transfers,
      pages,
      connector: 0,
      slowMs: 50,
      now: () => now,
      log: (level, line) => lines.push(`${level}: ${line}`),
      wake: () => {},
    },
  );
}

/** Host pages with the content of blocks, one for each key. */
async function filled(): Promise<number[]> {
  await lab.step(fillRow(0, [1, 2, 3, 4], [[1]]), fillRow(1, [5, 6, 7, 8], [[2]]));
  const some = pages.alloc(0, 2)!;
  const id = nextFlight++;
  lab.transfers.store(id, Int32Array.of(1, 2), Int32Array.from(some), lab.nextStep - 1);
  expect((await lab.result(id)).ok).toBe(true);
  for (const [i, page] of some.entries()) pages.setKey(page, KEYS[i]);
  return some;
}

const turn = (): Promise<void> => new Promise((done) => void setImmediate(done));

async function resultsOf(count: number): Promise<readonly TierResult[]> {
  const results: TierResult[] = [];
  while (results.length < count) {
    await turn();
    results.push(...port.takeResults());
  }
  return results;
}

async function move(kind: "load" | "store", some: readonly number[]): Promise<readonly string[]> {
  port.move(kind, KEYS.slice(0, some.length), some);
  return (await resultsOf(some.length)).map(({ outcome }) => outcome);
}

describe("a page", () => {
  test("is stored and brought back as what it was, and what was lent is taken away", async () => {
    const stored = await filled();
    expect(await move("store", stored)).toEqual(["ok", "ok"]);
    expect(tier.pages.get("a:0")?.length).toBe(lab.transfers.copyBytes);
    const loaded = pages.alloc(0, 2)!;
    expect(await move("load", loaded)).toEqual(["ok", "ok"]);
    expect(loaded.map((page) => pages.keyOf(page))).toEqual([...KEYS]);
    expect(tier.lent.map(({ length }) => length)).toEqual([0, 0, 0, 0]);
    // As the device sees it: the very bytes.
    const [first = 0, second = 0] = loaded;
    for (const [page, block] of [
      [first, 11],
      [second, 12],
    ] as const) {
      const id = nextFlight++;
      lab.transfers.load(id, Int32Array.of(page), Int32Array.of(block), -1);
      expect((await lab.result(id)).ok).toBe(true);
    }
    const before = await lab.step({
      seat: 0,
      start: 4,
      tokens: [9],
      samples: [[0, PICK]],
      tables: [[1, 3]],
    });
    const after = await lab.step({
      seat: 0,
      start: 4,
      tokens: [9],
      samples: [[0, PICK]],
      tables: [[11, 4]],
    });
    expect(after).toBe(before);
    expect(port.numUnderWay).toBe(0);
    expect(port.numFree("load")).toBe(4);
  });

  test("of which a bit was changed, anywhere, counts for nothing", async () => {
    await move("store", await filled());
    const { copyBytes, pageBytes } = lab.transfers;
    const kept = tier.pages.get("a:0")!.slice();
    // Page, where its stamp is from, and stamp.
    const expected = (byte: number): string =>
      byte >= pageBytes && byte < pageBytes + 8 ? "older" : "wrong";
    for (const byte of [0, pageBytes - 1, pageBytes, pageBytes + 8, copyBytes - 1]) {
      const changed = kept.slice();
      changed[byte] = (changed[byte] ?? 0) ^ 1;
      tier.pages.set("a:0", changed);
      const page = pages.alloc(0, 1)!;
      expect(await move("load", page)).toEqual([expected(byte)]);
      expect(pages.keyOf(page[0]!)).toBeUndefined();
    }
  });

  test("of another key counts for nothing, nor does what the tier did not write", async () => {
    await move("store", await filled());
    tier.pages.set("a:0", tier.pages.get("b:0")!);
    expect(await move("load", pages.alloc(0, 1)!)).toEqual(["wrong"]);
    tier.onLoad = () => true;
    expect(await move("load", pages.alloc(0, 1)!)).toEqual(["older"]);
  });

  test("from before a reset is older, also where the reset comes while it is loaded", async () => {
    await move("store", await filled());
    pages.forgetContents();
    expect(await move("load", pages.alloc(0, 1)!)).toEqual(["older"]);
    const again = await filled();
    await move("store", again);
    const page = pages.alloc(0, 1)!;
    port.move("load", ["a:0"], page);
    await Promise.resolve();
    pages.forgetContents();
    expect((await resultsOf(1)).map(({ outcome }) => outcome)).toEqual(["older"]);
    expect(pages.keyOf(page[0]!)).toBeUndefined();
  });

  test("that is given back while it is copied is handed out to nobody before that has ended", async () => {
    const stored = await filled();
    port.move("store", [...KEYS], stored);
    pages.free(0, stored);
    const others = pages.alloc(0, pages.numFree)!;
    expect(others.some((page) => stored.includes(page))).toBe(false);
    await resultsOf(2);
    expect(pages.alloc(0, 2)?.toSorted((a, b) => a - b)).toEqual(stored.toSorted((a, b) => a - b));
  });

  test("that the host cannot read, or that holds something else, is no fault of the tier", async () => {
    const stored = await filled();
    pages.setKey(stored[0]!, "c:0");
    expect(await move("store", stored)).toEqual(["host", "host"]);
    const other = await filled();
    lab.transfers.corruptPage(other[1]!);
    expect(await move("store", other)).toEqual(["host", "ok"]);
    expect([...tier.pages.keys()]).toEqual(["a:0"]);
  });
});

describe("a call", () => {
  test("that does not settle in time is late; its place is free when it settles, the host's page at once", async () => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    tier.onLoad = () => promise;
    const page = pages.alloc(0, 1)!;
    port.move("load", ["a:0"], page);
    await turn();
    pages.free(0, page);
    const used = pages.numUsed;
    now = 100;
    port.expire(now);
    expect(port.numUnderWay).toBe(2);
    now = 101;
    expect(port.nextDeadline).toBe(101);
    port.expire(now);
    const [result] = await resultsOf(1);
    expect(result).toMatchObject({ outcome: "late", ms: 100, reason: "did not answer in time" });
    expect(pages.numUsed).toBe(used - 1);
    expect(tier.lent[0]?.length).toBe(0);
    expect(port.numFree("load")).toBe(3);
    resolve(true);
    await turn();
    expect(port.numFree("load")).toBe(4);
    expect(port.takeResults()).toEqual([]);
  });

  const fails = (): never => {
    throw new Error("no");
  };
  const BAD: readonly (readonly [
    what: string,
    answer: () => unknown,
    outcome: string,
    reason: string,
  ])[] = [
    ["throws", fails, "failed", "threw Error: no"],
    ["rejects", () => Promise.reject(new Error("no")), "failed", "rejected with Error: no"],
    ["answers nonsense", () => 7, "failed", "answered 7; allowed is true or false"],
    ["promises nonsense", () => Promise.resolve({}), "failed", "answered an object"],
    ["declines", () => false, "none", ""],
  ];
  test.each([...BAD])("that %s is told with its reason", async (_what, answer, outcome, reason) => {
    tier.onStore = answer;
    tier.onLoad = answer;
    const [stored = 0] = await filled();
    const [empty = 0] = pages.alloc(0, 1)!;
    const moves: readonly (readonly ["store" | "load", number])[] = [
      ["store", stored],
      ["load", empty],
    ];
    for (const [kind, page] of moves) {
      port.move(kind, ["a:0"], [page]);
      const [result] = await resultsOf(1);
      expect(result?.outcome as string).toBe(outcome);
      expect(result?.reason ?? "").toContain(reason);
    }
    expect(port.numFree("store")).toBe(4);
    expect(port.numFree("load")).toBe(4);
  });

  test("that gives away what it was lent brings nothing, and memory is found for the next", async () => {
    const give = (_key: string, page: Uint8Array): boolean => {
      structuredClone(page, { transfer: [page.buffer as ArrayBuffer] });
      return true;
    };
    tier.onLoad = give;
    for (let i = 0; i < 10; i++) {
      port.move("load", ["a:0"], pages.alloc(0, 1)!);
      expect(await resultsOf(1)).toMatchObject([
        { outcome: "wrong", reason: "gave its memory away" },
      ]);
    }
    tier.onStore = give;
    expect(await move("store", await filled())).toEqual(["ok", "ok"]);
  });

  test("that holds up the engine's thread is the last one", async () => {
    const stored = await filled();
    tier.onStore = () => {
      now += 51;
      return true;
    };
    port.move("store", ["a:0"], [stored[0]!]);
    await resultsOf(1);
    expect(port.isUsable).toBe(false);
    expect(lines).toEqual([
      "error: tier scripted is called no more: it held up the engine for 51 ms",
    ]);
    expect(port.numFree("store")).toBe(0);
    expect(port.has(["a:0"])).toBeUndefined();
  });
});

test("what a tier says of what it has is checked; a promise comes in time or not at all", async () => {
  const has = async (answer: () => unknown): Promise<unknown> => {
    tier.onHas = answer;
    return port.has(["a:0"]);
  };
  expect(await has(() => [false])).toEqual([false]);
  expect(await has(() => Promise.resolve([true]))).toEqual([true]);
  for (const wrong of [[], [true, true], [1], "yes", undefined])
    expect(await has(() => wrong)).toBeUndefined();
  expect(await has(() => Promise.reject(new Error("no")))).toBeUndefined();
  tier.onHas = () => new Promise(() => {});
  const late = port.has(["a:0"]);
  now += 100;
  port.expire(now);
  expect(await late).toBeUndefined();
});
