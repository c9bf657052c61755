/** `kvengine connectors`: which KV connectors are built in, and what their options are. */

import type { CommandDef } from "citty";
import { describeConnector } from "../connectors/connector-class.ts";
import type { ConnectorOption } from "../connectors/options.ts";
import { CONNECTOR_NAMES, importConnector } from "../connectors/registry.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";

interface Listed {
  readonly name: string;
  readonly apiVersion: number;
  readonly options: Readonly<Record<string, ConnectorOption>>;
}

const command: CommandDef = defineOurCommand("connectors", async ({ values }) => {
  const listed = await Promise.all(CONNECTOR_NAMES.map(describe));
  process.stdout.write(`${values.json ? JSON.stringify(listed, null, 2) : toText(listed)}\n`);
  return EXIT.ok;
});

async function describe(name: string): Promise<Listed> {
  const { apiVersion, options } = describeConnector(await importConnector(name));
  return { name, apiVersion, options };
}

function toText(listed: readonly Listed[]): string {
  const lines = listed.flatMap(({ name, apiVersion, options }) => {
    const rows = Object.entries(options);
    const head = `${name} (version ${apiVersion} of the interface)`;
    if (rows.length === 0) return [`${head}: no options`];
    return [`${head}:`, ...rows.map(([option, row]) => `  ${option}: ${optionText(row)}`)];
  });
  return [
    ...lines,
    "",
    "Run one: kvengine serve --kv-connector NAME, or ./FILE.ts for your own.",
  ].join("\n");
}

function optionText(option: ConnectorOption): string {
  return `${option.help} [default ${valueText(option, option.default)}, allowed ${allowedText(option)}]`;
}

function allowedText(option: ConnectorOption): string {
  switch (option.type) {
    case "boolean":
      return "true or false";
    case "text":
      return "text";
    case "choice":
      return option.choices.join(", ");
    default: {
      const range = `${valueText(option, option.min)} to ${valueText(option, option.max)}`;
      return option.unit === undefined ? range : `${range} ${option.unit}`;
    }
  }
}

function valueText(option: ConnectorOption, value: number | boolean | string): string {
  if (option.type === "bytes" && typeof value === "number") return formatBytes(value);
  return value === "" ? "none" : String(value);
}

export default command;
