/** The disk store through the native edge: what comes back after a restart, and what is said of it. */

import { describe, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { blockKey } from "../../engine/cache/block-key.ts";
import type { DiskOptions } from "../../engine/cache/disk-store.ts";
import { DEFAULT_SAMPLING } from "../../engine/request.ts";
import { NativeDisk } from "../../engine/runner/native-disk.ts";
import { refusalOf } from "../support/connector-blocks.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { thrownBy } from "../support/thrown.ts";
import { BLOCK_SIZE, fillRow, TransferLab, VOCAB_SIZE } from "../support/transfer-lab.ts";
import { witnessTokens } from "../support/witness.ts";

const FOLDER = temporaryFolder();
const PROMPT = [7, 3, 9, 9, 1, 0, 4, 2, 8, 8, 5, 6, 11];
const FULL = Math.floor((PROMPT.length - 1) / BLOCK_SIZE);
const DEADLINE_MS = 10_000;
let numFolders = 0;

function key(number: number, group = 0): BlockKey {
  return blockKey(Int32Array.of(number, -1, 0, 0, 0, 0, 0, number), 0, group);
}

function keys(...numbers: number[]): BlockKey[] {
  return numbers.map((number) => key(number));
}

function ids(...list: number[]): Int32Array {
  return Int32Array.from(list);
}

function newFolder(): string {
  return join(FOLDER, `store-${numFolders++}`);
}

interface World {
  readonly lab: TransferLab;
  readonly disk: NativeDisk;
}

/** Runs `body` with a store in `path` and a laboratory that has blocks 1 to 3 of the prompt in host pages 0 to 2. */
async function withDisk(
  path: string,
  body: (world: World) => Promise<void>,
  options: Partial<DiskOptions> = {},
): Promise<void> {
  const lab = await TransferLab.open();
  try {
    const { pageBytes } = lab.transfers;
    const disk = await NativeDisk.open(lab.transfers, {
      ...{ path, sizeBytes: 1 << 20, pageBytes, fingerprint: "one" },
      ...options,
    });
    await lab.step(fillRow(0, PROMPT.slice(0, -1), [[1, 2, 3, 4]]));
    lab.transfers.store(1, ids(1, 2, 3), ids(0, 1, 2), -1);
    await lab.result(1);
    await body({ lab, disk });
    expect(await disk.close(DEADLINE_MS)).toBe(true);
  } finally {
    await lab.close();
  }
}

describe("a disk store", () => {
  test("gives a sequence back after a restart", async () => {
    const path = newFolder();
    await withDisk(path, async ({ lab, disk }) => {
      disk.store(2, keys(1, 2, 3), ids(0, 1, 2));
      expect(await lab.result(2)).toMatchObject({ ok: true, bytes: FULL * disk.pageBytes });
    });
    const sampling = { ...DEFAULT_SAMPLING, temperature: 0, maxTokens: 1 };
    const groups = [{ kind: "full", window: 0 }] as const;
    const [expected] = witnessTokens(Int32Array.from(PROMPT), sampling, {
      ...{ vocabSize: VOCAB_SIZE, groups },
    });
    await withDisk(path, async ({ lab, disk }) => {
      expect(disk.has(keys(1, 4, 2, 3))).toEqual([true, false, true, true]);
      disk.load(2, keys(1, 2, 3), ids(10, 11, 12));
      expect(await lab.result(2)).toMatchObject({ ok: true });
      lab.transfers.load(3, ids(10, 11, 12), ids(21, 22, 23), -1);
      expect(await lab.result(3)).toMatchObject({ ok: true });
      const start = PROMPT.length - 1;
      const row = { seat: 1, start, tokens: PROMPT.slice(start), tables: [[21, 22, 23, 24]] };
      expect(await lab.step(row)).toBe(expected as number);
    });
  });

  test("says which pages did not come, and counts", async () => {
    await withDisk(newFolder(), async ({ lab, disk }) => {
      disk.store(2, keys(1, 2), ids(0, 1));
      await lab.result(2);
      disk.load(3, keys(5, 1, 6), ids(10, 11, 12));
      const result = await lab.result(3);
      expect([result.ok, [...result.failedPages], result.error?.code]).toEqual([
        false,
        [0, 2],
        "missing",
      ]);
      expect(disk.stats()).toMatchObject({
        ...{ limitBytes: 1 << 20, staleBytes: 0, pages: 2, pinnedPages: 0, stored: 2 },
        ...{ hits: 1, misses: 2, evicted: 0, failures: {}, trouble: undefined },
        ...{ writtenBytes: 2 * disk.pageBytes, readBytes: disk.pageBytes },
      });
    });
  });

  test("forgets, pins and lists by key and group", async () => {
    await withDisk(newFolder(), async ({ lab, disk }) => {
      const all = [key(1, 0), key(1, 1), key(2, 999_999_999)];
      disk.store(2, all, ids(0, 1, 2));
      await lab.result(2);
      const until = 4_000_000_000;
      expect(disk.pin([key(1, 1), key(9)], until)).toEqual([true, false]);
      expect(disk.list().map((page) => [page.key, page.pinnedUntilSeconds])).toEqual([
        [key(1, 0), 0],
        [key(2, 999_999_999), 0],
        [key(1, 1), until],
      ]);
      expect(disk.unpin(all)).toBe(1);
      expect(disk.remove([key(1, 0), key(9)])).toBe(1);
      expect(disk.has(all)).toEqual([false, true, true]);
      disk.clear();
      expect(disk.has(all)).toEqual([false, false, false]);
      expect(disk.list()).toEqual([]);
    });
  });

  test("keeps pages of a higher weight longer, after a restart too", async () => {
    const path = newFolder();
    // Four slots of a page, their tables and the lock.
    const options = { sizeBytes: 7 * 4096 };
    await withDisk(
      path,
      async ({ lab, disk }) => {
        disk.store(2, keys(1, 2, 3), ids(0, 1, 2));
        await lab.result(2);
        expect(disk.weigh(keys(1, 9), 200)).toEqual([true, false]);
        expect(disk.list().map((page) => [page.key, page.weight])).toEqual([
          [key(2), 0],
          [key(3), 0],
          [key(1), 200],
        ]);
      },
      options,
    );
    await withDisk(
      path,
      async ({ lab, disk }) => {
        expect(disk.stats()).toMatchObject({ pages: 3, keptPages: 1, isReadOnly: false });
        disk.store(2, keys(4, 5, 6), ids(0, 1, 2));
        expect(await lab.result(2)).toMatchObject({ ok: true });
        expect(disk.has(keys(1, 2, 3))).toEqual([true, false, false]);
        expect(disk.weigh(keys(1), 0)).toEqual([true]);
      },
      options,
    );
  });

  test("refuses to keep pages as int8 that are not of 16 bits", async () => {
    const path = newFolder();
    const int8Layout = "witness/ 4 Full:0:1x1x1";
    const refused = await thrownBy(() => withDisk(path, () => Promise.resolve(), { int8Layout }));
    expect(refused).toMatchObject({ code: "bad_config" });
    expect(refused.message).toContain("int8 on the disk is for KV of 16 bits");
  });

  test("of another model's pages gives none, and takes no more room than it may", async () => {
    const path = newFolder();
    // One slot of a page, its tables and the lock.
    const options = { sizeBytes: 4 * 4096 };
    for (const fingerprint of ["one", "two", "one"]) {
      await withDisk(
        path,
        async ({ lab, disk }) => {
          expect(disk.has(keys(1))).toEqual([false]);
          disk.store(2, keys(1, 2), ids(0, 1));
          const result = await lab.result(2);
          expect([[...result.failedPages], result.error?.code]).toEqual([[1], "full"]);
          const sizes = readdirSync(path).map((name) => statSync(join(path, name)).size);
          expect(sizes.reduce((a, b) => a + b)).toBeLessThanOrEqual(options.sizeBytes);
        },
        { ...options, fingerprint },
      );
    }
  });

  test("refuses a folder that another one uses, a size without a page, and what is no key", async () => {
    const path = newFolder();
    await withDisk(path, async ({ lab, disk }) => {
      const { pageBytes } = lab.transfers;
      const options = { path, sizeBytes: 1 << 20, pageBytes, fingerprint: "one" };
      const used = await thrownBy(() => NativeDisk.open(lab.transfers, options));
      expect(used).toMatchObject({ code: "bad_config" });
      expect(used.message).toContain(
        `${path} is in use by another process (process ${process.pid})`,
      );
      const small = { ...options, sizeBytes: 100 };
      expect(await thrownBy(() => NativeDisk.open(lab.transfers, small))).toMatchObject({
        code: "bad_config",
      });
      expect(refusalOf(() => disk.has(["nothing"]))).toMatchObject({ code: "invalid" });
      expect(await thrownBy(() => disk.load(2, keys(1), ids(0, 1)))).toMatchObject({
        code: "internal",
      });
    });
  });
});
