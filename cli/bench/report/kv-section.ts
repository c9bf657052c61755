/** What `bench kv` says beside the comparison: what the caches of each side did, and why there is no verdict where there is none. */

import { formatNumber } from "./format.ts";
import type { KvFindings } from "./report.ts";
import type { Section } from "./section.ts";

export function kvSection({ workingSet, sides, refusals }: KvFindings): Section {
  const sources = [...new Set(sides.flatMap(({ tokens }) => Object.keys(tokens)))];
  return {
    title: "KV of each side: means of its runs",
    columns: [
      "side",
      "flags",
      "blocks",
      "evicted",
      "preemptions",
      ...sources.map((source) => `prompt ${source}`),
      "CPU ms/token",
    ],
    texts: ["flags"],
    rows: sides.map((side) => [
      side.name,
      side.flags,
      String(side.numBlocks ?? "-"),
      formatNumber(side.evictedBlocks),
      formatNumber(side.preemptions),
      ...sources.map((source) => formatNumber(side.tokens[source] ?? 0)),
      formatNumber(side.cpuMsPerToken),
    ]),
    notes: [
      ...(workingSet === undefined ? [] : [`${workingSet} blocks come again.`]),
      ...(refusals.length === 0 ? ["The answers are the same on all sides."] : []),
      ...refusals.map((reason) => `No verdict: ${reason}.`),
    ],
  };
}
