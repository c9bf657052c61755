/** `kvengine session freeze`: keeps a session's KV where it lasts. */

import type { CommandDef } from "citty";
import { defineOurCommand } from "../command.ts";
import { moveSession } from "./move-session.ts";

const command: CommandDef = defineOurCommand("session freeze", ({ values, positionals }) =>
  moveSession("freeze", positionals[0] ?? "", values, { ttl: values.sessionTtl }),
);

export default command;
