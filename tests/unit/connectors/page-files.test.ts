/** Pages on their way to and from files: what is refused, what is in use meanwhile, and what counts when it has come. */

import { beforeEach, describe, expect, test } from "bun:test";
import type { TransferResult } from "../../../connectors/connector.ts";
import type { FilePlace, FlightResult } from "../../../engine/cache/page-transfers.ts";
import { HostPages } from "../../../engine/connectors/host-pages.ts";
import { PageFiles } from "../../../engine/connectors/page-files.ts";
import { refusalOf } from "../../support/connector-blocks.ts";

const KEYS = ["a", "b", "c"].map((digit) => `${digit.repeat(64)}:0`);

let pages: HostPages;
let files: PageFiles;
let begun: [kind: string, place: FilePlace, pages: Int32Array][];
let end: (result: FlightResult) => void;
let mayCancel: boolean;

function open(fingerprint: string | undefined): PageFiles {
  return new PageFiles(
    {
      writePages: (_, place, _keys, ids) => void begun.push(["write", place, ids]),
      readPages: (_, place, _keys, ids) => void begun.push(["read", place, ids]),
      cancel: () => mayCancel,
    },
    {
      beginOther: (begin, onEnded) => {
        end = onEnded;
        begin(7);
        return 7;
      },
    },
    pages,
    fingerprint,
  );
}

beforeEach(() => {
  begun = [];
  mayCancel = true;
  pages = new HostPages(8, () => 8);
  files = open("one");
  expect(pages.alloc(0, 3)).toEqual([0, 1, 2]);
  expect(pages.alloc(1, 1)).toEqual([3]);
});

function result(failedPages: readonly number[], changes: Partial<FlightResult> = {}): FlightResult {
  return {
    ...{ id: 7, ok: failedPages.length === 0, cancelled: false, bytes: 0 },
    ...{ failedPages: Int32Array.from(failedPages), queuedMicros: 0, copyMicros: 0 },
    ...changes,
  };
}

function ended(): TransferResult | undefined {
  return files.takeEnded()[0]?.result;
}

describe("a read", () => {
  test("fills the pages that arrived with what was asked for; they are in use until then", () => {
    expect(files.read(0, "file", [0, 100], [0, 1], [KEYS[0]!, KEYS[1]!])).toBe(7);
    expect(begun[0]?.[1]).toEqual({
      ...{ path: "file", fingerprint: "one", offsets: Float64Array.of(0, 100) },
    });
    expect([pages.isFlying(0), pages.keyOf(0)]).toEqual([true, undefined]);
    const error = { code: "checksum", message: "not what was written" };
    end(result([1], { error }));
    expect(pages.isFlying(0)).toBe(false);
    expect([pages.keyOf(0), pages.keyOf(1)]).toEqual([KEYS[0], undefined]);
    expect(ended()).toEqual({
      ...{ id: 7, kind: "read", ok: false, cancelled: false },
      ...{ failedBlockIds: [], failedPageIds: [1], reason: error.message },
    });
    expect(files.numEnded).toBe(0);
  });

  test("from before a reset counts as cancelled, and its pages hold nothing", () => {
    files.read(0, "file", [0], [0], [KEYS[0]!]);
    pages.forgetContents();
    end(result([]));
    expect(pages.keyOf(0)).toBeUndefined();
    expect(ended()).toMatchObject({ ok: false, cancelled: true, failedPageIds: [0] });
  });

  test("into a page that was given back meanwhile leaves it to the next owner, empty", () => {
    files.read(0, "file", [0], [0], [KEYS[0]!]);
    pages.free(0, [0]);
    end(result([]));
    expect(pages.alloc(1, 1)).toEqual([0]);
    expect(pages.keyOf(0)).toBeUndefined();
  });

  test("is refused for a page that is in use, and for keys that are none or too few", () => {
    pages.beginRead([1]);
    expect(refusalOf(() => files.read(0, "file", [0], [1], [KEYS[0]!])).code).toBe("stale");
    expect(refusalOf(() => files.read(0, "file", [0], [0], [])).code).toBe("invalid");
    expect(refusalOf(() => files.read(0, "file", [0], [0], ["x"])).code).toBe("invalid");
    expect(begun).toEqual([]);
    expect(pages.isInUse(0)).toBe(false);
  });
});

describe("a write", () => {
  test("is of pages that hold content, and keeps them from being handed out", () => {
    expect(refusalOf(() => files.write(0, "file", [0], [0])).code).toBe("stale");
    pages.setKey(0, KEYS[0]);
    files.write(0, "file", [0], [0]);
    pages.free(0, [0]);
    expect(pages.alloc(1, 5)).toBeUndefined();
    end(result([]));
    expect(ended()).toEqual({
      ...{ id: 7, kind: "write", ok: true, cancelled: false },
      ...{ failedBlockIds: [], failedPageIds: [] },
    });
    expect(pages.alloc(1, 5)).toHaveLength(5);
  });

  test("that is cancelled says so; only its connector may", () => {
    pages.setKey(0, KEYS[0]);
    files.write(0, "file", [0], [0]);
    expect(files.cancel(1, 7)).toBe(false);
    expect(files.cancel(0, 8)).toBe(false);
    mayCancel = false;
    expect(files.cancel(0, 7)).toBe(false);
    mayCancel = true;
    expect(files.cancel(0, 7)).toBe(true);
    end(result([], { cancelled: true, ok: false }));
    expect(ended()).toMatchObject({ ok: false, cancelled: true, failedPageIds: [0] });
    expect(files.cancel(0, 7)).toBe(false);
  });
});

test("what is wrong is refused by name, and nothing begins", () => {
  for (const page of [0, 1]) pages.setKey(page, KEYS[page]);
  for (const [path, offsets, ids] of [
    ["", [0], [0]],
    ["a\0b", [0], [0]],
    ["file", [], []],
    ["file", [0], [0, 1]],
    ["file", [0, 0], [0, 0]],
    ["file", [-1], [0]],
    ["file", [0.5], [0]],
    ["file", [2 ** 53 - 1], [0]],
  ] as const)
    expect(refusalOf(() => files.write(0, path, offsets, ids)).code).toBe("invalid");
  expect(refusalOf(() => files.write(0, "file", [0], [3])).code).toBe("notHeld");
  expect(refusalOf(() => open(undefined).write(0, "file", [0], [0])).code).toBe("closed");
  expect(begun).toEqual([]);
  files.write(0, "file", [2 ** 53 - 2], [0]);
  expect(begun).toHaveLength(1);
});
