/** `kvengine kv pin`: keeps a prompt's KV in the host's pages for a while. */

import type { CommandDef } from "citty";
import { pinAnswerSchema } from "../../engine/server/pins/pin-json.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { pinLines } from "./pin-text.ts";

const command: CommandDef = defineOurCommand("kv pin", async ({ values, positionals }) => {
  const [id = ""] = positionals;
  const { url, pinTokens, pinTtl } = values;
  const [apiKey = ""] = values.apiKey;
  const pin = await callServer({
    url,
    apiKey,
    path: "/kv/pin",
    method: "POST",
    body: { id, ttl: pinTtl, ...(pinTokens === 0 ? {} : { tokens: pinTokens }) },
    schema: pinAnswerSchema,
  });
  process.stdout.write(`${values.json ? JSON.stringify(pin, null, 2) : pinLines([pin], pin)}\n`);
  return EXIT.ok;
});

export default command;
