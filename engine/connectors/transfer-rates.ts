/** What transfers and the host pool are like now: read when it is asked for, since the native side's numbers cost a call. */

import type { TransferRates } from "../../connectors/connector.ts";
import type { PageTransfers, TransferStats } from "../cache/page-transfers.ts";
import type { HostPoolState } from "../request.ts";
import type { HostPages } from "./host-pages.ts";

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
  const isGrowing = numReady < numPages && transfers.stats().growing;
  return { numPages, numReady, numUsed, pageBytes, isGrowing };
}
