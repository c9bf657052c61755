/** Whether what a module exports is a connector that this binary runs. */

import { API_VERSION, type ConnectorClass, KvConnector } from "./connector.ts";
import { RefusedError } from "./errors.ts";
import { checkName, checkTable, checkVersion } from "./module-checks.ts";
import type { ConnectorOptions } from "./options.ts";
import { showValue } from "./safe-text.ts";

/** A connector's class with what it says of itself, read once. */
export interface ConnectorDescription {
  readonly name: string;
  readonly apiVersion: number;
  readonly options: ConnectorOptions;
  readonly connectorClass: ConnectorClass;
}

/** Throws `invalid`, saying what is missing or what is wrong. `exported` is a module's default export. */
export function describeConnector(exported: unknown): ConnectorDescription {
  if (!isConnectorClass(exported)) {
    throw new RefusedError(
      "invalid",
      `its default export is ${showValue(exported)}; allowed is a class that extends KvConnector of "kvengine/connector"`,
    );
  }
  const { connectorName, apiVersion, options } = exported as Partial<ConnectorClass>;
  const name = checkName("connectorName", connectorName);
  checkVersion(apiVersion, API_VERSION, "connector");
  return {
    name,
    apiVersion,
    // A class without a table takes no options.
    options: options === undefined ? {} : checkTable(options),
    connectorClass: exported,
  };
}

/** Whether a module's default export is a class of ours, whatever else may be wrong with it. */
export function isConnectorClass(exported: unknown): exported is ConnectorClass {
  return typeof exported === "function" && exported.prototype instanceof KvConnector;
}
