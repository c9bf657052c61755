/**
 * The tier `disk`: pages in segment files that survive a restart. It is the engine's own (`engine/connectors/tiers/disk-port.ts` moves its
 * pages on native threads, so no JavaScript ever sees them); here is what it says of itself.
 */

import type { ConnectorOptions } from "./options.ts";
import type { TierDescription } from "./tier-class.ts";
import { TIER_API_VERSION } from "./tier.ts";
import { TIER_OPTIONS } from "./tier-options.ts";

export const DISK_TIER = "disk" as const;

/** Those of every tier; a disk is quicker with more pages at a time, and slower to answer. */
const OPTIONS: ConnectorOptions = {
  ...TIER_OPTIONS,
  inFlight: { ...TIER_OPTIONS["inFlight"], default: 32 } as ConnectorOptions[string],
  timeoutMs: { ...TIER_OPTIONS["timeoutMs"], default: 3000 } as ConnectorOptions[string],
};

export const DISK_DESCRIPTION: Omit<TierDescription, "tierClass"> = {
  name: DISK_TIER,
  apiVersion: TIER_API_VERSION,
  options: OPTIONS,
};
