#!/usr/bin/env bun
/** The root command. Finds the subcommand, prints help, turns what is thrown into text; the only process.exit. */

import { runCommand } from "citty";
import { nearest } from "../engine/nearest.ts";
import { KvEngineError } from "../engine/errors.ts";
import { COMMANDS, type CommandName } from "../engine/option.ts";
import { COMMAND_USAGE } from "./commands.ts";
import { commandHelp, rootHelp } from "./help.ts";
import { errorText, EXIT, exitCodeOf } from "./output.ts";
import { VERSION } from "./version.ts";

async function main(args: readonly string[]): Promise<number> {
  if (args[0] === "--version" || args[0] === "-v") {
    process.stdout.write(`kvengine ${VERSION}\n`);
    return EXIT.ok;
  }
  const target = findCommand(args);
  if (target === undefined) {
    process.stdout.write(`${rootHelp(VERSION)}\n`);
    return args.length === 0 ? EXIT.usage : EXIT.ok;
  }
  if (asksForHelp(target.rest)) {
    process.stdout.write(`${commandHelp(target.command)}\n`);
    return EXIT.ok;
  }
  const { result } = await runCommand(await COMMAND_USAGE[target.command].load(), {
    rawArgs: [...target.rest],
  });
  return typeof result === "number" ? result : EXIT.ok;
}

/** Undefined = the root's own help is wanted. Throws `bad_config` for a word that is no command. */
function findCommand(
  args: readonly string[],
): { command: CommandName; rest: readonly string[] } | undefined {
  const [first, second] = args;
  if (first === undefined || first === "--help" || first === "-h" || first === "help")
    return undefined;
  const isFamily = COMMANDS.some((name) => name.startsWith(`${first} `));
  // A path is no word of a command: it is what the family's own command is about.
  const hasWord = second !== undefined && !/^-|[./]/.test(second);
  const sought = isFamily && hasWord ? `${first} ${second}` : first;
  const command = COMMANDS.find((name) => name === sought);
  if (command !== undefined) return { command, rest: args.slice(command.split(" ").length) };
  if (first === "bench" && (second === undefined || asksForHelp([second])))
    return { command: "bench engine", rest: ["--help"] };
  const near = nearest(sought, COMMANDS);
  throw new KvEngineError(
    "bad_config",
    `unknown command \`${sought}\`${near ? `: did you mean \`${near}\`?` : ""}`,
    {
      subject: sought,
      hint: `commands are ${COMMANDS.join(", ")}`,
    },
  );
}

function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const flags = end < 0 ? args : args.slice(0, end);
  return flags.includes("--help") || flags.includes("-h");
}

// A reader that has gone (`kvengine run … | head`) is not worth a stack.
process.stdout.on("error", (error: NodeJS.ErrnoException) =>
  process.exit(error.code === "EPIPE" ? EXIT.ok : EXIT.failed),
);

let exitCode: number;
try {
  exitCode = await main(process.argv.slice(2));
} catch (thrown) {
  process.stderr.write(`${errorText(thrown)}\n`);
  exitCode = exitCodeOf(thrown);
}
process.exit(exitCode);
