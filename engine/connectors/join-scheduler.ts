/** Joins loaded connectors, transfers and scheduler: each connector gets its view and its context, and hears of what it asked for. */

import type { TierPort } from "../../connectors/tier-port.ts";
import type { DiskStore } from "../cache/disk-store.ts";
import type { PageTransfers } from "../cache/page-transfers.ts";
import type { SchedulerSide } from "../scheduler/scheduler-connectors.ts";
import { KvEngineError } from "../errors.ts";
import { createContext } from "./connector-context.ts";
import type { ConnectorHost } from "./connector-host.ts";
import type { DiskPins } from "./disk-pins.ts";
import { DiskPort } from "./tiers/disk-port.ts";
import { JsTierPort, type LoadedTier } from "./tiers/js-tier-port.ts";
import { SlowLink } from "./tiers/slow-link.ts";
import { TransferSeries } from "./transfer-series.ts";
import { KvConnectors } from "./kv-connectors.ts";
import type { KvConnectorsOptions } from "./kv-connectors-options.ts";
import type { RetainedContent } from "./retained.ts";

export interface JoinOptions extends KvConnectorsOptions {
  /** Most tokens of a step. */
  readonly maxBatchedTokens: number;
  /** Runs a task when none of the engine's code runs; left out = in a later turn of the event loop, after what has happened meanwhile. */
  readonly defer?: (task: () => void) => void;
  /** For the tier `disk`, where there is one. */
  readonly disk?: DiskStore;
  /** What is to stay on it. */
  readonly diskPins?: Pick<DiskPins, "stored">;
  /** Bytes a second that the disk is slowed down to; 0 or left out = none. */
  readonly diskLink?: number;
  /** See `SchedulerContext.isRetained`; left out = nothing is. */
  readonly retained?: RetainedContent;
  /** See `HostPages.layout`; empty if not given. */
  readonly pageLayout?: string;
}

const NOTHING_RETAINED: RetainedContent = { has: () => false, size: 0 };

/** No microtask: a connector that wakes the engine in each hook would leave no turn for steps and transfers to end in. */
const later = (task: () => void): void => void setImmediate(task);

/** `wake`: a connector asks for one more `schedule()`. The host must not have been started. */
export function joinScheduler(
  side: SchedulerSide,
  host: ConnectorHost,
  transfers: PageTransfers,
  options: JoinOptions,
  wake: () => void,
): KvConnectors {
  const connectors = new KvConnectors(side, host, transfers, { ...options, wake });
  const openTiers = (place: number, wakeOne: () => void): readonly TierPort[] => {
    const { pages } = connectors;
    const { slowHookMs: slowMs, log } = host;
    const tools = { transfers, pages, connector: place, slowMs, now: side.now, log, wake: wakeOne };
    const portOf = ({ tier, ...rest }: LoadedTier): JsTierPort | DiskPort => {
      if (tier !== undefined) return new JsTierPort({ ...rest, tier }, tools);
      const { disk, diskPins, diskLink = 0 } = options;
      const link = diskLink === 0 ? undefined : new SlowLink(diskLink, side.now);
      if (disk === undefined) throw new KvEngineError("internal", "no disk was opened");
      const { name, driving } = rest;
      return new DiskPort(name, driving, {
        ...{ ...tools, disk, link, flights: connectors.flights },
        onStored: (keys) => diskPins?.stored(keys),
      });
    };
    const ports = host.tiersOf(place).map(portOf);
    connectors.tiers.add(ports);
    return ports;
  };
  host.start({
    viewOf: (place) => connectors.ledgers.viewOf(place),
    contextOf: (place, own) =>
      createContext(
        {
          ...own,
          connector: place,
          maxBatchedTokens: options.maxBatchedTokens,
          pageLayout: options.pageLayout ?? "",
          retained: options.retained ?? NOTHING_RETAINED,
          isEnabled: () => !host.isDisabled(place) && !connectors.isClosed,
          isInHook: () => host.isCalling(place),
          wake,
          keepsFiles: host.keepsFiles(place) && options.fingerprint !== undefined,
          openTiers: (wakeOne) => openTiers(place, wakeOne),
          defer: options.defer ?? later,
        },
        side,
        connectors,
      ),
    onDisabled: (place) => connectors.disable(place),
    onShutdown: () => connectors.close(),
  });
  host.watch((samples, names) => new TransferSeries(samples, connectors, names, side.now));
  return connectors;
}
