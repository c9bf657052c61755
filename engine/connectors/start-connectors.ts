/** Starts the connectors of an engine: the host's pages, the threads that move them, and everyone's place at the scheduler. */

import type { EngineConfig } from "../config.ts";
import type { FlightResult, PageTransfers } from "../cache/page-transfers.ts";
import type { SchedulerConnectors, SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { ConnectorHost } from "./connector-host.ts";
import { joinScheduler } from "./join-scheduler.ts";
import type { KvConnectors } from "./kv-connectors.ts";

/** Of the free memory, what host pages may take when no size is given. */
const MEMORY_SHARE = 0.25;
/** Of the device's blocks, what may be in stores of one connector at a time. */
const FLYING_SHARE = 0.125;
const MOST_FLYING = 256;

export interface StartConnectorsOptions {
  /** Opens a host pool of so many pages. Throws `out_of_memory` when they do not fit. */
  readonly openTransfers: (
    hostPages: number,
    onResults: (results: readonly FlightResult[]) => void,
  ) => PageTransfers;
  readonly pageBytes: number;
  /** Bytes that are free now. */
  readonly memoryAvailable: () => number;
  /** Something that requests wait for has happened. */
  readonly onNews: () => void;
}

export interface StartedConnectors {
  readonly transfers: PageTransfers;
  /** For `SchedulerTools`: called once. */
  readonly create: (side: SchedulerSide) => SchedulerConnectors;
}

export function startConnectors(
  config: EngineConfig,
  host: ConnectorHost,
  { openTransfers, pageBytes, memoryAvailable, onNews }: StartConnectorsOptions,
): StartedConnectors {
  const bytes = config.kvOffloadSize || Math.floor(memoryAvailable() * MEMORY_SHARE);
  const hostPages = host.keepsPages ? Math.max(1, Math.floor(bytes / pageBytes)) : 1;
  let connectors: KvConnectors | undefined;
  const transfers = openTransfers(hostPages, (results) => {
    connectors?.flights.report(results);
    onNews();
  });
  const create = (side: SchedulerSide): SchedulerConnectors => {
    const numBlocks = side.kv.pool.numBlocks - 1;
    connectors = joinScheduler(
      side,
      host,
      transfers,
      {
        lookupTimeoutMs: config.kvConnectorLookupTimeout * 1000,
        loadTimeoutMs: config.kvConnectorLoadTimeout * 1000,
        recallMs: config.kvConnectorRecallMs,
        holdTtlMs: config.kvConnectorHoldTtl * 1000,
        maxHeld: config.kvConnectorMaxHeld,
        maxFlying: Math.max(1, Math.min(MOST_FLYING, Math.floor(numBlocks * FLYING_SHARE))),
        maxBatchedTokens: config.maxNumBatchedTokens,
      },
      onNews,
    );
    return connectors;
  };
  return { transfers, create };
}
