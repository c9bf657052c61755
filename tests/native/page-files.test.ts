/** Pages in files through the native edge: what is said where they cannot be written or read. */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { LABEL_BYTES } from "../../engine/cache/page-transfers.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { inLab, keysOf, placeOf } from "../support/transfer-lab.ts";

const FOLDER = temporaryFolder();

function ids(...list: number[]): Int32Array {
  return Int32Array.from(list);
}

test(
  "a file that is missing or too short fails with the system's name for it, another's with checksum",
  inLab({}, async (lab) => {
    const missing = join(FOLDER, "missing", "pages");
    const short = join(FOLDER, "short");
    await Bun.write(short, new Uint8Array(lab.transfers.pageBytes + LABEL_BYTES + 1));
    lab.transfers.store(1, ids(1), ids(0), -1);
    await lab.result(1);
    lab.transfers.readPages(2, placeOf(missing, 0, 0), keysOf(ids(1, 2)), ids(1, 2));
    expect(await lab.result(2)).toMatchObject({ ok: false, error: { code: "ENOENT" } });
    lab.transfers.writePages(3, placeOf(missing, 0), keysOf(ids(0)), ids(0));
    expect(await lab.result(3)).toMatchObject({ ok: false, error: { code: "ENOENT" } });
    lab.transfers.readPages(4, placeOf(short, 2), keysOf(ids(3)), ids(3));
    expect(await lab.result(4)).toMatchObject({ ok: false, error: { code: "short_read" } });
    lab.transfers.readPages(6, placeOf(short, 0, 1), keysOf(ids(3, 4)), ids(3, 4));
    const result = await lab.result(6);
    expect([[...result.failedPages], result.error?.code]).toEqual([[0, 1], "checksum"]);
    if (!existsSync("/dev/full")) return;
    lab.transfers.writePages(5, placeOf("/dev/full", 0), keysOf(ids(0)), ids(0));
    expect(await lab.result(5)).toMatchObject({ ok: false, error: { code: "ENOSPC" } });
  }),
);
