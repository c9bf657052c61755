/** Whether what a module exports is a connector that this binary runs. */

import { API_VERSION, type ConnectorClass, KvConnector } from "./connector.ts";
import { RefusedError } from "./errors.ts";
import { type ConnectorOption, type ConnectorOptions, parseOptions } from "./options.ts";
import { showThrown, showValue } from "./safe-text.ts";

/** A connector's class with what it says of itself, read once. */
export interface ConnectorDescription {
  readonly name: string;
  readonly apiVersion: number;
  readonly options: ConnectorOptions;
  readonly connectorClass: ConnectorClass;
}

const CONNECTOR_NAME = /^[a-z][a-z0-9-]{0,31}$/;

/** Throws `invalid`, saying what is missing or what is wrong. `exported` is a module's default export. */
export function describeConnector(exported: unknown): ConnectorDescription {
  if (!isConnectorClass(exported)) {
    throw new RefusedError(
      "invalid",
      `its default export is ${showValue(exported)}; allowed is a class that extends KvConnector of "kvengine/connector"`,
    );
  }
  const { connectorName, apiVersion, options } = exported as Partial<ConnectorClass>;
  if (connectorName === undefined)
    throw new RefusedError(
      "invalid",
      'its class has no static `connectorName`: write `static readonly connectorName = "my-connector";`',
    );
  if (typeof connectorName !== "string" || !CONNECTOR_NAME.test(connectorName)) {
    throw new RefusedError(
      "invalid",
      `its connectorName is ${showValue(connectorName)}; allowed are up to 32 of a-z, 0-9 and -, a letter first`,
    );
  }
  checkVersion(apiVersion);
  return {
    name: connectorName,
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

function checkVersion(apiVersion: unknown): asserts apiVersion is number {
  if (apiVersion === undefined)
    throw new RefusedError(
      "invalid",
      `its class has no static \`apiVersion\`: write \`static readonly apiVersion = ${API_VERSION};\``,
    );
  if (!Number.isSafeInteger(apiVersion)) {
    throw new RefusedError(
      "invalid",
      `its apiVersion is ${showValue(apiVersion)}; allowed is the whole number ${API_VERSION}`,
    );
  }
  if (apiVersion !== API_VERSION) {
    throw new RefusedError(
      "invalid",
      `it is written for version ${showValue(apiVersion)} of the connector interface; this kvengine runs version ${API_VERSION}`,
    );
  }
}

/** A copy of the table, each row with a type, a help and a default that its own rules allow. */
function checkTable(table: unknown): ConnectorOptions {
  if (typeof table !== "object" || table === null || Array.isArray(table))
    throw new RefusedError("invalid", `its options are ${showValue(table)}; allowed is a table`);
  const rows = Object.entries(table).map(([name, row]) => [name, checkRow(name, row)] as const);
  return Object.fromEntries(rows);
}

function checkRow(name: string, row: unknown): ConnectorOption {
  const wrong = (what: string): RefusedError =>
    new RefusedError("invalid", `its option \`${name}\` ${what}`);
  if (typeof row !== "object" || row === null) throw wrong(`is ${showValue(row)}, not a row`);
  const option = { ...row } as ConnectorOption;
  if (typeof option.help !== "string" || option.help === "")
    throw wrong('has no help: one sentence that says what it does, `help: "…"`');
  switch (option.type) {
    case "integer":
    case "number":
    case "bytes":
      if (typeof option.min !== "number" || typeof option.max !== "number")
        throw wrong("has no range: `min` and `max`");
      break;
    case "choice":
      if (!Array.isArray(option.choices) || option.choices.length === 0)
        throw wrong("has no choices");
      break;
    case "boolean":
    case "text":
      break;
    default:
      throw wrong(
        `has the type ${showValue((row as Partial<ConnectorOption>).type)}; allowed are integer, number, bytes, boolean, text, choice`,
      );
  }
  if (option.default === undefined) throw wrong("has no default");
  try {
    parseOptions({ [name]: option }, { [name]: option.default });
  } catch (thrown) {
    throw wrong(`has a default that it does not allow: ${showThrown(thrown)}`);
  }
  return option;
}
