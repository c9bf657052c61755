/** Starts the connectors of an engine: the host's pages, the threads that move them, and everyone's place at the scheduler. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import type { EngineConfig } from "../config.ts";
import type { DiskStore } from "../cache/disk-store.ts";
import type { FlightResult, PageTransfers } from "../cache/page-transfers.ts";
import type { SchedulerConnectors, SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { DiskPins } from "./disk-pins.ts";
import type { ConnectorHost } from "./connector-host.ts";
import type { LogLine } from "./connector-log.ts";
import { openHostPool } from "./host-pool-size.ts";
import { joinScheduler } from "./join-scheduler.ts";
import type { KvConnectors } from "./kv-connectors.ts";
import { Retained } from "./retained.ts";

/** Of the device's blocks, what may be in stores of one connector at a time. */
const FLYING_SHARE = 0.25;
const MOST_FLYING = 256;

export interface StartConnectorsOptions<T extends PageTransfers> {
  /** Opens a host pool of so many pages. Throws `out_of_memory` when they do not fit. */
  readonly openTransfers: (
    hostPages: number,
    onResults: (results: readonly FlightResult[]) => void,
  ) => T;
  readonly pageBytes: number;
  /** See `HostPages.layout`. */
  readonly pageLayout: string;
  /** Bytes that are free now. */
  readonly memoryAvailable: () => number;
  /** Something that requests wait for has happened. */
  readonly onNews: () => void;
  /** Connectors let go of copies of this content. */
  readonly onRemoved?: (keys: readonly BlockKey[]) => void;
  readonly log: LogLine;
}

/** What pages are kept with beyond the process. */
export interface KeptPages {
  /** Where `--kv-disk-path` names one. */
  readonly disk?: DiskStore;
  /** See `modelFingerprint`; left out = no connector keeps files. */
  readonly fingerprint?: string;
  /** What is pinned on the disk. */
  readonly diskPins?: Pick<DiskPins, "stored">;
}

export interface StartedConnectors<T extends PageTransfers> {
  readonly transfers: T;
  /** For `SchedulerTools`: called once. */
  readonly create: (side: SchedulerSide, kept?: KeptPages) => SchedulerConnectors;
  /** What is pinned; undefined where no connector keeps pages. */
  readonly retained: Retained | undefined;
  /** Once they were created. */
  connectors(): KvConnectors | undefined;
}

export function startConnectors<T extends PageTransfers>(
  config: EngineConfig,
  host: ConnectorHost,
  {
    openTransfers,
    pageBytes,
    pageLayout,
    memoryAvailable,
    onNews,
    onRemoved,
    log,
  }: StartConnectorsOptions<T>,
): StartedConnectors<T> {
  let connectors: KvConnectors | undefined;
  const open = (hostPages: number): T =>
    openTransfers(hostPages, (results) => {
      connectors?.flights.report(results);
      onNews();
    });
  const size = config.kvOffloadSize;
  const transfers = host.keepsPages
    ? openHostPool({ size, pageBytes, memoryAvailable, log }, open)
    : open(1);
  const pinBudget = Math.floor(transfers.numPages * config.kvPinBudget);
  const retained = host.keepsPages ? new Retained(pinBudget, () => performance.now()) : undefined;
  const create = (side: SchedulerSide, kept: KeptPages = {}): SchedulerConnectors => {
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
        pageLayout,
        ...(retained === undefined ? {} : { retained }),
        onEvents: (_, events) => {
          for (const { kind, keys } of events) if (kind === "removed") onRemoved?.(keys);
        },
        diskLink: config.kvDiskLink,
        ...kept,
      },
      onNews,
    );
    return connectors;
  };
  return { transfers, create, retained, connectors: () => connectors };
}
