/** What every command does first: read its line, its variables and its config file, and set up the logger. */

import { type CommandDef, defineCommand } from "citty";
import type { ConsolaInstance } from "consola";
import { envName, type OptionValues } from "../engine/config.ts";
import { resolveConfig } from "../engine/config-values.ts";
import { KvEngineError } from "../engine/errors.ts";
import type { CommandName } from "../engine/option.ts";
import { COMMAND_USAGE } from "./commands.ts";
import { parseCommandLine, toCittyArgs } from "./flags.ts";
import { createLogger } from "./output.ts";

export interface CommandInput {
  readonly values: OptionValues;
  readonly positionals: readonly string[];
  readonly log: ConsolaInstance;
}

/** A citty command whose result is the exit code. */
export function defineOurCommand(
  command: CommandName,
  body: (input: CommandInput) => Promise<number>,
): CommandDef {
  const { summary, positionals } = COMMAND_USAGE[command];
  return defineCommand({
    meta: { name: command, description: summary },
    args: toCittyArgs(command, positionals),
    run: async ({ rawArgs }) => {
      const line = parseCommandLine(command, rawArgs, positionals);
      const path = line.flags.get("config") ?? (process.env[envName("config")] || undefined);
      const file =
        typeof path === "string" ? { file: { path, table: await readConfigFile(path) } } : {};
      const { values, warnings } = resolveConfig(command, {
        flags: line.flags,
        env: process.env,
        ...file,
      });
      const log = createLogger(values.logLevel, values.logFormat);
      for (const warning of warnings) log.warn(warning);
      return body({ values, positionals: line.positionals, log });
    },
  });
}

async function readConfigFile(path: string): Promise<Record<string, unknown>> {
  const parse = parserFor(path);
  let text: string;
  try {
    text = await Bun.file(path).text();
  } catch (cause) {
    throw new KvEngineError("bad_config", `the config file ${path} cannot be read`, {
      subject: "--config",
      cause,
    });
  }
  let table: unknown;
  try {
    table = parse(text);
  } catch (cause) {
    throw new KvEngineError("bad_config", `the config file ${path} is malformed`, {
      subject: "--config",
      cause,
    });
  }
  if (typeof table !== "object" || table === null || Array.isArray(table)) {
    throw new KvEngineError("bad_config", `the config file ${path} must hold a table of options`, {
      subject: "--config",
    });
  }
  return { ...table };
}

function parserFor(path: string): (text: string) => unknown {
  if (path.endsWith(".json")) return (text): unknown => JSON.parse(text);
  if (path.endsWith(".toml")) return (text): unknown => Bun.TOML.parse(text);
  throw new KvEngineError("bad_config", `the config file ${path} is neither .toml nor .json`, {
    subject: "--config",
  });
}
