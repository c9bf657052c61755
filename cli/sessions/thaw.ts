/** `kvengine session thaw`: brings a session's KV back to the host's memory. */

import type { CommandDef } from "citty";
import { defineOurCommand } from "../command.ts";
import { moveSession } from "./move-session.ts";

const command: CommandDef = defineOurCommand("session thaw", ({ values, positionals }) =>
  moveSession("thaw", positionals[0] ?? "", values),
);

export default command;
