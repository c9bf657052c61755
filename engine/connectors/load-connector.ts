/** From `--kv-connector` to constructed connectors. Whatever is wrong with a module is `bad_config`, before anything is served. */

import {
  type ConnectorDescription,
  describeConnector,
  isConnectorClass,
} from "../../connectors/connector-class.ts";
import { type KvConnector, RefusedError } from "../../connectors/connector.ts";
import {
  type ConnectorOptions,
  type OptionValues,
  parseOptions,
} from "../../connectors/options.ts";
import { optionLines } from "../../connectors/option-text.ts";
import { CONNECTOR_NAMES, importConnector } from "../../connectors/registry.ts";
import { showThrown, showValue } from "../../connectors/safe-text.ts";
import type { EngineConfig } from "../config.ts";
import { KvEngineError } from "../errors.ts";
import { type ConnectorPlace, findConnector } from "./connector-place.ts";
import { checkNames, optionsOf, parseGivenOptions } from "./given-options.ts";
import { type HookTurn, MAX_CONNECTORS } from "./hook-turn.ts";
import { showImportError } from "./import-error.ts";
import { INTERFACE_MODULE, registerInterfaceModule } from "./interface-module.ts";

export interface LoadedConnector {
  readonly name: string;
  /** As it was named. */
  readonly spec: string;
  /** The file of an outside module. */
  readonly path: string | undefined;
  readonly connector: KvConnector;
}

type ConnectorFlags = Pick<EngineConfig, "kvConnector" | "kvConnectorOptions">;

/** What can be said of the flags before any module is loaded. Throws `bad_config`. */
export function checkConnectorFlags(
  { kvConnector, kvConnectorOptions }: ConnectorFlags,
  folder: string,
): void {
  parseGivenOptions(kvConnectorOptions, kvConnector.length);
  if (kvConnector.length > MAX_CONNECTORS) {
    throw new KvEngineError(
      "bad_config",
      `${kvConnector.length} connectors are named; allowed are ${MAX_CONNECTORS}`,
      { subject: "--kv-connector" },
    );
  }
  for (const spec of kvConnector) findConnector(spec, folder);
}

/** In the order of the flags; paths count from `folder`. `turn` says meanwhile whose code runs. */
export async function loadConnectors(
  flags: ConnectorFlags,
  folder: string,
  turn: HookTurn,
): Promise<readonly LoadedConnector[]> {
  checkConnectorFlags(flags, folder);
  const given = parseGivenOptions(flags.kvConnectorOptions, flags.kvConnector.length);
  const found: { spec: string; place: ConnectorPlace; description: ConnectorDescription }[] = [];
  for (const [index, spec] of flags.kvConnector.entries()) {
    const place = findConnector(spec, folder);
    turn.begin(index, "import");
    try {
      found.push({ spec, place, description: await importClass(spec, place) });
    } finally {
      turn.end();
    }
  }
  const names = found.map(({ description }) => description.name);
  checkUnique(names, flags.kvConnector);
  checkNames(given, names);
  const values = found.map(({ spec, description }) =>
    readOptions(spec, description, optionsOf(given, description.name)),
  );
  return found.map(({ spec, place, description }, index) => {
    turn.begin(index, "constructor");
    try {
      const connector = construct(spec, description, values[index] ?? {});
      const path = place.kind === "file" ? place.path : undefined;
      return { name: description.name, spec, path, connector };
    } finally {
      turn.end();
    }
  });
}

/** The class of one connector, checked. */
export async function loadConnectorClass(
  spec: string,
  folder: string,
): Promise<ConnectorDescription> {
  return importClass(spec, findConnector(spec, folder));
}

async function importClass(spec: string, place: ConnectorPlace): Promise<ConnectorDescription> {
  if (place.kind === "built-in") return describeConnector(await importConnector(place.name));
  registerInterfaceModule();
  let module: { readonly default?: unknown };
  try {
    module = (await import(place.path)) as { readonly default?: unknown };
  } catch (cause) {
    // Of several errors the text tells; "3 errors" as a cause would say less.
    const told = cause instanceof AggregateError ? undefined : cause;
    throw wrong(spec, `cannot be loaded: ${showImportError(cause)}`, told);
  }
  if (!("default" in module)) throw wrong(spec, "has no default export", undefined, MODULE_HINT);
  try {
    return describeConnector(module.default);
  } catch (cause) {
    const hint = isConnectorClass(module.default) ? undefined : MODULE_HINT;
    throw wrong(spec, `is no connector: ${reasonOf(cause)}`, cause, hint);
  }
}

function checkUnique(names: readonly string[], specs: readonly string[]): void {
  for (const [index, name] of names.entries()) {
    const first = names.indexOf(name);
    if (first === index) continue;
    throw new KvEngineError(
      "bad_config",
      `${specs[first]} and ${specs[index]} are both called \`${name}\``,
      {
        subject: "--kv-connector",
        hint: "connectors are told apart by their names: change one's `connectorName`",
      },
    );
  }
}

/** Throws `bad_config` for options that the connector's own table does not allow. */
export function readOptions(
  spec: string,
  { name, options }: ConnectorDescription,
  given: Readonly<Record<string, unknown>>,
): OptionValues {
  if (Object.hasOwn(given, name) && !Object.hasOwn(options, name)) {
    throw new KvEngineError(
      "bad_config",
      `--kv-connector-options has ${showValue(given[name])} under the connector's name \`${name}\`; allowed is an object of its options`,
      { subject: "--kv-connector-options", hint: optionsHint(spec, options) },
    );
  }
  try {
    return parseOptions(options, given);
  } catch (cause) {
    throw new KvEngineError("bad_config", `options of the connector ${spec}: ${reasonOf(cause)}`, {
      subject: "--kv-connector-options",
      hint: optionsHint(spec, options),
      cause,
    });
  }
}

function optionsHint(spec: string, options: ConnectorOptions): string {
  if (CONNECTOR_NAMES.includes(spec)) return "`kvengine connectors` lists its options";
  const lines = optionLines(options);
  return lines.length === 0 ? "it takes no options" : `its options are ${lines.join("; ")}`;
}

function construct(
  spec: string,
  { connectorClass }: ConnectorDescription,
  values: OptionValues,
): KvConnector {
  try {
    return new connectorClass(values);
  } catch (cause) {
    throw wrong(spec, `cannot be constructed: ${showImportError(cause)}`, cause);
  }
}

/** A refusal's message alone; of what a connector threw also the error's name. */
function reasonOf(thrown: unknown): string {
  return thrown instanceof RefusedError ? thrown.message : showThrown(thrown);
}

const MODULE_HINT = `a connector's module exports a class by default that extends KvConnector of "${INTERFACE_MODULE}"`;

function wrong(spec: string, what: string, cause: unknown, hint?: string): KvEngineError {
  return new KvEngineError("bad_config", `the connector ${spec} ${what}`, {
    subject: "--kv-connector",
    ...(hint === undefined ? {} : { hint }),
    cause,
  });
}
