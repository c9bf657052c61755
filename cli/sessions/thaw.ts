/** `kvengine session thaw`: brings a session's KV back to the host's memory. */

import type { CommandDef } from "citty";
import { sessionSchema } from "../../engine/server/sessions/session-json.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { sessionField, sessionLines } from "./session-text.ts";

const command: CommandDef = defineOurCommand("session thaw", async ({ values, positionals }) => {
  const [name = ""] = positionals;
  const { url } = values;
  const [apiKey = ""] = values.apiKey;
  const session = await callServer({
    url,
    apiKey,
    path: "/kv/sessions/thaw",
    method: "POST",
    body: { ...sessionField(name) },
    schema: sessionSchema,
  });
  const text = values.json ? JSON.stringify(session, null, 2) : sessionLines([session]);
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
});

export default command;
