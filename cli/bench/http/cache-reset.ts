/** Emptying the prefix cache of a server, by each one's own call. */

import { KvEngineError } from "../../../engine/errors.ts";
import { control, type ControlAnswer, describeAnswer } from "./control.ts";
import { asArray, asCount, asObject } from "./json.ts";
import type { ServerKind, Target } from "./target.ts";

/** The call, for reports. */
export const RESET_CALLS: Readonly<Record<ServerKind, string | undefined>> = {
  kvengine: "POST /reset_prefix_cache",
  vllm: "POST /reset_prefix_cache",
  sglang: "POST /flush_cache",
  "llama-server": "POST /slots/{id}?action=erase",
  unknown: undefined,
};

/** What each server needs for its call to work. */
const HINTS: Readonly<Record<ServerKind, string>> = {
  kvengine: "is --api-key the server's?",
  vllm: "vLLM has this call in development mode only: start it with VLLM_SERVER_DEV_MODE=1",
  sglang: "SGLang empties its cache only while nothing runs or waits",
  "llama-server": "start llama-server with --slot-save-path and --slots",
  unknown: "use --cache-state uncontrolled, or start the server anew before each run",
};

/** Returns once the cache is empty, with what may still be in another one. Throws `unsupported` with what the server would need. */
export async function resetCache(target: Target): Promise<string | undefined> {
  const { kind } = target;
  switch (kind) {
    case "kvengine":
      checked(kind, await control(target, "POST", "/reset_prefix_cache"));
      return undefined;
    case "vllm": {
      const answer = await control(target, "POST", "/reset_prefix_cache");
      checked(kind, answer);
      if (asObject(answer.json)?.["success"] === false)
        throw refused(kind, "blocks are still held by requests");
      return undefined;
    }
    case "sglang":
      checked(kind, await control(target, "POST", "/flush_cache"));
      return undefined;
    case "llama-server":
      await eraseSlots(target);
      return "llama-server's slots were erased, but its prompt cache in host memory (--cache-ram) may still have their prompts";
    case "unknown":
      throw refused(kind, "how to empty the cache of this server is not known");
  }
}

async function eraseSlots(target: Target): Promise<void> {
  const listed = await control(target, "GET", "/slots");
  checked(target.kind, listed);
  for (const slot of asArray(listed.json) ?? []) {
    const id = asCount(asObject(slot)?.["id"]);
    if (id !== undefined)
      checked(target.kind, await control(target, "POST", `/slots/${id}?action=erase`));
  }
}

function checked(kind: ServerKind, answer: ControlAnswer): void {
  if (answer.status !== 200) throw refused(kind, `it answers ${describeAnswer(answer)}`);
}

function refused(kind: ServerKind, why: string): KvEngineError {
  const call = RESET_CALLS[kind];
  return new KvEngineError(
    "unsupported",
    `the prefix cache cannot be emptied${call === undefined ? "" : ` by ${call}`}: ${why}`,
    { subject: "--cache-state", hint: HINTS[kind] },
  );
}
