/** What a request is told of the prompt tokens that were not computed for it. */

import type { CacheReceipt } from "../request.ts";
import type { Sequence } from "./sequence.ts";

/** `microsPerToken`: what computing a prompt token has cost lately; 0 = not known, then nothing counts as saved. */
export function receiptOf(sequence: Sequence, microsPerToken: number): CacheReceipt {
  const { numCachedTokens, loadedByTier, loadingSince, loadedAt } = sequence;
  const tokens = Math.max(0, numCachedTokens);
  let loaded = 0;
  for (const some of Object.values(loadedByTier)) loaded += some;
  const loadMs = loaded === 0 ? 0 : Math.max(0, loadedAt - loadingSince);
  return {
    byTier: { device: tokens - loaded, ...loadedByTier },
    loadMs,
    savedMs: Math.max(0, (tokens * microsPerToken) / 1000 - loadMs),
  };
}
