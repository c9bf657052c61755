/**
 * Whether a request's missing KV is loaded or computed: a pure function of measured numbers, so that a request never waits for a load
 * when computing is quicker. Both ways grow with the number of tokens, so the best mixture (the head computed while the tail loads)
 * is where both end at the same time.
 */

export interface LoadCost {
  /** Tokens that are missing, and those of them that can be loaded: a tail of the missing ones. */
  readonly numTokens: number;
  readonly blockSize: number;
  /** Bytes that a block's load moves, over all groups. */
  readonly bytesPerBlock: number;
  readonly loadBytesPerSecond: number;
  /** From the call to the first copy, when nothing is queued. */
  readonly loadLatencyMs: number;
  /** Bytes of loads that go before. */
  readonly queuedLoadBytes: number;
  readonly msPerPromptToken: number;
  /** Prompt tokens of others that are computed before. */
  readonly queuedPromptTokens: number;
}

export interface LoadDecision {
  /** Leading blocks of the missing ones that are computed; the rest is loaded. */
  readonly numComputed: number;
  /** Estimates, in milliseconds, until the missing tokens are there: as decided, and when all are computed. */
  readonly decidedMs: number;
  readonly computeMs: number;
}

/** Loading everything, when it is at least this much better than the mixture, saves the device's time for others. */
const MIXTURE_GAIN = 0.8;

export function decideLoad(cost: LoadCost): LoadDecision {
  const { numTokens, blockSize, bytesPerBlock, msPerPromptToken } = cost;
  const numBlocks = Math.ceil(numTokens / blockSize);
  const loadMsPerBlock = (bytesPerBlock / cost.loadBytesPerSecond) * 1000;
  const loadStartMs = cost.loadLatencyMs + (cost.queuedLoadBytes / cost.loadBytesPerSecond) * 1000;
  const computeStartMs = cost.queuedPromptTokens * msPerPromptToken;
  const loadMs = (blocks: number): number =>
    blocks === 0 ? 0 : loadStartMs + blocks * loadMsPerBlock;
  const computeMs = (blocks: number): number =>
    blocks === 0 ? 0 : computeStartMs + blocks * blockSize * msPerPromptToken;
  const allLoaded = loadMs(numBlocks);
  const allComputed = computeMs(numBlocks);
  // computeStart + x·c = loadStart + (n - x)·l
  const computePerBlock = blockSize * msPerPromptToken;
  const balanced =
    (loadStartMs - computeStartMs + numBlocks * loadMsPerBlock) /
    (computePerBlock + loadMsPerBlock);
  const numHead = Math.min(numBlocks - 1, Math.max(1, Math.round(balanced)));
  const mixed =
    numBlocks < 2 ? Infinity : Math.max(computeMs(numHead), loadMs(numBlocks - numHead));
  const simple = Math.min(allLoaded, allComputed);
  if (mixed < simple * MIXTURE_GAIN)
    return { numComputed: numHead, decidedMs: mixed, computeMs: allComputed };
  const loads = allLoaded <= allComputed;
  return { numComputed: loads ? 0 : numBlocks, decidedMs: simple, computeMs: allComputed };
}
