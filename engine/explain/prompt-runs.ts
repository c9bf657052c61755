/** A prompt as runs of tokens with one fate each. */

import type { KvCache } from "../cache/kv-cache.ts";
import type { Removal, Removals } from "../cache/removals.ts";
import type { PromptRun } from "./facts.ts";
import type { RecentRequest } from "./recent-requests.ts";

/** Empty before the first token. */
export function runsOf(request: RecentRequest, kv: KvCache, removals: Removals): PromptRun[] {
  const { outcome, numPromptTokens } = request;
  if (outcome === undefined) return [];
  const runs: PromptRun[] = [];
  const computed = computedBlocks(request, kv, removals);
  let at = 0;
  for (let i = 0; i <= outcome.computed.length; i += 2) {
    const start = outcome.computed[i] ?? numPromptTokens;
    const end = outcome.computed[i + 1] ?? numPromptTokens;
    addByBlock(runs, at, start, kv.blockSize, (block) => cachedRun(request, block));
    addByBlock(runs, start, end, kv.blockSize, computed);
    at = end;
  }
  return runs;
}

type Fate = Pick<PromptRun, "kind" | "tier">;

function cachedRun({ loading, outcome }: RecentRequest, block: number): Fate {
  const tiers = Object.keys(outcome?.receipt?.byTier ?? {}).filter((tier) => tier !== "device");
  // What was brought for an earlier try of the same request is on the device by now.
  if (!loading.has(block) || tiers.length === 0) return { kind: "cached", tier: "device" };
  // Which block came from which of several is not remembered.
  return { kind: "cached", tier: tiers.length === 1 ? (tiers[0] as string) : tiers.join(" or ") };
}

function computedBlocks(
  request: RecentRequest,
  kv: KvCache,
  removals: Removals,
): (block: number) => Fate {
  const { admission, numPromptTokens, hashes } = request;
  const end = kv.prefixCaching ? Math.floor((numPromptTokens - 1) / kv.blockSize) : 0;
  const removed = new Map<number, Removal>();
  // With several groups, and where something found was not used or was lost again, an old removal proves nothing.
  const isCertain = kv.groups.length === 1 && admission?.usesAll === true;
  if (
    isCertain &&
    request.numAdmissions === 1 &&
    admission.numOfferedBlocks === admission.numBlocks
  ) {
    const range = { from: admission.numBlocks, to: end, before: admission.removals };
    for (const [block, removal] of removals.lastOf(hashes, 0, range)) removed.set(block, removal);
  }
  return (block) => {
    const cause = removed.get(block)?.cause;
    if (cause === "evicted" || cause === "reset") return { kind: cause };
    if (cause === "withdrawn") return { kind: "step_failed" };
    return { kind: kv.prefixCaching && block >= end ? "last" : "computed" };
  };
}

/** Cuts the tokens `start` up to `end` at block boundaries, and joins what has one fate. */
function addByBlock(
  runs: PromptRun[],
  start: number,
  end: number,
  blockSize: number,
  fateOf: (block: number) => Fate,
): void {
  for (let at = start; at < end;) {
    const block = Math.floor(at / blockSize);
    const next = Math.min(end, (block + 1) * blockSize);
    const fate = fateOf(block);
    const before = runs.at(-1);
    if (before !== undefined && before.kind === fate.kind && before.tier === fate.tier)
      runs[runs.length - 1] = { ...before, end: next };
    else runs.push({ start: at, end: next, ...fate });
    at = next;
  }
}
