/** What `--kv-connector-options` says, and to which connector. */

import { KvEngineError } from "../errors.ts";

const FLAG = "--kv-connector-options";

type Table = Readonly<Record<string, unknown>>;

/** Options by the connectors' names, or of the only one there is. */
export type GivenOptions =
  | { readonly byName: ReadonlyMap<string, Table> }
  | { readonly ofTheOne: Table };

/**
 * `text`: a JSON object, or empty for none. Values of options are never objects, so one whose values all are is a table by names.
 * Throws `bad_config`, without repeating the text: it may hold a password.
 */
export function parseGivenOptions(text: string, numConnectors: number): GivenOptions {
  if (text === "") return { byName: new Map() };
  const table = parseObject(text);
  const entries = Object.entries(table);
  const tables = entries.filter((entry): entry is [string, Table] => isTable(entry[1]));
  if (numConnectors === 0)
    throw refused("is given, and no --kv-connector is", "name the connector too");
  if (tables.length === entries.length) return { byName: new Map(tables) };
  if (tables.length > 0) {
    const [other] = entries.find(([, value]) => !isTable(value)) ?? [""];
    throw refused(
      `has options by connectors' names, and \`${other}\` beside them`,
      'write {"NAME": {"OPTION": VALUE}} for each connector',
    );
  }
  if (numConnectors > 1) {
    throw refused(
      `does not say to which of the ${numConnectors} connectors its options belong`,
      'write {"NAME": {"OPTION": VALUE}} for each connector',
    );
  }
  return { ofTheOne: table };
}

/** The options of one connector; none = an empty table. */
export function optionsOf(given: GivenOptions, name: string): Table {
  return "ofTheOne" in given ? given.ofTheOne : (given.byName.get(name) ?? {});
}

/** Throws `bad_config` when options were given for a connector that is not there. */
export function checkNames(given: GivenOptions, names: readonly string[]): void {
  if ("ofTheOne" in given) return;
  const other = [...given.byName.keys()].find((name) => !names.includes(name));
  if (other === undefined) return;
  throw refused(
    `has options of \`${other}\`, and no connector of that name runs`,
    `those that run are ${names.join(", ")}`,
  );
}

function parseObject(text: string): Table {
  const hint = 'an example is \'{"mode": "lazy"}\', in single quotes for the shell';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new KvEngineError("bad_config", `${FLAG} is not JSON`, { subject: FLAG, hint, cause });
  }
  if (isTable(value)) return value;
  throw refused("is JSON, but no object", hint);
}

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refused(what: string, hint: string): KvEngineError {
  return new KvEngineError("bad_config", `${FLAG} ${what}`, { subject: FLAG, hint });
}
