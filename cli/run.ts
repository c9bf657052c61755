/** `kvengine run`: one prompt, streamed to standard output; numbers go to standard error. */

import type { CommandDef } from "citty";
import { KvEngineError } from "../engine/errors.ts";
import type { ChatTemplateMessage } from "../engine/tokenizer/chat-template.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";
import { answer, chatPrompt, openSession, samplingOf, statsLine } from "./session.ts";

const command: CommandDef = defineOurCommand("run", async ({ values, positionals, log }) => {
  const [spec = "", words = ""] = positionals;
  const piped = process.stdin.isTTY ? "" : await Bun.stdin.text();
  const prompt = [words, piped.trimEnd()].filter((part) => part !== "").join("\n\n");
  if (prompt === "") {
    throw new KvEngineError("bad_config", "there is no prompt", {
      subject: "prompt",
      hint: 'give one: `kvengine run MODEL "Name three colours."`, or pipe one in',
    });
  }
  const session = await openSession(spec, values, log);
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  try {
    const messages: ChatTemplateMessage[] = [{ role: "user", content: prompt }];
    if (values.system !== "") messages.unshift({ role: "system", content: values.system });
    const ids = chatPrompt(session, messages);
    const sampling = samplingOf(values, session, ids.length);
    const result = await answer(
      session,
      ids,
      sampling,
      (text) => process.stdout.write(text),
      stop.signal,
    );
    if (!result.text.endsWith("\n")) process.stdout.write("\n");
    log.info(statsLine(result));
    return stop.signal.aborted ? EXIT.interrupted : EXIT.ok;
  } finally {
    await session.client.shutdown(0);
  }
});

export default command;
