/** What a request is told of the prompt tokens that were not computed for it. */

import type { CacheReceipt } from "../request.ts";
import type { Sequence } from "./sequence.ts";

/** `microsPerToken`: what computing a prompt token has cost lately; 0 = not known, then nothing counts as saved. */
export function receiptOf(sequence: Sequence, microsPerToken: number): CacheReceipt {
  const { numCachedTokens, loadedByTier, loadingSince, loadedAt } = sequence;
  const byTier: Record<string, number> = { device: 0 };
  let left = numCachedTokens;
  for (const [tier, tokens] of Object.entries(loadedByTier)) {
    // Brought in vain where it was computed after all.
    byTier[tier] = Math.min(tokens, left);
    left -= byTier[tier];
  }
  byTier["device"] = left;
  const loadMs = left === numCachedTokens ? 0 : Math.max(0, loadedAt - loadingSince);
  return {
    byTier,
    loadMs,
    savedMs: Math.max(0, (numCachedTokens * microsPerToken) / 1000 - loadMs),
  };
}
