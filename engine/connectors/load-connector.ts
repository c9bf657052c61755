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
import {
  BUILT_IN_NAMES,
  importConnector,
  importTier,
  importTiered,
  TIER_NAMES,
} from "../../connectors/registry.ts";
import { showThrown, showValue } from "../../connectors/safe-text.ts";
import { DISK_DESCRIPTION, DISK_TIER } from "../../connectors/disk.ts";
import { describeTier, isTierClass, type TierDescription } from "../../connectors/tier-class.ts";
import type { KvTier } from "../../connectors/tier.ts";
import { drivingOf } from "../../connectors/tier-options.ts";
import type { EngineConfig } from "../config.ts";
import { KvEngineError } from "../errors.ts";
import { type ConnectorPlace, findConnector } from "./connector-place.ts";
import { checkNames, type GivenOptions, optionsOf, parseGivenOptions } from "./given-options.ts";
import { type HookTurn, MAX_CONNECTORS } from "./hook-turn.ts";
import { showImportError } from "./import-error.ts";
import { INTERFACE_MODULE, registerInterfaceModule } from "./interface-module.ts";
import { type ConnectorNames, namedConnectors } from "./named-connectors.ts";
import type { LoadedTier } from "./tiers/js-tier-port.ts";

export interface LoadedConnector {
  readonly name: string;
  /** As it was named. */
  readonly spec: string;
  /** The file of an outside module. */
  readonly path: string | undefined;
  /** Its place among what was named. */
  readonly index: number;
  readonly connector: KvConnector;
  /** What it drives. */
  readonly tiers: readonly LoadedTier[];
}

/** What drives tiers where it is named beside them. */
const HOST_CONNECTOR = "cpu-offload";
/** Names of tiers are labels of metrics; the host's memory is one more. */
const MOST_TIERS = 7;

type ConnectorFlags = ConnectorNames & Pick<EngineConfig, "kvConnectorOptions">;

/** What can be said of the flags before any module is loaded. Throws `bad_config`. */
export function checkConnectorFlags(flags: ConnectorFlags, folder: string): void {
  const named = namedConnectors(flags);
  parseGivenOptions(flags.kvConnectorOptions, named.length);
  if ((flags.kvDiskPath ?? "") === "" && named.includes(DISK_TIER)) {
    throw new KvEngineError("bad_config", "the tier disk has no folder", {
      subject: "--kv-disk-path",
      hint: "name one: --kv-disk-path DIR",
    });
  }
  if (named.length > MAX_CONNECTORS) {
    throw new KvEngineError(
      "bad_config",
      `${named.length} connectors are named; allowed are ${MAX_CONNECTORS}`,
      { subject: "--kv-connector" },
    );
  }
  for (const spec of named) findConnector(spec, folder);
}

/**
 * In the order of the flags; paths count from `folder`. `turn` says meanwhile whose code runs. All tiers are driven by one connector, in
 * their order: `cpu-offload` where it is named too, else one called `tiered`, in the place of the first tier.
 */
export async function loadConnectors(
  flags: ConnectorFlags,
  folder: string,
  turn: HookTurn,
): Promise<readonly LoadedConnector[]> {
  checkConnectorFlags(flags, folder);
  const specs = namedConnectors(flags);
  const given = parseGivenOptions(flags.kvConnectorOptions, specs.length);
  const found: Found[] = [];
  for (const [index, spec] of specs.entries()) {
    const place = findConnector(spec, folder);
    const exported = await inTurn(turn, index, "import", () => importExport(spec, place));
    found.push({ index, spec, place, exported });
  }
  const tiered = await tieredOf(found);
  const names = [...found, ...(tiered?.isNamed === false ? [tiered] : [])].map(nameOf);
  checkUnique(names, specs);
  checkNames(given, names);
  const valuesOf = ({ spec, exported: { description } }: Found): OptionValues =>
    readOptions(spec, description, optionsOf(given, description.name));
  const values = new Map(found.map((one) => [one, valuesOf(one)]));
  const tiers: LoadedTier[] = [];
  for (const one of found) {
    const { spec, index, exported } = one;
    if (exported.kind !== "tier") continue;
    const { name, tierClass } = exported.description;
    const own = values.get(one) ?? {};
    const create = (): KvTier | undefined =>
      tierClass === undefined ? undefined : construct(spec, () => new tierClass(own));
    const tier = await inTurn(turn, index, "constructor", create);
    tiers.push({ name, tier, driving: drivingOf(own), path: pathOf(one) });
  }
  const loaded: LoadedConnector[] = [];
  for (const one of found) {
    const isTiered = one.index === tiered?.index;
    const { index, spec, exported } = isTiered ? tiered : one;
    if (exported.kind === "tier") continue;
    const { name, connectorClass } = exported.description;
    const own = values.get(one);
    const options = isTiered && !tiered.isNamed ? readTiered(tiered, given) : (own ?? {});
    const create = (): KvConnector => construct(spec, () => new connectorClass(options));
    const connector = await inTurn(turn, index, "constructor", create);
    const path = pathOf(one);
    loaded.push({ name, spec, path, index, connector, tiers: isTiered ? tiers : [] });
  }
  return loaded;
}

/** What a flag names. */
interface Found {
  readonly index: number;
  readonly spec: string;
  readonly place: ConnectorPlace;
  readonly exported: Exported;
}

/** What drives the tiers, in the place of what was named. `isNamed`: that was `cpu-offload`, and it keeps its name. */
type TieredFound = Found & { readonly isNamed: boolean };

async function tieredOf(found: readonly Found[]): Promise<TieredFound | undefined> {
  const tiers = found.filter(({ exported }) => exported.kind === "tier");
  const [first] = tiers;
  if (first === undefined) return undefined;
  if (tiers.length > MOST_TIERS) {
    throw new KvEngineError(
      "bad_config",
      `${tiers.length} tiers are named; allowed are ${MOST_TIERS}`,
      { subject: "--kv-connector" },
    );
  }
  const connectorClass = await importTiered();
  const isHost = ({ place }: Found): boolean =>
    place.kind === "built-in" && place.name === HOST_CONNECTOR;
  const host = found.find(isHost);
  const { name, ...rest } = describeConnector(connectorClass);
  const description = { ...rest, name: host === undefined ? name : HOST_CONNECTOR };
  const exported: Exported = { kind: "connector", description };
  return { ...(host ?? { ...first, spec: name }), exported, isNamed: host !== undefined };
}

function readTiered(
  { spec, exported: { description } }: TieredFound,
  given: GivenOptions,
): OptionValues {
  return readOptions(
    spec,
    description,
    "byName" in given ? optionsOf(given, description.name) : {},
  );
}

function nameOf({ exported: { description } }: Found): string {
  return description.name;
}

function pathOf({ place }: Found): string | undefined {
  return place.kind === "file" ? place.path : undefined;
}

async function inTurn<T>(
  turn: HookTurn,
  index: number,
  what: "import" | "constructor",
  body: () => T | Promise<T>,
): Promise<T> {
  turn.begin(index, what);
  try {
    return await body();
  } finally {
    turn.end();
  }
}

/** What a module exports: a connector or a tier, checked. */
export type Exported =
  | { readonly kind: "connector"; readonly description: ConnectorDescription }
  | { readonly kind: "tier"; readonly description: AnyTierDescription };

/** A tier without a class is the engine's own. */
type AnyTierDescription = Omit<TierDescription, "tierClass"> & {
  readonly tierClass: TierDescription["tierClass"] | undefined;
};

/** Of one connector or tier. Throws `bad_config`. */
export async function loadExport(spec: string, folder: string): Promise<Exported> {
  return importExport(spec, findConnector(spec, folder));
}

async function importExport(spec: string, place: ConnectorPlace): Promise<Exported> {
  if (place.kind === "built-in") {
    if (place.name === DISK_TIER)
      return { kind: "tier", description: { ...DISK_DESCRIPTION, tierClass: undefined } };
    return TIER_NAMES.includes(place.name)
      ? { kind: "tier", description: describeTier(await importTier(place.name)) }
      : { kind: "connector", description: describeConnector(await importConnector(place.name)) };
  }
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
  const isTier = isTierClass(module.default);
  try {
    return isTierClass(module.default)
      ? { kind: "tier", description: describeTier(module.default) }
      : { kind: "connector", description: describeConnector(module.default) };
  } catch (cause) {
    const hint = isTier || isConnectorClass(module.default) ? undefined : MODULE_HINT;
    const what = isTier ? "tier" : "connector";
    throw wrong(spec, `is no ${what}: ${reasonOf(cause)}`, cause, hint);
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
  { name, options }: Pick<ConnectorDescription, "name" | "options">,
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
  if (BUILT_IN_NAMES.includes(spec)) return "`kvengine connectors` lists its options";
  const lines = optionLines(options);
  return lines.length === 0 ? "it takes no options" : `its options are ${lines.join("; ")}`;
}

function construct<T>(spec: string, create: () => T): T {
  try {
    return create();
  } catch (cause) {
    throw wrong(spec, `cannot be constructed: ${showImportError(cause)}`, cause);
  }
}

/** A refusal's message alone; of what a connector threw also the error's name. */
function reasonOf(thrown: unknown): string {
  return thrown instanceof RefusedError ? thrown.message : showThrown(thrown);
}

const MODULE_HINT = `a connector's module exports a class by default that extends KvConnector of "${INTERFACE_MODULE}", a tier's one that extends KvTier`;

function wrong(spec: string, what: string, cause: unknown, hint?: string): KvEngineError {
  return new KvEngineError("bad_config", `the connector ${spec} ${what}`, {
    subject: "--kv-connector",
    ...(hint === undefined ? {} : { hint }),
    cause,
  });
}
