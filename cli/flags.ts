/**
 * Command lines: the option table → citty's args, and a strict reading of what was typed. citty has no numbers and takes
 * any flag; here an unknown one is an error that names the nearest. Touches no disk.
 */

import type { ArgsDef } from "citty";
import { optionsOf, type OptionName } from "../engine/config.ts";
import { allowed, type FlagValue } from "../engine/config-values.ts";
import { KvEngineError } from "../engine/errors.ts";
import { nearest } from "../engine/nearest.ts";
import { type CommandName, isRepeatable, type Option } from "../engine/option.ts";
import { fromVllm } from "./vllm-flags.ts";

/** An argument without a flag. */
export interface Positional {
  readonly name: string;
  readonly help: string;
  readonly required: boolean;
}

export interface CommandLine {
  readonly flags: ReadonlyMap<OptionName, FlagValue>;
  /** As many as the command has at most; required ones are present. */
  readonly positionals: readonly string[];
}

/** For `--help` and for citty's own parsing, which is only used to find the subcommand. */
export function toCittyArgs(command: CommandName, positionals: readonly Positional[]): ArgsDef {
  const args: ArgsDef = {};
  for (const positional of positionals) {
    // Missing ones are refused by parseCommandLine, after unknown flags.
    args[positional.name] = { type: "positional", description: positional.help, required: false };
  }
  for (const [name, option] of optionsOf(command)) {
    args[name] = {
      type: option.type === "boolean" ? "boolean" : "string",
      description: option.help,
      ...(option.short === undefined ? {} : { alias: option.short }),
    };
  }
  return args;
}

/** Reads what follows the command's name. Throws `bad_config` for whatever the command does not take. */
export function parseCommandLine(
  command: CommandName,
  written: readonly string[],
  positionals: readonly Positional[],
): CommandLine {
  const args = command === "serve" ? fromVllm(written) : written;
  const rows = optionsOf(command);
  const options = new Map<string, Option>(rows);
  const byShort = new Map(
    rows.flatMap(([name, option]) => (option.short ? [[option.short, name] as const] : [])),
  );
  const flags = new Map<OptionName, FlagValue>();
  const rest: string[] = [];

  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    if (arg === "--") {
      rest.push(...args.slice(i + 1));
      break;
    }
    if (!arg.startsWith("-") || arg === "-") {
      rest.push(arg);
      continue;
    }
    const flag = splitFlag(command, arg, options, byShort);
    const option = options.get(flag.name);
    const before = flags.get(flag.name);
    const repeats = option !== undefined && isRepeatable(option);
    if (before !== undefined && !repeats) {
      throw new KvEngineError("bad_config", `--${flag.name} is given twice`, {
        subject: `--${flag.name}`,
      });
    }
    if (option?.type === "boolean") {
      flags.set(flag.name, flag.value ?? flag.positive);
      continue;
    }
    const value = flag.value ?? args[++i];
    if (value === undefined || (flag.value === undefined && looksLikeFlag(value, options)))
      throw missingValue(flag.name, option);
    flags.set(flag.name, repeats ? [...earlier(before), value] : value);
  }
  checkPositionals(command, rest, positionals);
  return { flags, positionals: rest };
}

function earlier(value: FlagValue | undefined): readonly string[] {
  return Array.isArray(value) ? value : [];
}

interface Flag {
  readonly name: OptionName;
  /** False for `--no-name`. */
  readonly positive: boolean;
  readonly value: string | undefined;
}

/** `--name`, `--name=value`, `--no-name`, `-x`, `-x=value`, `-x8`, `-xyz`, `-xyz=value`. */
function splitFlag(
  command: CommandName,
  arg: string,
  options: ReadonlyMap<string, Option>,
  byShort: ReadonlyMap<string, OptionName>,
): Flag {
  if (!arg.startsWith("--")) {
    const short = /^-([a-z]+)(=|$)/.exec(arg)?.[1] ?? "";
    const letters = byShort.has(short) ? short : (arg[1] ?? "");
    const name = byShort.get(letters);
    const rest = arg.slice(1 + letters.length);
    if (name === undefined || (rest !== "" && options.get(name)?.type === "boolean"))
      throw unknownFlag(command, arg, options);
    return { name, positive: true, value: rest === "" ? undefined : rest.replace(/^=/, "") };
  }
  const equals = arg.indexOf("=");
  const written = equals < 0 ? arg.slice(2) : arg.slice(2, equals);
  const value = equals < 0 ? undefined : arg.slice(equals + 1);
  if (isOption(written, options)) return { name: written, positive: true, value };
  const negated = written.slice(3);
  if (
    written.startsWith("no-") &&
    value === undefined &&
    isOption(negated, options) &&
    options.get(negated)?.type === "boolean"
  ) {
    return { name: negated, positive: false, value };
  }
  throw unknownFlag(command, `--${written}`, options);
}

function isOption(name: string, options: ReadonlyMap<string, Option>): name is OptionName {
  return options.has(name);
}

/** `-1` is a value; `--port` where a value belongs is a forgotten one. */
function looksLikeFlag(value: string, options: ReadonlyMap<string, Option>): boolean {
  if (!value.startsWith("--")) return false;
  const name = value.slice(2).split("=")[0] ?? "";
  return options.has(name) || options.has(name.replace(/^no-/, ""));
}

function missingValue(name: string, option: Option | undefined): KvEngineError {
  return new KvEngineError(
    "bad_config",
    `--${name} needs a value${option ? `: ${allowed(option)}` : ""}`,
    {
      subject: `--${name}`,
      hint: `an example is \`--${name} ${option?.example}\``,
    },
  );
}

function unknownFlag(
  command: CommandName,
  flag: string,
  options: ReadonlyMap<string, Option>,
): KvEngineError {
  const names = [...options.keys(), "help"].map((name) => `--${name}`);
  const near = flag.startsWith("--") ? nearest(flag, names) : undefined;
  return new KvEngineError(
    "bad_config",
    `unknown flag \`${flag}\`${near ? `: did you mean \`${near}\`?` : ""}`,
    {
      subject: flag,
      hint: `\`kvengine ${command} --help\` lists the flags`,
    },
  );
}

function checkPositionals(
  command: CommandName,
  given: readonly string[],
  positionals: readonly Positional[],
): void {
  const missing = positionals.find(
    (positional, i) => positional.required && given[i] === undefined,
  );
  if (missing !== undefined) {
    throw new KvEngineError("bad_config", `<${missing.name}> is missing: ${missing.help}`, {
      subject: missing.name,
      hint: `\`kvengine ${command} --help\` shows examples`,
    });
  }
  const extra = given[positionals.length];
  if (extra !== undefined) {
    throw new KvEngineError("bad_config", `\`${extra}\` is one argument too many`, {
      subject: extra,
      hint:
        positionals.length === 0
          ? `\`kvengine ${command}\` takes flags only`
          : "put text with blanks between quotes",
    });
  }
}

/** What `--help` says of an option's default. */
export function describeDefault(option: Option): string {
  if (option.type === "boolean") return option.default ? "on" : "off";
  if (option.type === "texts") return option.default.join(", ") || "none";
  if ("hint" in option) return option.default || "none";
  if (option.type === "choice") return option.default + otherDefaults(option);
  if (
    option.type === "bytes" &&
    typeof option.default === "number" &&
    option.default > 0 &&
    option.default % 2 ** 20 === 0
  ) {
    return `${option.default / 2 ** 20}MiB`;
  }
  if (Array.isArray(option.default) && option.default.length === 0) return "none";
  const value = option.default === Number.POSITIVE_INFINITY ? "inf" : String(option.default);
  const meant = option.meaning === undefined ? value : `${value} = ${option.meaning}`;
  return meant + otherDefaults(option);
}

/** Those of single commands. */
function otherDefaults({ defaults = {} }: { readonly defaults?: object }): string {
  return Object.entries(defaults)
    .map(([command, value]) => `; ${command}: ${value}`)
    .join("");
}

/** `--port <port>`, `--progress / --no-progress`, with the short form first. */
export function flagUsage(name: OptionName, option: Option): string {
  const short = option.short === undefined ? "" : `-${option.short}, `;
  switch (option.type) {
    case "boolean":
      return option.default ? `${short}--no-${name}` : `${short}--${name}`;
    case "choice":
      return `${short}--${name} <${option.choices.join("|")}>`;
    case "text":
    case "texts":
    case "path":
      return `${short}--${name} <${option.hint}>`;
    default:
      return `${short}--${name} <${option.unit || option.type}>`;
  }
}
