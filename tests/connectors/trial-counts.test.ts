/** What `connectors test` says of a connector that breaks no rule: numbers, and what is rarely meant. */

import { expect, test } from "bun:test";
import type { SchedulerOutput, TransferResult } from "../../connectors/connector.ts";
import { notesOn, showCounts, sumCounts, type TrialCounts } from "../../connectors/trial-counts.ts";
import { harnessOf } from "../support/conformance-harness.ts";
import BlockOriented from "./examples/block-oriented.ts";

async function countsOf(exported: unknown): Promise<TrialCounts> {
  const harness = harnessOf(exported);
  const options = { spareBlocks: 4, hostPages: 64, fates: ["ends"], disturbs: false } as const;
  const reports = [1, 2, 3].map((seed) => harness.serve({ ...options, seed }));
  return sumCounts((await Promise.all(reports)).map(({ counts }) => counts));
}

test("one that works stores, brings what it promised, and keeps nothing", async () => {
  const counts = await countsOf(BlockOriented);
  expect(counts.stored).toBeGreaterThan(10);
  expect(Number.isInteger(counts.stored)).toBe(true);
  expect(counts.loaded).toBeGreaterThan(10);
  expect(counts).toMatchObject({ neverBegun: 0, loadsRefused: 0, kept: 0 });
  expect(notesOn(counts)).toEqual([]);
  expect(showCounts(counts)).toStartWith(
    `in the trials it stored ${counts.stored} blocks, loaded ${counts.loaded} of ${counts.promised} promised, and kept 0 pages`,
  );
});

test("one that keeps pages for good is told how many", async () => {
  class Leaks extends BlockOriented {
    override resetCache(): void {}
    override findBlocks(): undefined {}
  }
  const counts = await countsOf(Leaks);
  expect(counts.kept).toBeGreaterThan(0);
  expect(notesOn(counts)).toContainEqual(expect.stringContaining("pages were kept after a reset"));
});

test("one that stores for nobody is told", async () => {
  class Stores extends BlockOriented {
    override findBlocks(): undefined {}
  }
  const counts = await countsOf(Stores);
  expect(counts).toMatchObject({ promised: 0, loaded: 0, kept: 0 });
  expect(notesOn(counts)).toEqual([
    expect.stringContaining("nothing that it stored was ever used"),
  ]);
});

test("one that does nothing is told", async () => {
  class Sleeps extends BlockOriented {
    override buildConnectorMeta(_output: SchedulerOutput): void {}
    override updateConnectorOutput(_results: readonly TransferResult[]): void {}
  }
  expect(notesOn(await countsOf(Sleeps))).toEqual(["it stored nothing and promised nothing"]);
});

test("refused loads are told of, refused stores are not", () => {
  const none = { stored: 5, promised: 3, loaded: 3, neverBegun: 0, kept: 0 };
  expect(notesOn({ ...none, storesRefused: 7, loadsRefused: 0 })).toEqual([]);
  expect(notesOn({ ...none, storesRefused: 0, loadsRefused: 1 })).toEqual([
    expect.stringContaining("loads were refused"),
  ]);
});
