/** What one connector is given to work with: its face of transfers, pages, clock and requests. Calls outside of its life are refused. */

import {
  type BlockId,
  type BlockKey,
  type ConnectorLog,
  type ConnectorMetrics,
  type HostContent,
  type HostPages,
  type PageFiles,
  type PageId,
  RefusedError,
  type SchedulerContext,
  type TransferRates,
  type Transfers,
} from "../../connectors/connector.ts";
import type { TierPort } from "../../connectors/tier-port.ts";
import { LABEL_BYTES } from "../cache/page-transfers.ts";
import type { SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import type { KvConnectors } from "./kv-connectors.ts";
import type { RetainedContent } from "./retained.ts";

/** What a context is made of beside the connectors' common part. */
export interface ContextParts {
  readonly name: string;
  /** The connector's place. */
  readonly connector: number;
  readonly log: ConnectorLog;
  readonly metrics: ConnectorMetrics;
  readonly maxBatchedTokens: number;
  /** See `HostPages.layout`. */
  readonly pageLayout: string;
  /** See `ConnectorClass.keepsFiles`. */
  readonly keepsFiles: boolean;
  /** Whether the connector is called at all: false once it was disabled or shut down. */
  readonly isEnabled: () => boolean;
  /** Whether one of the connector's hooks is running now. */
  readonly isInHook: () => boolean;
  readonly retained: RetainedContent;
  readonly wake: () => void;
  /** Opens the tiers that it drives; their results wake the engine by `wake`. */
  readonly openTiers: (wake: () => void) => readonly TierPort[];
  /** Runs a task when none of the engine's code runs. */
  readonly defer: (task: () => void) => void;
}

export function createContext(
  parts: ContextParts,
  side: SchedulerSide,
  connectors: KvConnectors,
): SchedulerContext {
  const { name, connector, log, metrics, maxBatchedTokens, isEnabled, isInHook } = parts;
  const checkEnabled = (): void => {
    if (!isEnabled())
      throw new RefusedError("closed", `connector ${name} was disabled or shut down`);
  };
  const wake = createWake(parts);
  const transfers: Transfers = {
    store: (blocks, pages) => {
      checkEnabled();
      const ids = listOf(blocks);
      try {
        return connectors.store(connector, ids, listOf(pages));
      } catch (thrown) {
        if (thrown instanceof RefusedError)
          connectors.counts.refused(connector, thrown.code, ids.length);
        throw thrown;
      }
    },
    load: (pages, blocks) => {
      checkEnabled();
      return connectors.load(connector, listOf(pages), listOf(blocks));
    },
    cancel: (id) => {
      const flight = connectors.flights.get(id);
      if (flight === undefined) return connectors.files.cancel(connector, id);
      return flight.connector === connector && connectors.flights.cancel(flight);
    },
    isAwaited: (block, key) => connectors.loads.isAwaited(connector, block, key),
    giveUp: (blocks) => {
      checkEnabled();
      connectors.loads.decline(connector, listOf(blocks));
      wake();
    },
    get rates(): TransferRates {
      return connectors.rates;
    },
    get numFree(): number {
      return connectors.flights.numFree(connector);
    },
  };
  const pages: HostPages = {
    pageBytes: connectors.pageBytes,
    layout: parts.pageLayout,
    numPages: connectors.pages.numPages,
    get numFree(): number {
      return connectors.pages.numFree;
    },
    get isGrowing(): boolean {
      return connectors.hostPool.isGrowing;
    },
    alloc: (count): PageId[] | undefined => {
      checkEnabled();
      return connectors.pages.alloc(connector, count);
    },
    free: (ids): void => {
      checkEnabled();
      connectors.pages.free(connector, listOf(ids));
    },
  };
  const files: PageFiles = {
    recordBytes: connectors.pageBytes + LABEL_BYTES,
    write: (path, offsets, ids) => {
      checkEnabled();
      return connectors.files.write(connector, path, listOf(offsets), listOf(ids));
    },
    read: (path, offsets, ids, keys) => {
      checkEnabled();
      return connectors.files.read(connector, path, listOf(offsets), listOf(ids), [...keys]);
    },
  };
  return Object.freeze({
    name,
    groups: side.kv.groups.map(({ kind, window }) => Object.freeze({ kind, window })),
    transfers: Object.freeze(transfers),
    pages: Object.freeze(pages),
    ...(parts.keepsFiles ? { files: Object.freeze(files) } : {}),
    log,
    metrics,
    maxBatchedTokens,
    now: side.now,
    tiers: Object.freeze([...parts.openTiers(wake)]),
    wake: (at?: number): void => {
      if (at === undefined) wake();
      else if (Number.isFinite(at)) connectors.tiers.setAlarm(at);
      else throw new RefusedError("invalid", `${at} is no time`);
    },
    isRetained: (key: BlockKey) => parts.retained.has(key),
    get numRetained(): number {
      return parts.retained.size;
    },
    serveContent: (content: HostContent): void =>
      connectors.moves.serve(connector, content, isEnabled),
    blocksOf: (requestId: string): readonly (readonly BlockId[])[] | undefined => {
      if (!isInHook()) throw new RefusedError("closed", "blocksOf is good inside a hook only");
      return side.byId(requestId)?.blocks.tables.map(({ entries }) => Array.from(entries));
    },
  });
}

/**
 * To wake the engine runs the scheduler, which calls hooks: never from inside one, nor from the middle of a step's decisions. Calls
 * before that has come are one.
 */
function createWake({ isEnabled, wake, defer }: ContextParts): () => void {
  let isAsked = false;
  return () => {
    if (isAsked || !isEnabled()) return;
    isAsked = true;
    defer(() => {
      isAsked = false;
      if (isEnabled()) wake();
    });
  };
}

/** A copy: what a connector does to its list later changes nothing. */
function listOf(ids: readonly number[]): number[] {
  if (!Array.isArray(ids) && !ArrayBuffer.isView(ids))
    throw new RefusedError("invalid", "a list of ids is needed");
  return Array.from(ids as ArrayLike<number>);
}
