/** `kvengine connectors`: which KV connectors are built in, or the one of a file, and what their options are. */

import type { CommandDef } from "citty";
import { describeConnector } from "../connectors/connector-class.ts";
import { optionLines } from "../connectors/option-text.ts";
import type { ConnectorOptions } from "../connectors/options.ts";
import {
  CONNECTOR_NAMES,
  importConnector,
  importTier,
  TIER_NAMES,
} from "../connectors/registry.ts";
import { DISK_DESCRIPTION } from "../connectors/disk.ts";
import { describeTier } from "../connectors/tier-class.ts";
import { type Exported, loadExport } from "../engine/connectors/load-connector.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT, formatBytes } from "./output.ts";

interface Listed {
  readonly kind: "connector" | "tier";
  readonly name: string;
  readonly apiVersion: number;
  readonly options: ConnectorOptions;
}

const command: CommandDef = defineOurCommand("connectors", async ({ values, positionals }) => {
  const [spec] = positionals;
  const listed =
    spec === undefined
      ? await describeBuiltIn()
      : [listedOf(await loadExport(spec, process.cwd()))];
  process.stdout.write(`${values.json ? JSON.stringify(listed, null, 2) : toText(listed)}\n`);
  return EXIT.ok;
});

async function describeBuiltIn(): Promise<readonly Listed[]> {
  const connectors = CONNECTOR_NAMES.map(async (name) =>
    listedOf({ kind: "connector", description: describeConnector(await importConnector(name)) }),
  );
  const tiers = TIER_NAMES.map(async (name) =>
    listedOf({ kind: "tier", description: describeTier(await importTier(name)) }),
  );
  const disk = listedOf({
    kind: "tier",
    description: { ...DISK_DESCRIPTION, tierClass: undefined },
  });
  return [...(await Promise.all([...connectors, ...tiers])), disk];
}

function listedOf({ kind, description: { name, apiVersion, options } }: Exported): Listed {
  return { kind, name, apiVersion, options };
}

function toText(listed: readonly Listed[]): string {
  const lines = listed.flatMap(({ kind, name, apiVersion, options }) => {
    const rows = optionLines(options, formatBytes);
    const head = `${name} (${kind === "tier" ? "a tier, " : ""}version ${apiVersion} of the interface)`;
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
