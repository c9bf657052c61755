/** `kvengine session import`: a session's KV from a file, so that its next message finds it. */

import type { CommandDef } from "citty";
import { KvEngineError } from "../../engine/errors.ts";
import { sessionSchema } from "../../engine/server/sessions/session-json.ts";
import { defineOurCommand } from "../command.ts";
import { createLogger, createProgress, EXIT } from "../output.ts";
import { openCall } from "../server-call.ts";
import { counted } from "./counted.ts";
import { sessionLines } from "./session-text.ts";

const command: CommandDef = defineOurCommand("session import", async ({ values, positionals }) => {
  const [path = ""] = positionals;
  const { url, sessionName, sessionSalt, sessionTtl } = values;
  const [apiKey = ""] = values.apiKey;
  const file = Bun.file(path);
  if (!(await file.exists()))
    throw new KvEngineError("invalid_request", `there is no file ${path}`, { subject: "file" });
  const progress = createProgress(createLogger(values.logLevel), values.progress, "sending");
  try {
    const response = await openCall({
      ...{ url, apiKey, method: "POST", path: "/kv/sessions/import" },
      query: {
        ttl: `${sessionTtl}`,
        ...(sessionName === "" ? {} : { session: sessionName }),
        ...(sessionSalt === "" ? {} : { cache_salt: sessionSalt }),
      },
      body: counted(file.stream(), path, file.size, progress),
    });
    const session = sessionSchema.parse(await response.json());
    const text = values.json ? JSON.stringify(session, null, 2) : sessionLines([session]);
    process.stdout.write(`${text}\n`);
  } finally {
    progress.stop();
  }
  return EXIT.ok;
});

export default command;
