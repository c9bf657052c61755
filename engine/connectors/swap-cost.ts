/**
 * Whether a preempted request's blocks are copied to the host before they are given to others, or computed again: a pure function of
 * measured numbers. The copy is paid for now, by those who wait for the blocks; what it saves is paid for later, and only as far as the
 * blocks are lost to the device and kept by the host until the request goes on.
 */

export interface SwapCost {
  /** Tokens of the full blocks that nobody else uses. */
  readonly numTokens: number;
  /** Bytes of these blocks: all of them, and those that have no copy yet. */
  readonly bytes: number;
  readonly bytesToStore: number;
  readonly storeBytesPerSecond: number;
  readonly loadBytesPerSecond: number;
  /** From the call to the first copy of a load. */
  readonly loadLatencyMs: number;
  readonly msPerPromptToken: number;
  /** Share of the blocks that are given to others before the request goes on, 0 to 1. */
  readonly shareTaken: number;
  /** Share of the copies that are forgotten before the request goes on, 0 to 1. */
  readonly shareForgotten: number;
}

export type SwapDecision = "swap" | "recompute";

export function decideSwap(cost: SwapCost): SwapDecision {
  const { numTokens, shareTaken, shareForgotten } = cost;
  const computeMs = shareTaken * numTokens * cost.msPerPromptToken;
  const storeMs = msOf(cost.bytesToStore, cost.storeBytesPerSecond);
  const loadMs = cost.loadLatencyMs + msOf(shareTaken * cost.bytes, cost.loadBytesPerSecond);
  const swapMs = storeMs + (1 - shareForgotten) * loadMs + shareForgotten * computeMs;
  return swapMs < computeMs ? "swap" : "recompute";
}

/** Nothing takes no time, however slow the way is. */
function msOf(bytes: number, bytesPerSecond: number): number {
  return bytes === 0 ? 0 : (1000 * bytes) / bytesPerSecond;
}
