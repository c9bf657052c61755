/** What an answer says of the prompt tokens that were not computed for it. */

import type { CacheReceipt } from "../request.ts";

/** Prompts of one answer were loaded side by side: the longest wait is the answer's. */
export function sumOfReceipts(receipts: readonly CacheReceipt[]): CacheReceipt {
  const byTier: Record<string, number> = {};
  for (const receipt of receipts)
    for (const [tier, tokens] of Object.entries(receipt.byTier))
      byTier[tier] = (byTier[tier] ?? 0) + tokens;
  return {
    byTier,
    loadMs: Math.max(...receipts.map(({ loadMs }) => loadMs)),
    savedMs: receipts.reduce((sum, { savedMs }) => sum + savedMs, 0),
  };
}

/** In `usage.prompt_tokens_details`: tokens by tier, and milliseconds. */
export interface ReceiptJson {
  readonly cached_tokens_details: Readonly<Record<string, number>>;
  readonly load_ms: number;
  readonly saved_ms: number;
}

export function receiptJson(receipt: CacheReceipt): ReceiptJson {
  return {
    cached_tokens_details: receipt.byTier,
    load_ms: roundedMs(receipt.loadMs),
    saved_ms: roundedMs(receipt.savedMs),
  };
}

function roundedMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
