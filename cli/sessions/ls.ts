/** `kvengine session ls`: the sessions of a server. */

import type { CommandDef } from "citty";
import { sessionListSchema } from "../../engine/server/sessions/session-json.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { sessionLines } from "./session-text.ts";

const command: CommandDef = defineOurCommand("session ls", async ({ values }) => {
  const { url } = values;
  const [apiKey = ""] = values.apiKey;
  const list = await callServer({ url, apiKey, path: "/kv/sessions", schema: sessionListSchema });
  const text = values.json ? JSON.stringify(list, null, 2) : sessionLines(list.data);
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
});

export default command;
