/** What may be done about a miss. */

import type { PromptFacts } from "../../explain/facts.ts";
import type { PromptExplanation } from "./explanation.ts";

export function hintsOf(facts: PromptFacts, difference: PromptExplanation["difference"]): string[] {
  const hints: string[] = [];
  const running = facts.connectors.filter(({ isDisabled }) => !isDisabled);
  for (const { name, isDisabled } of facts.connectors)
    if (isDisabled) hints.push(`the KV connector ${name} is disabled: the server's log says why`);
  if (facts.cause === "evicted" && facts.connectors.length === 0)
    hints.push("no KV connector runs: --kv-connector cpu-offload keeps evicted blocks in memory");
  if (facts.cause === "evicted" && running.length > 0 && facts.droppedAt === undefined)
    hints.push("no KV connector offered a copy of the block");
  if (facts.cause === "evicted")
    hints.push("more KV blocks (--kv-cache-memory, --kv-cache-dtype) keep prompts longer");
  if (difference === "time" || difference === "uuid")
    hints.push("put what changes from request to request at the end of the prompt");
  if (difference === "tool_order") hints.push("send tools in the same order each time");
  if (facts.cause === "never_stored" && facts.number === 1)
    hints.push("after a restart only what a tier on disk keeps is found again");
  if (facts.hasSalt && facts.cause !== "none")
    hints.push("the request has a cache_salt: it is compared with those of the same salt only");
  if (!facts.isComplete && facts.cause !== "none")
    hints.push("older requests or evictions are forgotten: what follows from them is not told");
  return hints;
}
