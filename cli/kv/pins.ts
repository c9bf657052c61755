/** `kvengine kv pins`: what is pinned. */

import type { CommandDef } from "citty";
import { pinListSchema } from "../../engine/server/pins/pin-json.ts";
import { defineOurCommand } from "../command.ts";
import { EXIT } from "../output.ts";
import { callServer } from "../server-call.ts";
import { pinLines } from "./pin-text.ts";

const command: CommandDef = defineOurCommand("kv pins", async ({ values }) => {
  const { url } = values;
  const [apiKey = ""] = values.apiKey;
  const list = await callServer({ url, apiKey, path: "/kv/pins", schema: pinListSchema });
  process.stdout.write(
    `${values.json ? JSON.stringify(list, null, 2) : pinLines(list.data, list)}\n`,
  );
  return EXIT.ok;
});

export default command;
