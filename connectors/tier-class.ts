/** Whether what a module exports is a tier that this binary runs. */

import { checkName, checkTable, checkVersion } from "./module-checks.ts";
import { RefusedError } from "./errors.ts";
import type { ConnectorOptions } from "./options.ts";
import { KvTier, TIER_API_VERSION, type TierClass } from "./tier.ts";
import { TIER_OPTIONS } from "./tier-options.ts";

/** A tier's class with what it says of itself, read once. */
export interface TierDescription {
  readonly name: string;
  readonly apiVersion: number;
  /** Its own, and those of every tier. */
  readonly options: ConnectorOptions;
  readonly tierClass: TierClass;
}

/** Receipts and metrics say by these names where a block came from. */
const TAKEN_NAMES: ReadonlySet<string> = new Set(["device", "host", "disk"]);

/** Whether a module's default export is a class of tiers, whatever else may be wrong with it. */
export function isTierClass(exported: unknown): exported is TierClass {
  return typeof exported === "function" && exported.prototype instanceof KvTier;
}

/** Throws `invalid`, saying what is missing or what is wrong. */
export function describeTier(tierClass: TierClass): TierDescription {
  const { tierName, apiVersion, options } = tierClass as Partial<TierClass>;
  const name = checkName("tierName", tierName);
  if (TAKEN_NAMES.has(name))
    throw new RefusedError("invalid", `its tierName is \`${name}\`, which names a place of ours`);
  checkVersion(apiVersion, TIER_API_VERSION, "tier");
  const own = options === undefined ? {} : checkTable(options);
  const taken = Object.keys(own).find((option) => Object.hasOwn(TIER_OPTIONS, option));
  if (taken !== undefined) {
    throw new RefusedError(
      "invalid",
      `its option \`${taken}\` is one of every tier: ${Object.keys(TIER_OPTIONS).join(", ")}`,
    );
  }
  return { name, apiVersion, options: { ...own, ...TIER_OPTIONS }, tierClass };
}
