/** Page transfers through the native edge: what arrives, in which order, and what is said of it. */

import { describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { LABEL_BYTES } from "../../engine/cache/page-transfers.ts";
import { DEFAULT_SAMPLING } from "../../engine/request.ts";
import { memoryAvailable } from "../../engine/runner/native.ts";
import { propertyRuns } from "../support/property-runs.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { thrownBy } from "../support/thrown.ts";
import {
  BLOCK_SIZE,
  fillRow,
  inLab,
  keysOf,
  type LabGroup,
  placeOf,
  TransferLab,
  VOCAB_SIZE,
} from "../support/transfer-lab.ts";
import { witnessTokens } from "../support/witness.ts";

const FOLDER = temporaryFolder();
const GROUPS: readonly LabGroup[] = [
  { kind: "full", window: 0 },
  { kind: "window", window: 6 },
  { kind: "state", window: 0 },
];
const PROMPT = [7, 3, 9, 9, 1, 0, 4, 2, 8, 8, 5, 6, 11];
/** All full blocks of the prompt but the last token's. */
const FULL = Math.floor((PROMPT.length - 1) / BLOCK_SIZE);

function ids(...list: number[]): Int32Array {
  return Int32Array.from(list);
}

function expectedToken(prompt: readonly number[], groups: readonly LabGroup[] = GROUPS): number {
  const sampling = { ...DEFAULT_SAMPLING, temperature: 0, maxTokens: 1 };
  return witnessTokens(Int32Array.from(prompt), sampling, { vocabSize: VOCAB_SIZE, groups })[0]!;
}

/** Runs `body` in a laboratory that is closed afterwards. */
/** Tables of three groups over the blocks from `first` on, with room for the block of the last token. */
function tables(first: number): number[][] {
  return GROUPS.map((_, group) =>
    Array.from({ length: FULL + 1 }, (_, i) => first + group * (FULL + 1) + i),
  );
}

function fullBlocks(of: readonly (readonly number[])[]): number[] {
  return of.flatMap((table) => table.slice(0, FULL));
}

/** The answer after the prompt's last token, read from the blocks of these tables. */
function continued(lab: TransferLab, of: readonly (readonly number[])[]): Promise<number> {
  const start = PROMPT.length - 1;
  return lab.step({ seat: 1, start, tokens: PROMPT.slice(start), tables: of });
}

describe("a sequence", () => {
  test(
    "goes on from blocks that were stored behind the step that fills them, and loaded elsewhere",
    inLab({ groups: GROUPS }, async (lab) => {
      const [from, to] = [tables(1), tables(30)];
      const blocks = fullBlocks(from);
      const pages = blocks.map((_, i) => blocks.length - i);
      lab.transfers.store(1, ids(...blocks), ids(...pages), lab.nextStep);
      void lab.step(fillRow(0, PROMPT.slice(0, -1), from));
      expect(await lab.result(1)).toMatchObject({ ok: true, cancelled: false });
      expect(await continued(lab, to)).not.toBe(expectedToken(PROMPT));
      lab.transfers.load(2, ids(...pages), ids(...fullBlocks(to)), lab.nextStep - 1);
      const result = await lab.result(2);
      expect(result.bytes).toBe(blocks.length * lab.transfers.pageBytes);
      expect([result.ok, result.failedPages.length, result.error]).toEqual([true, 0, undefined]);
      expect(await continued(lab, to)).toBe(expectedToken(PROMPT));
    }),
  );

  test(
    "survives a file",
    inLab({ groups: GROUPS }, async (lab) => {
      const [from, to] = [tables(1), tables(30)];
      const blocks = fullBlocks(from);
      const pages = ids(...blocks.keys());
      const later = ids(...Array.from(pages, (page) => page + 20));
      const path = join(FOLDER, "sequence");
      const { pageBytes } = lab.transfers;
      // The end first, and a hole at the beginning.
      const recordBytes = pageBytes + LABEL_BYTES;
      const offsets = Float64Array.from(pages, (page) => 10 + (blocks.length - page) * recordBytes);
      const place = { path, fingerprint: "one", offsets };
      await lab.step(fillRow(0, PROMPT.slice(0, -1), from));
      lab.transfers.store(1, ids(...blocks), pages, -1);
      await lab.result(1);
      lab.transfers.writePages(2, place, keysOf(pages), pages);
      expect(await lab.result(2)).toMatchObject({ ok: true, bytes: blocks.length * pageBytes });
      expect(statSync(path).size).toBe(10 + (blocks.length + 1) * recordBytes);
      lab.transfers.readPages(5, { ...place, fingerprint: "two" }, keysOf(pages), later);
      expect(await lab.result(5)).toMatchObject({ ok: false, error: { code: "checksum" } });
      lab.transfers.readPages(6, place, keysOf(later), later);
      expect((await lab.result(6)).failedPages.length).toBe(pages.length);
      lab.transfers.readPages(3, place, keysOf(pages), later);
      expect(await lab.result(3)).toMatchObject({ ok: true });
      lab.transfers.load(4, later, ids(...fullBlocks(to)), -1);
      expect(await lab.result(4)).toMatchObject({ ok: true });
      expect(await continued(lab, to)).toBe(expectedToken(PROMPT));
    }),
  );
});

describe("results", () => {
  test(
    "come once each, several to a call",
    inLab({ backend: "null" }, async (lab) => {
      for (let id = 0; id < 2000; id++)
        lab.transfers.store(id, ids(1 + (id % 60)), ids(id % 64), -1);
      for (let id = 0; id < 2000; id++) await lab.result(id);
      expect(lab.results.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: 2000 }, (_, id) => id),
      );
      expect(lab.results.every(({ ok }) => ok)).toBe(true);
      expect(lab.numBatches).toBeLessThan(2000);
    }),
  );

  test(
    "of a cancelled flight say so; one whose step has not ended can be cancelled, an ended one cannot",
    inLab({}, async (lab) => {
      lab.transfers.store(1, ids(1), ids(0), -1);
      expect(await lab.result(1)).toMatchObject({ ok: true });
      lab.transfers.store(2, ids(1), ids(1), 1000);
      expect([1, 2, 2, 3].map((id) => lab.transfers.cancel(id))).toEqual([
        false,
        true,
        false,
        false,
      ]);
      expect(await lab.result(2)).toMatchObject({ ok: false, cancelled: true, bytes: 0 });
      expect(lab.transfers.stats()).toMatchObject({ cancelled: 1, failed: 0, pending: 0 });
    }),
  );

  test(
    "are all delivered when stopping has ended, and nothing is taken in after it",
    inLab({}, async (lab) => {
      for (let id = 0; id < 5; id++) lab.transfers.store(id, ids(1), ids(id), 1000);
      expect(await lab.transfers.stop(10_000)).toBe(true);
      expect(lab.results.map(({ id, cancelled }) => [id, cancelled])).toEqual(
        [0, 1, 2, 3, 4].map((id) => [id, true]),
      );
      const error = await thrownBy(() => lab.transfers.store(9, ids(1), ids(1), -1));
      expect([error.code, error.message]).toEqual(["internal", "the transfers were stopped"]);
      expect(await lab.transfers.stop(0)).toBe(true);
    }),
  );
});

describe("a page", () => {
  for (const checksums of [true, false]) {
    test(
      `that was changed in the host pool ${checksums ? "fails, and only it" : "passes where no checksums are taken"}`,
      inLab({ transfers: { checksums } }, async (lab) => {
        lab.transfers.store(1, ids(1, 2, 3), ids(4, 5, 6), -1);
        await lab.result(1);
        lab.transfers.corruptPage(5);
        lab.transfers.load(2, ids(4, 5, 6), ids(7, 8, 9), -1);
        const result = await lab.result(2);
        expect([...result.failedPages]).toEqual(checksums ? [1] : []);
        expect(result.error?.code).toBe(checksums ? "checksum" : undefined);
        expect(lab.transfers.stats()).toMatchObject({
          wrongChecksums: checksums ? 1 : 0,
          loadBytes: (checksums ? 2 : 3) * lab.transfers.pageBytes,
        });
      }),
    );
  }

  test(
    "that holds nothing fails",
    inLab({}, async (lab) => {
      lab.transfers.load(1, ids(3), ids(1), -1);
      expect((await lab.result(1)).error).toEqual({
        code: "empty",
        message: "host page 3 holds nothing",
      });
    }),
  );
});

describe("tests may", () => {
  test(
    "have steps checked against the flights beside them",
    inLab({ transfers: { manual: true, guardSteps: true } }, async (lab) => {
      const { transfers } = lab;
      const step = (): Promise<number> => lab.step(fillRow(0, [1, 2, 3, 4, 5], [[1, 2]]));
      await step();
      transfers.store(1, ids(1), ids(0), -1);
      transfers.load(2, ids(5), ids(9), -1);
      expect([transfers.begin(1), transfers.begin(2)]).toEqual([true, true]);
      await expect(step()).rejects.toThrow("block 1 is being read elsewhere");
      transfers.run(1);
      await lab.result(1);
      await step();
    }),
  );

  test(
    "run flights in any order, late, never, and let pages of them fail",
    inLab({ transfers: { manual: true } }, async (lab) => {
      const { transfers } = lab;
      for (let id = 0; id < 5; id++) transfers.store(id, ids(1, 2), ids(2 * id, 2 * id + 1), -1);
      expect([transfers.run(3), transfers.run(3), transfers.run(9)]).toEqual([true, false, false]);
      await lab.result(3);
      expect(transfers.run(1, [1])).toBe(true);
      expect(transfers.run(0, "all")).toBe(true);
      expect([...(await lab.result(1)).failedPages]).toEqual([1]);
      expect([...(await lab.result(0)).failedPages]).toEqual([0, 1]);
      expect([transfers.begin(2), transfers.cancel(2), transfers.cancel(4)]).toEqual([
        true,
        false,
        true,
      ]);
      expect((await thrownBy(() => transfers.run(2, [2]))).message).toContain("allowed is 0 to 1");
      expect(await transfers.stop(10_000)).toBe(true);
      expect(await lab.result(2)).toMatchObject({
        cancelled: false,
        error: { code: "deadline" },
      });
    }),
  );

  test(
    "hold a flight on a slow link, and let it go",
    inLab({ transfers: { linkBytesPerSecond: 0.001 } }, async (lab) => {
      lab.transfers.store(1, ids(1), ids(1), -1);
      lab.transfers.load(2, ids(1), ids(2), 1000);
      expect(lab.transfers.stats().pending).toBe(2);
      lab.transfers.setLinkBytesPerSecond(0);
      expect(await lab.result(1)).toMatchObject({ ok: true });
    }),
  );
});

describe("wrong arguments", () => {
  test(
    "are refused with what is allowed",
    inLab({}, async (lab) => {
      const { transfers } = lab;
      for (const [call, message] of [
        [() => transfers.store(1, ids(0), ids(0), -1), "flight 1: block 0, allowed is 1 to 63"],
        [
          () => transfers.load(1, ids(64), ids(1), -1),
          "flight 1: host page 64, allowed is 0 to 63",
        ],
        [() => transfers.store(1, ids(1, 2), ids(1), -1), "flight 1: 1 host pages and 2 places"],
        [() => transfers.setStoreShare(2), "storeShare is 2, allowed is 0 to 1"],
        [
          () => transfers.readPages(1, placeOf("x", 0.5), keysOf(ids(0)), ids(0)),
          "flight 1: an offset is 0.5, allowed is whole numbers from 0 to 2^53",
        ],
      ] as const) {
        const error = await thrownBy(call);
        expect(error.code).toBe("internal");
        expect(error.message).toStartWith(message);
      }
      expect(transfers.stats().pending).toBe(0);
    }),
  );

  test("a pool beyond memory is refused with the number of pages that fit", async () => {
    const error = await thrownBy(() =>
      TransferLab.open({ groups: GROUPS, transfers: { hostPages: 2 ** 31 - 1 } }),
    );
    expect(error.code).toBe("out_of_memory");
    expect(error.message).toMatch(/2147483647 pages of 64 bytes .*; \d+ pages fit$/);
    const lab = await TransferLab.open();
    expect(lab.runner.hostPagesThatFit()).toBeWithin(1, memoryAvailable() / 64);
    await lab.close();
  });
});

test(
  "no byte of a page is copied on a JavaScript thread",
  inLab({}, async (lab) => {
    const { transfers } = lab;
    const path = join(FOLDER, "counted");
    transfers.store(1, ids(1, 2), ids(0, 1), -1);
    await lab.result(1);
    transfers.load(2, ids(0, 1), ids(3, 4), -1);
    await lab.result(2);
    transfers.writePages(3, placeOf(path, 0, 100), keysOf(ids(0, 1)), ids(0, 1));
    await lab.result(3);
    transfers.readPages(4, placeOf(path, 100, 0), keysOf(ids(1, 0)), ids(2, 3));
    await lab.result(4);
    const bytes = 2 * transfers.pageBytes;
    expect(transfers.stats()).toMatchObject({
      ...{ storeBytes: bytes, loadBytes: bytes, fileReadBytes: bytes, fileWriteBytes: bytes },
      ...{ stores: 1, loads: 1, fileReads: 1, fileWrites: 1, failed: 0, failedPages: 0 },
      copiedByTransferThreads: 4 * bytes,
      copiedByOtherThreads: 0,
    });
  }),
);

/** Sequences whose blocks are stored and loaded elsewhere, in an order of the property's choice, with pages that fail. */
const journeys = fc.record({
  prompts: fc.array(
    fc.array(fc.nat(20), { minLength: BLOCK_SIZE + 1, maxLength: 4 * BLOCK_SIZE }),
    { minLength: 1, maxLength: 4 },
  ),
  order: fc.array(fc.nat(1000), { minLength: 8, maxLength: 8 }),
  failing: fc.array(fc.boolean(), { minLength: 16, maxLength: 16 }),
});

test("flights run in any order bring every block that they do not say has failed", async () => {
  const groups: readonly LabGroup[] = [{ kind: "full", window: 0 }];
  const lab = await TransferLab.open({ groups, transfers: { manual: true } });
  let flight = 0;
  const runAll = async (
    first: number,
    count: number,
    order: readonly number[],
    fails: (id: number) => number[],
  ) => {
    const flights = Array.from({ length: count }, (_, i) => first + i);
    for (const id of flights.toSorted((a, b) => order[a - first]! - order[b - first]!))
      expect(lab.transfers.run(id, fails(id))).toBe(true);
    for (const id of flights) await lab.result(id);
  };
  await fc.assert(
    fc.asyncProperty(journeys, async ({ prompts, order, failing }) => {
      const sequences = prompts.map((prompt, seat) => {
        const full = Math.floor((prompt.length - 1) / BLOCK_SIZE);
        const from = Array.from({ length: 4 }, (_, i) => 1 + 4 * seat + i);
        const to = from.map((block) => block + 16);
        const pages = from.slice(0, full).map((block) => block + 20);
        return { prompt, seat, full, from, to, pages };
      });
      const stores = flight;
      for (const { full, from, pages } of sequences)
        lab.transfers.store(flight++, ids(...from.slice(0, full)), ids(...pages), lab.nextStep);
      void lab.step(
        ...sequences.map(({ prompt, seat, full, from }) =>
          fillRow(seat, prompt.slice(0, full * BLOCK_SIZE), [from.slice(0, full)]),
        ),
      );
      await runAll(stores, sequences.length, order, () => []);
      const loads = flight;
      for (const { full, to, pages } of sequences)
        lab.transfers.load(flight++, ids(...pages), ids(...to.slice(0, full)), lab.nextStep - 1);
      const failed = (id: number): number[] =>
        [...Array(sequences[id - loads]!.full).keys()].filter((i) => failing[4 * (id - loads) + i]);
      await runAll(loads, sequences.length, order.toReversed(), failed);
      for (const [i, { prompt, seat, full, to, from }] of sequences.entries()) {
        const { failedPages } = await lab.result(loads + i);
        expect([...failedPages]).toEqual(failed(loads + i));
        // What has failed is taken from where it came from.
        const table = to.map((block, entry) =>
          failedPages.includes(entry) ? from[entry]! : block,
        );
        const start = full * BLOCK_SIZE;
        const token = await lab.step({ seat, start, tokens: prompt.slice(start), tables: [table] });
        expect(token).toBe(expectedToken(prompt, groups));
      }
      lab.results.length = 0;
    }),
    propertyRuns(150),
  );
  await lab.close();
});
