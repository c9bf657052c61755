/** The connectors that the configuration names, loaded into the engine's thread: with none nothing is loaded and nothing watched. */

import type { EngineConfig } from "../config.ts";
import type { LogLine } from "./connector-log.ts";
import { ConnectorHost } from "./connector-host.ts";
import { HookTurn } from "./hook-turn.ts";
import { type LoadedConnector, loadConnectors } from "./load-connector.ts";
import { type OutsideCode, watchStrayErrors } from "./stray-errors.ts";

export interface OpenConnectorsOptions {
  /** Of `createHookWord`: where the HTTP thread sees whose code runs. */
  readonly hookWord: SharedArrayBuffer;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly log: LogLine;
  /** An error of our own code that nobody caught, now that this thread does not end by it. */
  readonly onStrayError: (thrown: unknown) => void;
}

/** The host, not started yet. Throws `bad_config` for a connector that cannot be loaded or constructed. */
export async function openConnectors(
  config: EngineConfig,
  { hookWord, now, log, onStrayError }: OpenConnectorsOptions,
): Promise<ConnectorHost> {
  const turn = new HookTurn(hookWord);
  const loaded = await loadConnectors(config, process.cwd(), turn);
  const slowHookMs = config.kvConnectorSlowHook * 1000;
  const host = new ConnectorHost(loaded, { turn, slowHookMs, now, log });
  watchStrayErrors(loaded.map(pathsOf), {
    ofConnector: (place, thrown) => host.threwOutside(place, thrown),
    ofEngine: onStrayError,
  });
  return host;
}

/** Files whose errors are a connector's: its own, and those of the tiers that it drives. */
function pathsOf({ path, tiers }: LoadedConnector): OutsideCode {
  const all = [path, ...tiers.map((tier) => tier.path)];
  return { paths: all.filter((one) => one !== undefined) };
}
