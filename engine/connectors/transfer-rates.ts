/** What transfers and the host pool are like now: read when it is asked for, since the native side's numbers cost a call. */

import type { TransferRates } from "../../connectors/connector.ts";
import type { PageTransfers, TransferStats } from "../cache/page-transfers.ts";
import type { HostPoolState } from "../request.ts";
import type { HostPages } from "./host-pages.ts";

/** Until the first transfers have ended: that of a slow memory. */
export const FIRST_BYTES_PER_SECOND = 1e9;

/** Bytes a second of loads; before the first one they count as stores do. */
export function loadRateOf(stats: TransferStats): number {
  return stats.loadBytesPerSecond || stats.storeBytesPerSecond || FIRST_BYTES_PER_SECOND;
}

/** `storeMs`: see `TransferRates`. */
export function ratesOf(transfers: PageTransfers, storeMs: number): TransferRates {
  const stats = (): TransferStats => transfers.stats();
  return {
    storeMs,
    get loadBytesPerSecond(): number {
      return stats().loadBytesPerSecond;
    },
    get storeBytesPerSecond(): number {
      return stats().storeBytesPerSecond;
    },
    get latencyMs(): number {
      return stats().loadLatencyMicros / 1000;
    },
  };
}

export function hostPoolOf(transfers: PageTransfers, pages: HostPages): HostPoolState {
  const { numPages, numUsed } = pages;
  const { numReady, pageBytes } = transfers;
  const isGrowing = numReady < numPages && transfers.isGrowing;
  return { numPages, numReady, numUsed, pageBytes, isGrowing };
}
