/** What the flags name, in order. */

import { DISK_TIER } from "../../connectors/disk.ts";
import type { EngineConfig } from "../config.ts";

/** Without a path there is no disk. */
export type ConnectorNames = Pick<EngineConfig, "kvConnector"> &
  Partial<Pick<EngineConfig, "kvDiskPath">>;

/** A disk stands last unless it is named. */
export function namedConnectors({
  kvConnector,
  kvDiskPath = "",
}: ConnectorNames): readonly string[] {
  return kvDiskPath === "" || kvConnector.includes(DISK_TIER)
    ? kvConnector
    : [...kvConnector, DISK_TIER];
}
