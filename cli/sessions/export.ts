/** `kvengine session export`: a session's KV as a file. It takes the place of another one only when it is whole. */

import { rename, rm } from "node:fs/promises";
import type { CommandDef } from "citty";
import { KvEngineError } from "../../engine/errors.ts";
import { SIZE_HEADER } from "../../engine/server/sessions/session-transfer.ts";
import { defineOurCommand } from "../command.ts";
import { createLogger, createProgress, EXIT, formatBytes } from "../output.ts";
import { openCall } from "../server-call.ts";
import { counted } from "./counted.ts";
import { sessionField } from "./session-text.ts";

const command: CommandDef = defineOurCommand("session export", async ({ values, positionals }) => {
  const [name = "", file = ""] = positionals;
  const { url } = values;
  const [apiKey = ""] = values.apiKey;
  const log = createLogger(values.logLevel);
  const progress = createProgress(log, values.progress);
  const response = await openCall({
    ...{ url, apiKey, method: "POST", path: "/kv/sessions/export" },
    body: sessionField(name),
  });
  const part = `${file}.part`;
  const total = Number(response.headers.get(SIZE_HEADER) ?? 0);
  let bytes = 0;
  try {
    const sink = Bun.file(part).writer();
    const body = response.body ?? new ReadableStream();
    for await (const chunk of counted(body, file, total, progress)) {
      bytes += chunk.byteLength;
      await sink.write(chunk);
      await sink.flush();
    }
    await sink.end();
    if (bytes !== total)
      throw new KvEngineError("unavailable", `the server ended after ${bytes} of ${total} bytes`);
    await rename(part, file);
  } catch (thrown) {
    await rm(part, { force: true });
    throw thrown;
  } finally {
    progress.stop();
  }
  const text = values.json
    ? JSON.stringify({ file, bytes }, null, 2)
    : `wrote ${file} (${formatBytes(bytes)}): KV and token ids, no texts`;
  process.stdout.write(`${text}\n`);
  return EXIT.ok;
});

export default command;
