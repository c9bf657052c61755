/** The connectors and tiers that come with kvengine, by the name that `--kv-connector` takes. Each is loaded when it is asked for. */

import type { ConnectorClass } from "./connector.ts";
import { DISK_TIER } from "./disk.ts";
import { RefusedError } from "./errors.ts";
import type { TierClass } from "./tier.ts";

type Built<T> = Readonly<Record<string, () => Promise<{ readonly default: T }>>>;

const CONNECTORS: Built<ConnectorClass> = {
  "cpu-offload": () => import("./cpu-offload.ts"),
  null: () => import("./null.ts"),
};

const TIERS: Built<TierClass> = {
  memory: () => import("./memory.ts"),
};

export const CONNECTOR_NAMES: readonly string[] = Object.keys(CONNECTORS);
/** Those that are written as outside ones are. */
export const TIER_NAMES: readonly string[] = Object.keys(TIERS);
/** All that `--kv-connector` knows by name. */
export const BUILT_IN_NAMES: readonly string[] = [...CONNECTOR_NAMES, ...TIER_NAMES, DISK_TIER];

/** Throws `invalid`, listing the names, for one that is not built in. */
export async function importConnector(name: string): Promise<ConnectorClass> {
  return pick(CONNECTORS, name, "connector")();
}

/** As `importConnector`. */
export async function importTier(name: string): Promise<TierClass> {
  return pick(TIERS, name, "tier")();
}

/** What drives tiers. */
export async function importTiered(): Promise<ConnectorClass> {
  return (await import("./tiered.ts")).default;
}

function pick<T>(built: Built<T>, name: string, what: string): () => Promise<T> {
  const load = Object.hasOwn(built, name) ? built[name] : undefined;
  if (load === undefined) {
    const names = Object.keys(built).join(", ");
    throw new RefusedError("invalid", `there is no ${what} \`${name}\`; built in are ${names}`);
  }
  return async () => (await load()).default;
}
