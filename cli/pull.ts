/** `kvengine pull`: gets a model. The path is all that standard output gets, for scripts. */

import type { CommandDef } from "citty";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";
import { findModel } from "./session.ts";

const command: CommandDef = defineOurCommand("pull", async ({ values, positionals, log }) => {
  process.stdout.write(`${await findModel(positionals[0] ?? "", values, log)}\n`);
  return EXIT.ok;
});

export default command;
