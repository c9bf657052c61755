/** `kvengine chat`: a conversation on the terminal. */

import { createInterface } from "node:readline";
import type { CommandDef } from "citty";
import { toKvEngineError } from "../engine/errors.ts";
import type { ChatTemplateMessage } from "../engine/tokenizer/chat-template.ts";
import { defineOurCommand } from "./command.ts";
import { errorText, EXIT } from "./output.ts";
import { answer, chatPrompt, openSession, samplingOf } from "./session.ts";

const COMMANDS = "/clear forgets the conversation, /exit ends, Ctrl-C stops an answer";

const command: CommandDef = defineOurCommand("chat", async ({ values, positionals, log }) => {
  const session = await openSession(positionals[0] ?? "", values, log);
  const opening: ChatTemplateMessage[] =
    values.system === "" ? [] : [{ role: "system", content: values.system }];
  let messages = [...opening];
  let running: AbortController | undefined;
  const lines = createInterface({
    input: process.stdin,
    output: process.stdout,
    terminal: process.stdin.isTTY,
  });
  const interrupt = (): void => {
    if (running === undefined) lines.close();
    else running.abort();
  };
  // Piped lines may all be read, and the input closed, before the first answer.
  let closed = false;
  lines.on("close", () => {
    closed = true;
  });
  lines.on("SIGINT", interrupt);
  process.on("SIGINT", interrupt);
  log.info(`${session.client.info.modelName}: ${COMMANDS}`);
  lines.setPrompt("> ");
  lines.prompt();
  try {
    for await (const line of lines) {
      const text = line.trim();
      if (text === "/exit" || text === "/bye") break;
      if (text === "/clear") {
        messages = [...opening];
        log.info("forgotten");
      } else if (text === "/help") {
        log.info(COMMANDS);
      } else if (text.startsWith("/")) {
        log.warn(`unknown command ${text.split(" ")[0]}: ${COMMANDS}`);
      } else if (text !== "") {
        running = new AbortController();
        const asked: ChatTemplateMessage[] = [...messages, { role: "user", content: text }];
        try {
          const ids = chatPrompt(session, asked);
          const sampling = samplingOf(values, session, ids.length);
          const result = await answer(
            session,
            ids,
            sampling,
            (piece) => process.stdout.write(piece),
            running.signal,
          );
          process.stdout.write("\n");
          messages = [...asked, { role: "assistant", content: result.text }];
        } catch (thrown) {
          // A prompt that no longer fits ends the turn, not the conversation.
          if (toKvEngineError(thrown).code !== "context_length_exceeded") throw thrown;
          log.warn(`${errorText(thrown)}\n  /clear forgets the conversation`);
        }
        running = undefined;
      }
      if (!closed) lines.prompt();
    }
  } finally {
    process.off("SIGINT", interrupt);
    lines.close();
    await session.client.shutdown(0);
  }
  return EXIT.ok;
});

export default command;
