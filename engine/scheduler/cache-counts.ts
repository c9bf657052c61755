/**
 * How many prompt tokens the prefix cache and connectors were asked for and had, since the start. A request counts with its first token:
 * by then it is known what came, whatever was promised, so no count ever falls.
 */

import type { Sequence } from "./sequence.ts";

export class CacheCounts {
  /** Tokens that were looked up at admission, and those of them that the device had. */
  queries = 0;
  hits = 0;
  /** Tokens that the device did not have, where connectors could be asked, and those that they brought, by tier too. */
  externalQueries = 0;
  externalHits = 0;
  readonly loadedPromptTokens: Record<string, number> = {};
  /** See `CacheReceipt.savedMs`. */
  savedMs = 0;

  /** The sequence has its first token, and its receipt where anything was cached. */
  firstToken({ numQueriedTokens, cacheReceipt }: Sequence, hasConnectors: boolean): void {
    const { device = 0, ...brought } = cacheReceipt?.byTier ?? {};
    this.queries += numQueriedTokens;
    this.hits += device;
    if (hasConnectors) this.externalQueries += Math.max(0, numQueriedTokens - device);
    this.savedMs += cacheReceipt?.savedMs ?? 0;
    for (const [tier, tokens] of Object.entries(brought)) {
      this.externalHits += tokens;
      this.loadedPromptTokens[tier] = (this.loadedPromptTokens[tier] ?? 0) + tokens;
    }
  }
}
