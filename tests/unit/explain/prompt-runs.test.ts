/** An eviction is told of a computed block only where it must be why the block was computed. */

import { describe, expect, test } from "bun:test";
import { blockKey } from "../../../engine/cache/block-key.ts";
import type { KvCache } from "../../../engine/cache/kv-cache.ts";
import { Removals } from "../../../engine/cache/removals.ts";
import { runsOf } from "../../../engine/explain/prompt-runs.ts";
import type { Admission, RecentRequest } from "../../../engine/explain/recent-requests.ts";
import { hashBlocks, noneHash } from "../../../engine/runner/native.ts";

const HASHES = hashBlocks(
  noneHash("0"),
  Int32Array.from({ length: 20 }, (_, i) => i),
  4,
);

interface Odds {
  readonly admission?: Partial<Admission>;
  readonly numAdmissions?: number;
  readonly numGroups?: number;
}

/** What is said of a prompt of five blocks of four tokens, of which all were computed and the third had been evicted before. */
function kindsOf({ admission, numAdmissions = 1, numGroups = 1 }: Odds): readonly string[] {
  const removals = new Removals(16);
  removals.addKey(blockKey(HASHES, 2 * 8, 0), "evicted", 5);
  const request = {
    admission: {
      ...{ maxBlocks: 4, numDeviceBlocks: 0, numBlocks: 0, numOfferedBlocks: 0, usesAll: true },
      ...{ order: 0, removals: removals.total, drops: 0, generation: 0, lackingGroups: [0] },
      ...admission,
    },
    numAdmissions,
    numPromptTokens: 20,
    hashes: HASHES,
    loading: new Set(),
    outcome: { cachedTokens: 0, receipt: undefined, computed: [0, 20], loadFailed: false },
  } as unknown as RecentRequest;
  const groups = Array.from({ length: numGroups });
  const kv = { groups, prefixCaching: true, blockSize: 4 } as unknown as KvCache;
  return runsOf(request, kv, removals).map(({ start, end, kind }) => `${start}-${end} ${kind}`);
}

const SILENT = ["0-16 computed", "16-20 last"];

describe("an evicted block that was computed", () => {
  test("is told as such where nothing else can be why", () => {
    expect(kindsOf({})).toEqual(["0-8 computed", "8-12 evicted", "12-16 computed", "16-20 last"]);
  });

  test.each([
    ["some layers may have had it: there are two groups", { numGroups: 2 }],
    ["what was found behind a gap was not used", { admission: { usesAll: false } }],
    ["it was let in twice, and may have computed it for the second time", { numAdmissions: 2 }],
    [
      "a connector offered it and it was quicker to compute",
      { admission: { numOfferedBlocks: 3 } },
    ],
  ] as const)("is not, where %s", (_, odds) => {
    expect(kindsOf(odds)).toEqual(SILENT);
  });

  test("is not, where it was evicted after the request had been let in", () => {
    expect(kindsOf({ admission: { removals: 0 } })).toEqual(SILENT);
  });
});
