/** `kvengine connectors`: which KV connectors are built in, or the one of a file, and what their options are. */

import type { CommandDef } from "citty";
import { type ConnectorDescription, describeConnector } from "../connectors/connector-class.ts";
import { optionLines } from "../connectors/option-text.ts";
import type { ConnectorOptions } from "../connectors/options.ts";
import { CONNECTOR_NAMES, importConnector } from "../connectors/registry.ts";
import { loadConnectorClass } from "../engine/connectors/load-connector.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";

interface Listed {
  readonly name: string;
  readonly apiVersion: number;
  readonly options: ConnectorOptions;
}

const command: CommandDef = defineOurCommand("connectors", async ({ values, positionals }) => {
  const [spec] = positionals;
  const listed =
    spec === undefined
      ? await Promise.all(CONNECTOR_NAMES.map(describeBuiltIn))
      : [listedOf(await loadConnectorClass(spec, process.cwd()))];
  process.stdout.write(`${values.json ? JSON.stringify(listed, null, 2) : toText(listed)}\n`);
  return EXIT.ok;
});

async function describeBuiltIn(name: string): Promise<Listed> {
  return listedOf(describeConnector(await importConnector(name)));
}

function listedOf({ name, apiVersion, options }: ConnectorDescription): Listed {
  return { name, apiVersion, options };
}

function toText(listed: readonly Listed[]): string {
  const lines = listed.flatMap(({ name, apiVersion, options }) => {
    const rows = optionLines(options, formatBytes);
    const head = `${name} (version ${apiVersion} of the interface)`;
    if (rows.length === 0) return [`${head}: no options`];
    return [`${head}:`, ...rows.map((row) => `  ${row}`)];
  });
  return [
    ...lines,
    "",
    "Run one: kvengine serve --kv-connector NAME, or ./FILE.ts for your own.",
  ].join("\n");
}

export default command;
