/** The text of `--help`, derived from the option table and the commands' own words. */

import { envName, optionsOf } from "../engine/config.ts";
import { allowed } from "../engine/config-values.ts";
import { COMMANDS, GROUPS, type CommandName, type Option } from "../engine/option.ts";
import { COMMAND_USAGE } from "./commands.ts";
import { describeDefault, flagUsage } from "./flags.ts";

export function rootHelp(version: string): string {
  const width = Math.max(...COMMANDS.map((name) => name.length));
  return [
    `kvengine ${version}: serves language models from one file`,
    "",
    "Usage: kvengine <command> [arguments] [flags]",
    "",
    "Commands:",
    ...COMMANDS.map((name) => `  ${name.padEnd(width)}  ${COMMAND_USAGE[name].summary}`),
    "",
    "Examples:",
    "  kvengine serve smollm2-135m",
    '  kvengine run smollm2-135m "Name three colours."',
    "",
    "`kvengine <command> --help` lists a command's flags. Each flag is also a variable (--max-num-seqs,",
    "KVENGINE_MAX_NUM_SEQS) and a key of the file given by --config (max-num-seqs).",
  ].join("\n");
}

export function commandHelp(command: CommandName): string {
  const usage = COMMAND_USAGE[command];
  const places = usage.positionals
    .map(({ name, required }) => (required ? ` <${name}>` : ` [${name}]`))
    .join("");
  const lines = [usage.summary, "", `Usage: kvengine ${command}${places} [flags]`, ""];
  for (const { name, help } of usage.positionals) lines.push(`  <${name}>  ${help}`);
  if (usage.positionals.length > 0) lines.push("");
  const options = optionsOf(command);
  for (const group of GROUPS) {
    const rows = options.filter(([, option]) => option.group === group);
    if (rows.length === 0) continue;
    lines.push(`${group[0]?.toUpperCase()}${group.slice(1)} flags:`);
    for (const [name, option] of rows) {
      lines.push(
        `  ${flagUsage(name, option)}`,
        `        ${option.help}`,
        `        ${details(name, option)}`,
      );
    }
    lines.push("");
  }
  lines.push("  -h, --help", "        Print this", "", "Examples:");
  for (const [line, meaning] of usage.examples)
    lines.push(`  ${line}${meaning && `   # ${meaning}`}`);
  return lines.join("\n");
}

function details(name: string, option: Option): string {
  const range = "min" in option ? `, allowed ${allowed(option)}` : "";
  return `[default ${describeDefault(option)}${range}, env ${envName(name)}]`;
}

/** The README's table of all options. */
export function optionsTable(): string {
  const rows = ["| Flag | Default | Commands | What it does |", "| --- | --- | --- | --- |"];
  const seen = new Set<string>();
  for (const command of COMMANDS) {
    for (const [name, option] of optionsOf(command)) {
      if (seen.has(name)) continue;
      seen.add(name);
      const flag = `\`${flagUsage(name, option).replaceAll("|", "\\|")}\``;
      const plain = "unit" in option && option.type !== "bytes" && option.meaning === undefined;
      const unit = plain && option.unit ? ` ${option.unit}` : "";
      rows.push(
        `| ${flag} | ${describeDefault(option)}${unit} | ${option.commands.join(", ")} | ${option.help.replaceAll("|", "\\|")} |`,
      );
    }
  }
  return rows.join("\n");
}
