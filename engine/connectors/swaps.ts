/** Of preempted requests: whether their blocks are copied to the host before others get them, and how often that was decided. */

import { NULL_BLOCK } from "../cache/block-pool.ts";
import type { SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { Sequence } from "../scheduler/sequence.ts";
import type { PageTransfers } from "../cache/page-transfers.ts";
import type { HostPages } from "./host-pages.ts";
import type { Ledgers } from "./ledgers.ts";
import { decideSwap, type SwapDecision } from "./swap-cost.ts";
import { FIRST_BYTES_PER_SECOND, loadRateOf } from "./transfer-rates.ts";

export class Swaps {
  /** For metrics: times of each. */
  readonly decisions: Record<SwapDecision, number> = { swap: 0, recompute: 0 };
  readonly #side: SchedulerSide;
  readonly #ledgers: Ledgers;
  readonly #pages: HostPages;
  readonly #transfers: Pick<PageTransfers, "pageBytes" | "stats">;

  constructor(
    side: SchedulerSide,
    ledgers: Ledgers,
    pages: HostPages,
    transfers: Pick<PageTransfers, "pageBytes" | "stats">,
  ) {
    this.#side = side;
    this.#ledgers = ledgers;
    this.#pages = pages;
    this.#transfers = transfers;
  }

  /** Of a running sequence that gives its blocks up, and still has them. */
  decide(sequence: Sequence, msPerPromptToken: number): SwapDecision {
    const { kv, numBlocksToFirstEnd } = this.#side;
    const { pool, blockSize, groups } = kv;
    let numOwn = 0;
    let numToStore = 0;
    for (const { entries } of sequence.blocks.tables) {
      for (const id of entries) {
        if (id === NULL_BLOCK || !pool.isHashed(id) || pool.references(id) > 1) continue;
        numOwn++;
        if (!this.#ledgers.isSafe(id)) numToStore++;
      }
    }
    // Until one of the others ends nobody gives back so much that the request could go on.
    const numTaken = Math.max(0, numBlocksToFirstEnd(sequence) - pool.numFree);
    const { pageBytes } = this.#transfers;
    const stats = this.#transfers.stats();
    const decision = decideSwap({
      numTokens: (numOwn / groups.length) * blockSize,
      bytes: numOwn * pageBytes,
      bytesToStore: numToStore * pageBytes,
      storeBytesPerSecond: stats.storeBytesPerSecond || FIRST_BYTES_PER_SECOND,
      loadBytesPerSecond: loadRateOf(stats),
      loadLatencyMs: stats.loadLatencyMicros / 1000,
      msPerPromptToken,
      shareTaken: shareOf(numTaken, numOwn),
      // As much as others take is stored after it, at most; the host forgets what was stored first.
      shareForgotten: shareOf(numOwn + numTaken - this.#pages.numPages, numOwn),
    });
    this.decisions[decision]++;
    return decision;
  }
}

function shareOf(part: number, all: number): number {
  return all === 0 ? 0 : Math.min(1, Math.max(0, part / all));
}
