/** What `session freeze` and `session thaw` share: one call that moves a session, and the session as it is then. */

import type { OptionValues } from "../../engine/config.ts";
import { sessionSchema } from "../../engine/server/sessions/session-json.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { sessionField, sessionLines } from "./session-text.ts";

/** `more`: fields of the call beside the session's name. Throws what the server refuses. */
export async function moveSession(
  action: "freeze" | "thaw",
  name: string,
  { url, apiKey: [apiKey = ""], json }: OptionValues,
  more: object = {},
): Promise<number> {
  const session = await callServer({
    url,
    apiKey,
    path: `/kv/sessions/${action}`,
    method: "POST",
    body: { ...sessionField(name), ...more },
    schema: sessionSchema,
  });
  const text = json ? JSON.stringify(session, null, 2) : sessionLines([session]);
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
}
