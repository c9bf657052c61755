/**
 * How many tokens the prefix cache and connectors were asked for and had, since the start. No count ever falls: what connectors
 * promise counts once all of it has come.
 */

import { NONE, type Sequence } from "./sequence.ts";

export class CacheCounts {
  /** Tokens looked up at admission, and those that the device had. */
  queries = 0;
  hits = 0;
  /** Tokens that the device did not have, where connectors could be asked, and those that they brought. */
  externalQueries = 0;
  externalHits = 0;
  /** Prompt tokens of sequences with a first token: found on the device, and brought by connectors, by tier. */
  cachedPromptTokens = 0;
  readonly loadedPromptTokens: Record<string, number> = {};
  /** See `CacheReceipt.savedMs`. */
  savedMs = 0;

  /** The sequence was admitted with `numCachedTokens` and `loadedByTier` set; `queried` tokens of it were looked up. */
  admitted(sequence: Sequence, queried: number, hasConnectors: boolean): void {
    sequence.numQueriedTokens = queried;
    sequence.numExternalQueries = hasConnectors ? Math.max(0, queried - numFound(sequence)) : 0;
    if (sequence.blocks.numLoading === 0) this.arrived(sequence);
  }

  /** All that connectors bring for the sequence has come. */
  arrived(sequence: Sequence): void {
    if (sequence.isCounted || sequence.numCachedTokens === NONE) return;
    sequence.isCounted = true;
    this.queries += sequence.numQueriedTokens;
    this.hits += numFound(sequence);
    this.externalQueries += sequence.numExternalQueries;
    this.externalHits += numLoaded(sequence);
  }

  /** The sequence has its first token, and some of its prompt was cached. */
  firstToken(sequence: Sequence): void {
    this.savedMs += sequence.cacheReceipt?.savedMs ?? 0;
    this.cachedPromptTokens += numFound(sequence);
    for (const [tier, tokens] of Object.entries(sequence.loadedByTier))
      this.loadedPromptTokens[tier] = (this.loadedPromptTokens[tier] ?? 0) + tokens;
  }
}

/** Tokens that connectors bring, or have brought. */
function numLoaded({ loadedByTier }: Sequence): number {
  let sum = 0;
  for (const tokens of Object.values(loadedByTier)) sum += tokens;
  return sum;
}

/** Tokens that the device had. */
function numFound(sequence: Sequence): number {
  return Math.max(0, sequence.numCachedTokens) - numLoaded(sequence);
}
