/** `kvengine kv unpin`: ends a pin before its time. */

import type { CommandDef } from "citty";
import { pinAnswerSchema } from "../../engine/server/pins/pin-json.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { pinLines } from "./pin-text.ts";

const command: CommandDef = defineOurCommand("kv unpin", async ({ values, positionals }) => {
  const [id = ""] = positionals;
  const { url } = values;
  const [apiKey = ""] = values.apiKey;
  const path = `/kv/pin/${encodeURIComponent(id)}`;
  const pin = await callServer({ url, apiKey, path, method: "DELETE", schema: pinAnswerSchema });
  const text = values.json ? JSON.stringify(pin, null, 2) : `ended ${pin.id}\n${pinLines([], pin)}`;
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
});

export default command;
