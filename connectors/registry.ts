/** The connectors that come with kvengine, by the name that `--kv-connector` takes. Each is loaded when it is asked for. */

import type { ConnectorClass } from "./connector.ts";
import { RefusedError } from "./errors.ts";

const CONNECTORS: Readonly<Record<string, () => Promise<{ readonly default: ConnectorClass }>>> = {
  "cpu-offload": () => import("./cpu-offload.ts"),
  null: () => import("./null.ts"),
};

export const CONNECTOR_NAMES: readonly string[] = Object.keys(CONNECTORS);

/** Throws `invalid`, listing the names, for one that is not built in. */
export async function importConnector(name: string): Promise<ConnectorClass> {
  const load = Object.hasOwn(CONNECTORS, name) ? CONNECTORS[name] : undefined;
  if (load === undefined) {
    const names = CONNECTOR_NAMES.join(", ");
    throw new RefusedError("invalid", `there is no connector \`${name}\`; built in are ${names}`);
  }
  return (await load()).default;
}
