/** `kvengine explain`: asks a running server why a prompt was cached as far as it was. */

import type { CommandDef } from "citty";
import {
  type Explanation,
  explanationSchema,
  type PromptExplanation,
} from "../engine/server/explain/explanation.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";
import { callServer } from "./server-call.ts";

const command: CommandDef = defineOurCommand("explain", async ({ values, positionals }) => {
  const [id = ""] = positionals;
  const { url, apiKey, against } = values;
  const explanation = await callServer({
    url,
    apiKey: apiKey[0] ?? "",
    path: `/kv/explain/${encodeURIComponent(id)}`,
    ...(against === "" ? {} : { query: { against } }),
    schema: explanationSchema,
  });
  process.stdout.write(
    `${values.json ? JSON.stringify(explanation, null, 2) : toText(explanation)}\n`,
  );
  return EXIT.ok;
});

function toText({ prompts }: Explanation): string {
  return prompts.map((prompt) => promptText(prompt, prompts.length > 1)).join("\n\n");
}

function promptText(prompt: PromptExplanation, isOneOfSeveral: boolean): string {
  const { index, sentence, token, against, hints } = prompt;
  const lines = [isOneOfSeveral ? `Prompt ${index}: ${sentence}` : sentence];
  if (prompt.runs.length > 0) lines.push("", ...table(prompt));
  if (token !== null)
    lines.push("", `around token ${token.position}: ${JSON.stringify(token.near)}`);
  if (against !== null) lines.push("", againstText(against));
  if (hints.length > 0) lines.push("", ...hints.map((hint) => `hint: ${hint}`));
  return lines.join("\n");
}

/** A run a line: from, to, how many, and what became of them. */
function table({ runs }: PromptExplanation): string[] {
  const rows = runs.map(({ start, end, state, tier }) => [
    String(start),
    String(end),
    String(end - start),
    MEANINGS[state] + (tier === null ? "" : ` (${tier})`),
  ]);
  const all = [["from", "to", "tokens", "what"], ...rows];
  const widths = [0, 1, 2].map((i) => Math.max(...all.map((row) => (row[i] ?? "").length)));
  return all.map((row) =>
    row.map((cell, i) => (i < widths.length ? cell.padStart(widths[i] ?? 0) : cell)).join("  "),
  );
}

const MEANINGS: Readonly<Record<PromptExplanation["runs"][number]["state"], string>> = {
  cached: "cached",
  evicted: "computed: evicted before",
  reset: "computed: the cache was reset",
  step_failed: "computed: the step that computed it before failed",
  last: "computed: behind the last full block",
  computed: "computed",
};

function againstText(against: NonNullable<PromptExplanation["against"]>): string {
  const { request, common_tokens: common, same_salt: sameSalt, token } = against;
  const salt = sameSalt ? "" : ", under another cache_salt";
  const next = token === null ? "ends there" : `goes on with ${JSON.stringify(token.text)}`;
  return `request ${request}${salt} has the same first ${common} tokens and ${next}`;
}

export default command;
