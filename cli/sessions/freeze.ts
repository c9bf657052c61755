/** `kvengine session freeze`: keeps a session's KV where it lasts. */

import type { CommandDef } from "citty";
import { sessionSchema } from "../../engine/server/sessions/session-json.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { sessionField, sessionLines } from "./session-text.ts";

const command: CommandDef = defineOurCommand("session freeze", async ({ values, positionals }) => {
  const [name = ""] = positionals;
  const { url } = values;
  const [apiKey = ""] = values.apiKey;
  const session = await callServer({
    url,
    apiKey,
    path: "/kv/sessions/freeze",
    method: "POST",
    body: { ...sessionField(name), ttl: values.sessionTtl },
    schema: sessionSchema,
  });
  const text = values.json ? JSON.stringify(session, null, 2) : sessionLines([session]);
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
});

export default command;
