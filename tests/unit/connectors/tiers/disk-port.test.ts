/** The native disk store behind its port: results page by page, time-outs, and what it says when the disk says no. */

import { beforeEach, describe, expect, test } from "bun:test";
import { drivingOf } from "../../../../connectors/tier-options.ts";
import { DISK_DESCRIPTION } from "../../../../connectors/disk.ts";
import { parseOptions } from "../../../../connectors/options.ts";
import type { DiskStats, DiskStore } from "../../../../engine/cache/disk-store.ts";
import type { FlightResult } from "../../../../engine/cache/page-transfers.ts";
import { HostPages } from "../../../../engine/connectors/host-pages.ts";
import { DiskPort } from "../../../../engine/connectors/tiers/disk-port.ts";

const KEYS = ["a:0", "b:0", "c:0"] as const;
const STATS: DiskStats = {
  bytes: 10,
  limitBytes: 20,
  staleBytes: 0,
  pages: 3,
  pinnedPages: 0,
  keptPages: 0,
  pinnablePages: 0,
  hits: 0,
  misses: 0,
  stored: 0,
  evicted: 0,
  expired: 0,
  failures: {},
  readBytes: 0,
  writtenBytes: 0,
  readSeconds: 0,
  writeSeconds: 0,
  isReadOnly: false,
  trouble: undefined,
};

let now: number;
let pages: HostPages;
let port: DiskPort;
let begun: string[];
let cancelled: number[];
let lines: string[];
let onEnded: (result: FlightResult) => void;
let refuses: Error | undefined;
let weighed: string[];
let stored: string[];
let removed: string[];
let disk: DiskStore;

beforeEach(() => {
  now = 1;
  begun = [];
  cancelled = [];
  lines = [];
  weighed = [];
  stored = [];
  removed = [];
  refuses = undefined;
  pages = new HostPages(512, () => 512);
  const move =
    (kind: string) =>
    (id: number, keys: readonly string[], ids: Int32Array): void => {
      if (refuses !== undefined) throw refuses;
      begun.push(`${kind} ${id} ${keys.join()} ${ids.join()}`);
    };
  disk = {
    pageBytes: 1024,
    has: (keys) => keys.map((key) => key !== "b:0"),
    store: move("store"),
    load: move("load"),
    remove: (keys) => {
      removed.push(...keys);
      return keys.length;
    },
    clear: () => begun.push("clear"),
    pin: (keys) => keys.map(() => false),
    unpin: () => 0,
    weigh: (keys, weight) => {
      weighed.push(`${keys.join()} ${weight}`);
      return keys.map(() => false);
    },
    list: () => [],
    stats: () => STATS,
    close: () => Promise.resolve(true),
  };
  port = portOf(pages);
});

function portOf(hostPages: HostPages): DiskPort {
  return new DiskPort("disk", drivingOf(parseOptions(DISK_DESCRIPTION.options, {})), {
    disk,
    transfers: { pageBytes: 1024, cancel: (id) => cancelled.push(id) > 0 },
    flights: {
      beginOther: (begin, ended) => {
        onEnded = ended;
        begin(7);
        return 7;
      },
    },
    pages: hostPages,
    connector: 0,
    now: () => now,
    log: (level, line) => lines.push(`${level}: ${line}`),
    onStored: (keys) => stored.push(...keys),
    wake: () => {},
  });
}

function end(more: Partial<FlightResult> = {}): void {
  onEnded({
    id: 7,
    ok: true,
    cancelled: false,
    failedPages: new Int32Array(),
    bytes: 0,
    queuedMicros: 0,
    copyMicros: 0,
    ...more,
  });
}

const outcomes = (): readonly string[] => port.takeResults().map(({ outcome }) => outcome);

/** Host pages that are moved. */
function move(kind: "load" | "store"): number[] {
  const some = pages.alloc(0, 3)!;
  if (kind === "store") for (const [i, page] of some.entries()) pages.setKey(page, KEYS[i]);
  port.move(kind, [...KEYS], some);
  return some;
}

test("what urgent requests have used gets its weight with the pages that were stored", () => {
  port.weigh([...KEYS], 2);
  move("store");
  end({ ok: false, failedPages: Int32Array.of(1), error: { code: "full", message: "" } });
  expect(weighed).toEqual([`${KEYS.join()} 2`, "a:0,c:0 2"]);
});

test("what is on the disk is told of when it is there, also where that was too late for whoever waited", () => {
  move("store");
  now = 3001;
  port.expire(now);
  expect(outcomes()).toEqual(["late", "late", "late"]);
  expect(stored).toEqual([]);
  end({ ok: false, failedPages: Int32Array.of(1), error: { code: "full", message: "" } });
  expect(stored).toEqual(["a:0", "c:0"]);
  move("load");
  end();
  expect(stored).toHaveLength(2);
});

test.each([
  [0, 1],
  [16, 1],
  [31, 1],
  [32, 2],
  [511, 31],
  [512, 32],
  [100_000, 32],
])(
  "of a host with %d pages stores hold %d at most; loads hold as many as may be",
  (numPages, most) => {
    const ofHost = portOf(new HostPages(numPages, () => numPages));
    expect([ofHost.numFree("store"), ofHost.numFree("load")]).toEqual([most, 32]);
    expect(ofHost.storesAtOnce).toBe(Math.ceil(most / 2));
  },
);

describe("a move", () => {
  test("of many pages loads them in pieces, so that the first go on while others come, and stores them in one", () => {
    const keys = Array.from({ length: 9 }, (_, i) => `${i}:0`);
    port.move("load", keys, pages.alloc(0, 9)!);
    expect(begun.map((line) => line.split(" ")[2])).toEqual([keys.slice(0, 8).join(), "8:0"]);
    expect([port.numUnderWay, port.numFree("load")]).toEqual([9, 23]);
    const stored = pages.alloc(0, 4)!;
    for (const [i, page] of stored.entries()) pages.setKey(page, keys[i]);
    port.move("store", keys.slice(0, 4), stored);
    expect(begun.at(-1)?.split(" ")[2]).toBe(keys.slice(0, 4).join());
  });

  test("is one flight; each page has its own result, and those that arrived hold their content", () => {
    const some = move("load");
    expect(begun).toEqual([`load 7 ${KEYS.join()} ${some.join()}`]);
    expect([port.numUnderWay, port.numFree("load"), port.numFree("store")]).toEqual([3, 29, 32]);
    const error = { code: "missing", message: "not there" };
    end({ ok: false, failedPages: Int32Array.of(1), error });
    expect(outcomes()).toEqual(["ok", "none", "ok"]);
    expect(some.map((page) => pages.keyOf(page))).toEqual(["a:0", undefined, "c:0"]);
    expect([port.numUnderWay, port.numFree("load")]).toEqual([0, 32]);
  });

  test.each([
    ["load", "missing", "none"],
    ["load", "checksum", "wrong"],
    ["load", "short_read", "failed"],
    ["load", "closed", "host"],
    ["store", "full", "none"],
    ["store", "read_only", "none"],
    ["store", "unpackable", "none"],
    ["store", "paused", "failed"],
    ["store", "ENOSPC", "failed"],
    ["store", "checksum", "host"],
    ["store", "empty", "host"],
  ] as const)("%s that fails by %s counts as %s", (kind, code, outcome) => {
    move(kind);
    end({ ok: false, failedPages: Int32Array.of(0, 1, 2), error: { code, message: "no" } });
    expect(outcomes()).toEqual([outcome, outcome, outcome]);
  });

  test("that does not end in time is late; its pages are in use until it has ended, and hold nothing that counts", () => {
    const some = move("load");
    now = 3000;
    port.expire(now);
    expect(port.takeResults()).toEqual([]);
    now = 3001;
    expect(port.nextDeadline).toBe(3001);
    port.expire(now);
    expect(outcomes()).toEqual(["late", "late", "late"]);
    expect(cancelled).toEqual([7]);
    expect(port.nextDeadline).toBe(Infinity);
    pages.free(0, some);
    expect([pages.numUsed, port.numUnderWay]).toEqual([3, 3]);
    let keys: unknown[] = [];
    const freed = pages.endFlight.bind(pages);
    pages.endFlight = (ended) => {
      keys = some.map((page) => pages.keyOf(page));
      freed(ended);
    };
    end();
    expect(keys).toEqual([undefined, undefined, undefined]);
    expect([pages.numUsed, port.numUnderWay]).toEqual([0, 0]);
    expect(port.takeResults()).toEqual([]);
  });

  test("that ends after a reset brings nothing that counts", () => {
    const some = move("load");
    pages.forgetContents();
    end();
    expect(outcomes()).toEqual(["older", "older", "older"]);
    expect(pages.keyOf(some[0]!)).toBeUndefined();
  });

  test("that stores what is of before a reset is given up, or taken away again where it had begun", () => {
    const some = pages.alloc(0, 3)!;
    for (const [i, page] of some.entries()) pages.setKey(page, KEYS[i]);
    port.move("store", [...KEYS], some);
    pages.forgetContents();
    port.clear();
    expect(cancelled).toEqual([7]);
    end({ ok: false, failedPages: Int32Array.of(1), error: { code: "full", message: "full" } });
    expect([removed, stored]).toEqual([[KEYS[0]!, KEYS[2]!], []]);
  });

  test("is refused for pages that hold other content, and is over when the store refuses it", () => {
    const some = pages.alloc(0, 3)!;
    port.move("store", [...KEYS], some);
    expect(begun).toEqual([]);
    expect(outcomes()).toEqual(["host", "host", "host"]);
    refuses = new Error("stopped");
    move("load");
    expect(outcomes()).toEqual(["host", "host", "host"]);
    expect(lines).toEqual(["error: tier disk: load: stopped"]);
    expect(port.numUnderWay).toBe(0);
  });
});

test("it answers at once what it has, and says how it stands", async () => {
  expect(port.has([...KEYS])).toEqual([true, false, true]);
  expect(port.stats()).toMatchObject({ bytes: 10, limit_bytes: 20, pages: 3, paused: 0 });
  await port.shutdown(100);
  expect(lines).toEqual([]);
});
