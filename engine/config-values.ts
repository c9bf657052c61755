/**
 * From what was written (flags, variables, a config file's keys) to checked values. Pure: reads nothing by itself.
 */

import {
  camelCase,
  envName,
  OPTIONS,
  optionsOf,
  type EngineConfig,
  type OptionName,
  type OptionValues,
} from "./config.ts";
import { KvEngineError } from "./errors.ts";
import { parseInteger, parseIntegerList } from "./integer-list.ts";
import { nearest } from "./nearest.ts";
import { type CommandName, defaultOf, type Option } from "./option.ts";

/** What stood behind a flag; several texts where the flag was given several times. */
export type FlagValue = string | boolean | readonly string[];

/** What the user wrote, by option name. The first source that has a name wins. */
export interface ConfigSources {
  /** Names must be options of the command (cli/flags.ts sees to it). */
  readonly flags: ReadonlyMap<OptionName, FlagValue>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A parsed config file and its path for messages. Options of other commands are allowed in it. */
  readonly file?: { readonly path: string; readonly table: Readonly<Record<string, unknown>> };
}

export interface ResolvedConfig {
  readonly values: OptionValues;
  /** For people: `KVENGINE_*` variables that mean nothing. */
  readonly warnings: readonly string[];
}

/** Variables of ours that are not options. */
const OTHER_VARIABLES = new Set(["KVENGINE_TMPDIR", "KVENGINE_TEST_MODEL"]);
/** What Kubernetes sets for a service named kvengine. */
const KUBERNETES_VARIABLE = /^KVENGINE_(SERVICE_|PORT_\d)/;

/**
 * Every option's value: flag, else variable, else config file, else default. Throws `bad_config` for an unknown key of
 * the file and for a value that is not allowed, whoever wrote it.
 */
export function resolveConfig(command: CommandName, sources: ConfigSources): ResolvedConfig {
  if (sources.file !== undefined) checkKeys(sources.file.path, sources.file.table);
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(OPTIONS) as [OptionName, Option][]) {
    values[camelCase(name)] = option.default;
  }
  for (const [name, option] of optionsOf(command)) {
    const written = lookUp(name, sources);
    values[camelCase(name)] =
      written === undefined
        ? defaultOf(option, command)
        : parseValue(option, written.value, written.subject);
  }
  return { values: values as OptionValues, warnings: unknownVariables(sources.env) };
}

function lookUp(
  name: OptionName,
  sources: ConfigSources,
): { value: unknown; subject: string } | undefined {
  const flag = sources.flags.get(name);
  if (flag !== undefined) return { value: flag, subject: `--${name}` };
  const variable = sources.env[envName(name)];
  // An empty variable is how a shell or a compose file says "not set".
  if (variable !== undefined && variable !== "") return { value: variable, subject: envName(name) };
  const entry = sources.file?.table[name];
  if (entry !== undefined) return { value: entry, subject: `\`${name}\` in ${sources.file?.path}` };
  return undefined;
}

function checkKeys(path: string, table: Readonly<Record<string, unknown>>): void {
  for (const key of Object.keys(table)) {
    if (key in OPTIONS && key !== "config") continue;
    const near = nearest(key, Object.keys(OPTIONS));
    throw new KvEngineError(
      "bad_config",
      `unknown key \`${key}\` in ${path}${near ? `: did you mean \`${near}\`?` : ""}`,
      {
        subject: key,
        hint: "keys are the names of flags without the dashes: `port`, `max-num-seqs`",
      },
    );
  }
}

function unknownVariables(env: ConfigSources["env"]): string[] {
  const known = new Map(Object.keys(OPTIONS).map((name) => [envName(name), name]));
  const warnings: string[] = [];
  for (const name of Object.keys(env)) {
    if (!name.startsWith("KVENGINE_") || known.has(name)) continue;
    if (OTHER_VARIABLES.has(name) || KUBERNETES_VARIABLE.test(name)) continue;
    const near = nearest(name, [...known.keys(), ...OTHER_VARIABLES]);
    warnings.push(`the variable ${name} means nothing${near ? `: did you mean ${near}?` : ""}`);
  }
  return warnings;
}

/** `written` as the option's type, or `bad_config` saying what is allowed. `subject` names where it was written. */
export function parseValue(option: Option, written: unknown, subject: string): unknown {
  const refuse = (): never => {
    const shown = "secret" in option && option.secret ? "its value" : `\`${String(written)}\``;
    throw new KvEngineError(
      "bad_config",
      `${subject}: ${shown} is not allowed; allowed is ${allowed(option)}`,
      {
        subject,
        hint: hintFor(option, written, subject),
      },
    );
  };
  switch (option.type) {
    case "boolean":
      if (written === true || written === "true" || written === "1") return true;
      if (written === false || written === "false" || written === "0") return false;
      return refuse();
    case "choice":
      return option.choices.includes(String(written)) ? String(written) : refuse();
    case "text":
    case "path":
      return typeof written === "string" && written !== "" ? written : refuse();
    case "texts": {
      const texts = parseTexts(written);
      return texts?.every((text) => text !== "") ? texts : refuse();
    }
    case "list": {
      const numbers = parseList(written);
      return numbers.length > 0 && numbers.every((n) => inRange(n, option)) ? numbers : refuse();
    }
    case "pairs": {
      const numbers = parseList(written);
      const fine = numbers.length % 2 === 0 && numbers.every((n) => inRange(n, option));
      return fine ? pairUp(numbers) : refuse();
    }
    case "pair": {
      const numbers = parseList(written);
      const [low = 0, high = 0] = numbers;
      const fine = numbers.length === 2 && low <= high && numbers.every((n) => inRange(n, option));
      return fine ? numbers : refuse();
    }
    default: {
      if (typeof written !== "string" && typeof written !== "number") return refuse();
      const number = parseNumber(String(written).trim(), option.type);
      return inRange(number, option) ? number : refuse();
    }
  }
}

/** The values of a flag, a list of a config file, or one text: `a,b`, or JSON where a value has a comma: `["a,b"]`. */
function parseTexts(written: unknown): string[] | undefined {
  if (typeof written === "string") {
    if (!written.startsWith("[")) return written.split(",").map((text) => text.trim());
    try {
      return parseTexts(JSON.parse(written));
    } catch {
      return undefined;
    }
  }
  if (!Array.isArray(written)) return undefined;
  return written.every((text) => typeof text === "string") ? written : undefined;
}

/** `1,2`, or an array of such texts, of numbers or of arrays; NaN where an entry is neither an integer nor a range. */
function parseList(written: unknown): number[] {
  if (!Array.isArray(written)) return parseIntegerList(String(written));
  return written.flatMap((entry) => parseList(entry));
}

function pairUp(numbers: readonly number[]): (readonly [number, number])[] {
  const pairs: (readonly [number, number])[] = [];
  for (let i = 0; i + 1 < numbers.length; i += 2) pairs.push([numbers[i]!, numbers[i + 1]!]);
  return pairs;
}

function inRange(value: number, range: { readonly min: number; readonly max: number }): boolean {
  return value >= range.min && value <= range.max;
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** NaN for what is not a number of this type, so that no range contains it. */
function parseNumber(text: string, type: "integer" | "number" | "bytes"): number {
  if (type === "bytes") {
    const match = /^(\d+(?:\.\d+)?) ?([kKMGT]?i?B|)$/.exec(text);
    const unit = BYTE_UNITS[match?.[2] ?? "none"];
    return unit === undefined ? Number.NaN : Math.floor(Number(match?.[1]) * unit);
  }
  if (type === "integer") return parseInteger(text);
  if (/^inf(inity)?$/i.test(text)) return Number.POSITIVE_INFINITY;
  return /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
}

/** The engine's and its connectors' part of the values, with the file of the model. */
export function engineConfig(modelPath: string, values: OptionValues): EngineConfig {
  const all: Readonly<Record<string, unknown>> = values;
  const rows = Object.entries(OPTIONS).filter(
    ([, { group }]) => group === "engine" || group === "connectors",
  );
  const own = rows.map(([name]) => [camelCase(name), all[camelCase(name)]]);
  return { modelPath, ...Object.fromEntries(own) } as EngineConfig;
}

/** The values an option takes, for messages and help. */
export function allowed(option: Option): string {
  switch (option.type) {
    case "boolean":
      return "true or false";
    case "choice":
      return option.choices.join(", ");
    case "text":
    case "path":
      return `a ${option.hint}`;
    case "texts":
      return `a ${option.hint}, or several of them joined by commas or as a JSON list`;
    default: {
      const most = option.max === Number.POSITIVE_INFINITY ? "inf" : option.max;
      const range = `${option.min} to ${most}${option.unit ? ` ${option.unit}` : ""}`;
      if (option.type === "list")
        return `integers of ${range} joined by commas, or ranges: 128-512+128, 128-1024*2`;
      if (option.type === "pairs") return `pairs of integers of ${range} joined by commas`;
      if (option.type === "pair")
        return `two integers of ${range} joined by a comma, the lower first`;
      if (option.type === "bytes") return `${range}, plain or as 512MiB, 2GiB, 500MB`;
      return option.type === "integer" ? `an integer of ${range}` : `a number of ${range}`;
    }
  }
}

function hintFor(option: Option, written: unknown, subject: string): string {
  if (subject === envName("port") && String(written).startsWith("tcp://")) {
    return "Kubernetes sets this variable for a service named kvengine: rename the service or set enableServiceLinks: false";
  }
  const near = option.type === "choice" ? nearest(String(written), option.choices) : undefined;
  return near ? `did you mean \`${near}\`?` : `an example is \`${option.example}\``;
}
