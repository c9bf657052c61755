/** The records of frozen sessions in a folder: whole or not there, nobody else's, within their bounds, and hostile until they are checked. */

import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  SessionFolder,
  type SessionFolderOptions,
} from "../../../../engine/connectors/sessions/session-folder.ts";
import type { SessionRecord } from "../../../../engine/connectors/sessions/session-record.ts";
import { propertyRuns } from "../../../support/property-runs.ts";
import { temporaryFolder } from "../../../support/temporary-folder.ts";

const ROOT = temporaryFolder();
const NOW = 1_700_000_000_000;
const DAY = 86_400_000;
const OURS = "a".repeat(64);
const THEIRS = "b".repeat(64);
const BLOCK = 4096;

interface Opened {
  readonly folder: SessionFolder;
  readonly path: string;
  readonly log: readonly string[];
}

async function open(options: Partial<SessionFolderOptions> = {}): Promise<Opened> {
  const log: string[] = [];
  const path = options.path ?? (await mkdtemp(join(ROOT, "disk-")));
  const folder = await SessionFolder.open({
    ...{ path, model: OURS, blockSize: 4, vocabSize: 100, isReadOnly: false },
    ...{ maxBytes: 64 * BLOCK, maxRecords: 16, epochMs: () => NOW },
    log: (_, message) => log.push(message),
    ...options,
  });
  return { folder, path, log };
}

const recordOf = (name: string, more: Partial<SessionRecord> = {}): SessionRecord => ({
  ...{ name, owner: "", tokenIds: Int32Array.from([1, 2, 3, 4, 5, 6, 7, 8]) },
  ...{ saltDigest: null, keys: undefined, endsAt: NOW + DAY },
  ...more,
});

const namesIn = ({ folder }: Opened): readonly string[] => folder.found.map(({ name }) => name);

describe("a record", () => {
  test("is found again as it was put, last, until it is removed", async () => {
    const { folder, path } = await open();
    await folder.put(recordOf("trip", { endsAt: NOW + 1000 }));
    const more = { tokenIds: Int32Array.from([9, 9, 9, 9]), owner: "key", endsAt: NOW + 2 * DAY };
    const last = recordOf("trip", more);
    await folder.put(recordOf("trip"));
    await folder.put(last);
    const again = await open({ path });
    expect(again.folder.found).toEqual([recordOf("trip"), last]);
    expect(again.folder.has({ name: "trip", owner: "key" })).toBe(true);
    expect(again.folder.has({ name: "trip", owner: "other" })).toBe(false);
    await again.folder.remove(last);
    expect((await open({ path })).folder.found).toEqual([recordOf("trip")]);
    expect(again.log).toEqual([]);
  });

  test("has block hashes where it has a salt, whose digest alone is written", async () => {
    const { folder, path } = await open();
    const keys = ["0f".repeat(32), "f0".repeat(32)].map((hash) => `${hash}:0`);
    const salted = recordOf("trip", { saltDigest: "c".repeat(64), keys });
    await folder.put(salted);
    expect((await open({ path })).folder.found).toEqual([salted]);
  });

  test("is its user's alone, whole, and in a file whose name tells nothing", async () => {
    const { folder, path } = await open();
    await folder.put(recordOf("my secret name"));
    const [file = "", ...others] = await readdir(path);
    expect(file).toMatch(/^[0-9a-f]{64}\.kvsession$/);
    expect(others).toEqual([]);
    expect((await stat(join(path, file))).mode & 0o777).toBe(0o600);
  });

  test("is deleted at the first start after its end, and kept for no longer than 30 days by a clock that was ahead", async () => {
    const first = await open();
    await first.folder.put(recordOf("soon", { endsAt: NOW + 1 }));
    await first.folder.put(recordOf("ahead", { endsAt: NOW + 365 * DAY }));
    const later = await open({ path: first.path, epochMs: () => NOW + 1 });
    expect(later.folder.found).toEqual([recordOf("ahead", { endsAt: NOW + 1 + 30 * DAY })]);
    expect(await readdir(first.path)).toHaveLength(1);
  });

  test("of several puts and removals at once is what the last one made it", async () => {
    const { folder, path } = await open();
    const all: Promise<void>[] = [];
    for (let i = 0; i < 5; i++) {
      all.push(folder.put(recordOf("kept", { endsAt: NOW + DAY + i })));
      all.push(folder.put(recordOf("gone")), folder.remove(recordOf("gone")));
    }
    await Promise.all(all);
    expect((await open({ path })).folder.found).toEqual([
      recordOf("kept", { endsAt: NOW + DAY + 4 }),
    ]);
  });
});

describe("a folder", () => {
  test("is rid of what a killed process was writing, and of nothing that is another's", async () => {
    const { folder, path } = await open();
    await folder.put(recordOf("trip"));
    const [file = ""] = await readdir(path);
    const others = ["lock", "0000000000000001.kvpages", "notes.part", "x.kvsession", `${file}.bak`];
    for (const other of others) await writeFile(join(path, other), "x");
    // Killed while it wrote the record anew, and while it wrote another one for the first time.
    for (const part of [`${file}.part`, `${"0".repeat(64)}.kvsession.part`])
      await writeFile(join(path, part), (await readFile(join(path, file))).subarray(0, 50));
    const again = await open({ path });
    expect(namesIn(again)).toEqual(["trip"]);
    expect((await readdir(path)).sort()).toEqual([file, ...others].sort());
    expect(again.log).toEqual([]);
  });

  test("that is only read is left as it is, and what is in it is known", async () => {
    const first = await open();
    await first.folder.put(recordOf("trip"));
    await first.folder.put(recordOf("over", { endsAt: NOW + 1 }));
    await writeFile(join(first.path, `${"0".repeat(64)}.kvsession`), "damaged");
    await writeFile(join(first.path, `${"0".repeat(64)}.kvsession.part`), "cut");
    const before = (await readdir(first.path)).sort();
    const read = await open({ path: first.path, isReadOnly: true, epochMs: () => NOW + 1 });
    expect(namesIn(read)).toEqual(["trip"]);
    await read.folder.remove(recordOf("trip"));
    await read.folder.put(recordOf("new"));
    expect(read.folder.has(recordOf("new"))).toBe(false);
    expect((await readdir(first.path)).sort()).toEqual(before);
  });

  test("that was deleted and made anew by somebody else is left alone", async () => {
    const { folder, path, log } = await open();
    await folder.put(recordOf("trip"));
    const [file = ""] = await readdir(path);
    await rename(path, `${path}-moved`);
    // While the old one is there, no new folder has its number.
    const other = await open({ path: await mkdtemp(path) });
    await other.folder.put(recordOf("trip"));
    await rename(other.path, path);
    await folder.put(recordOf("new"));
    await folder.remove(recordOf("trip"));
    expect(await readdir(path)).toEqual([file]);
    expect(log).toEqual([expect.stringContaining("was deleted while it was in use")]);
  });

  test("that cannot be read is one line, and no error", async () => {
    const gone = await open({ path: join(ROOT, "nowhere") });
    expect(gone.folder.found).toEqual([]);
    expect(gone.log).toEqual([expect.stringContaining("cannot be read")]);
    await gone.folder.put(recordOf("trip"));
    expect(gone.log[1]).toContain('the record of "trip" cannot be written');
  });
});

describe("records take no more than they may", () => {
  const big = (name: string): SessionRecord =>
    recordOf(name, { tokenIds: new Int32Array(2 * BLOCK).fill(7) });

  test("in bytes on the disk: one more than there is room for is not written", async () => {
    // Two files of nine blocks, and room for one more block.
    const first = await open({ maxBytes: 19 * BLOCK });
    await first.folder.put(big("a"));
    await first.folder.put(big("b"));
    expect(first.folder.bytes).toBe(18 * BLOCK);
    await first.folder.put(big("c"));
    expect(first.log).toEqual([expect.stringContaining('"c" cannot be written')]);
    await first.folder.put(recordOf("small"));
    expect(first.folder.bytes).toBe(19 * BLOCK);
    expect(namesIn(await open({ path: first.path })).toSorted()).toEqual(["a", "b", "small"]);
    // A last one stays where the next cannot be written: for a while there would be both.
    await first.folder.put(big("small"));
    expect((await open({ path: first.path })).folder.found).toContainEqual(recordOf("small"));
  });

  test("in number", async () => {
    const first = await open({ maxRecords: 2 });
    for (const name of ["a", "b", "c"]) await first.folder.put(recordOf(name));
    await first.folder.put(recordOf("a", { endsAt: NOW + 2 * DAY }));
    expect(namesIn(await open({ path: first.path }))).toEqual(["b", "a"]);
  });

  test("at a start with smaller bounds, too: those go that end first, another model's before them", async () => {
    const first = await open();
    const theirs = await open({ path: first.path, model: THEIRS });
    await theirs.folder.put(recordOf("theirs", { endsAt: NOW + 9 * DAY }));
    for (const [i, name] of ["a", "b", "c"].entries())
      await first.folder.put(recordOf(name, { endsAt: NOW + (3 - i) * DAY }));
    expect(namesIn(await open({ path: first.path, maxRecords: 3 }))).toEqual(["c", "b", "a"]);
    expect(namesIn(await open({ path: first.path, maxBytes: 2 * BLOCK }))).toEqual(["b", "a"]);
    expect(namesIn(await open({ path: first.path, model: THEIRS }))).toEqual([]);
  });

  test("and another model's make room for ours", async () => {
    const theirs = await open({ model: THEIRS });
    await theirs.folder.put(recordOf("theirs"));
    const ours = await open({ path: theirs.path, maxRecords: 1 });
    expect(namesIn(ours)).toEqual([]);
    await ours.folder.put(recordOf("ours"));
    expect(namesIn(await open({ path: theirs.path, model: THEIRS }))).toEqual([]);
    expect(namesIn(await open({ path: theirs.path }))).toEqual(["ours"]);
  });
});

/** With a sum that fits, where the lengths allow one. */
function resealed(bytes: Buffer): Buffer {
  const end = 24 + bytes.readUInt32LE(12) + 4 * bytes.readUInt32LE(16);
  if (end + 32 > bytes.length) return bytes;
  createHash("sha256").update(bytes.subarray(0, end)).digest().copy(bytes, end);
  return bytes;
}

const change = fc.record({
  kind: fc.constantFrom("flip", "flip", "cut", "grow", "fill", "word"),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  length: fc.integer({ min: 1, max: 64 }),
  value: fc.integer({ min: 0, max: 255 }),
  reseal: fc.boolean(),
});
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function changed(original: Uint8Array, { kind, at: share, length, value, reseal }: Change): Buffer {
  const bytes = Buffer.from(original);
  const at = Math.floor(share * bytes.length);
  if (kind === "cut") return bytes.subarray(0, at);
  if (kind === "grow") return Buffer.concat([bytes, Buffer.alloc(length, value)]);
  if (kind === "flip") bytes[at] = (bytes[at] as number) ^ (1 << (value & 7));
  if (kind === "fill") bytes.fill(value, at, Math.min(bytes.length, at + length));
  if (kind === "word")
    bytes.writeUInt32LE((value * 0x0101_0101) >>> (length % 32), 8 + 4 * (value % 4));
  return reseal ? resealed(bytes) : bytes;
}

describe("a record that was changed", () => {
  test("is deleted, or says what one may say: 1,000 of them", async () => {
    const { folder, path } = await open();
    const keys = ["0f".repeat(32), "f0".repeat(32)].map((hash) => `${hash}:0`);
    await folder.put(recordOf("trip", { saltDigest: "c".repeat(64), keys }));
    const [file = ""] = await readdir(path);
    const original = await readFile(join(path, file));
    let [numTried, numDeleted] = [0, 0];
    await fc.assert(
      fc.asyncProperty(change, async (one) => {
        await writeFile(join(path, file), changed(original, one));
        const again = await open({ path });
        for (const { name, owner, tokenIds, keys: read = [], endsAt } of again.folder.found) {
          // Under its own name, so it is the session that it was.
          expect([name, owner]).toEqual(["trip", ""]);
          expect(tokenIds.length % 4).toBe(0);
          expect(tokenIds.every((id) => id >= 0 && id < 100)).toBe(true);
          expect(read).toHaveLength(tokenIds.length / 4);
          for (const key of read) expect(key).toMatch(/^[0-9a-f]{64}:0$/);
          expect(endsAt).toBeWithin(NOW + 1, NOW + 30 * DAY + 1);
        }
        numTried++;
        const left = await readdir(path);
        if (left.length === 0) numDeleted++;
        else expect(left).toEqual([file]);
      }),
      propertyRuns(1000),
    );
    expect(numDeleted / numTried).toBeGreaterThan(0.7);
  });

  test("that has another session's name, or is no file, does not count", async () => {
    const { folder, path } = await open();
    await folder.put(recordOf("trip"));
    const [file = ""] = await readdir(path);
    const bytes = await readFile(join(path, file));
    const another = `${"1".repeat(64)}.kvsession`;
    await writeFile(join(path, another), bytes);
    await rename(join(path, file), join(path, "elsewhere"));
    await symlink(join(path, "elsewhere"), join(path, file));
    const again = await open({ path });
    expect(again.folder.found).toEqual([]);
    expect(again.log).toEqual([expect.stringContaining("2 cannot be used")]);
    expect((await readdir(path)).sort()).toEqual([file, "elsewhere"].sort());
    await rm(join(path, file));
  });
});
