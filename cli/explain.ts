/** `kvengine explain`: asks a running server why a prompt was cached as far as it was. */

import type { CommandDef } from "citty";
import { KvEngineError } from "../engine/errors.ts";
import {
  type Explanation,
  explanationSchema,
  type PromptExplanation,
} from "../engine/server/explain/explanation.ts";
import { defineOurCommand } from "./command.ts";
import { EXIT } from "./output.ts";

const command: CommandDef = defineOurCommand("explain", async ({ values, positionals }) => {
  const [id = ""] = positionals;
  const url = new URL(`/kv/explain/${encodeURIComponent(id)}`, readUrl(values.url));
  if (values.against !== "") url.searchParams.set("against", values.against);
  const explanation = await ask(url, values.apiKey[0] ?? "");
  process.stdout.write(
    `${values.json ? JSON.stringify(explanation, null, 2) : toText(explanation)}\n`,
  );
  return EXIT.ok;
});

function readUrl(text: string): URL {
  const url = URL.parse(text);
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new KvEngineError("bad_config", `--url is ${JSON.stringify(text)}; allowed is an address`, {
    subject: "--url",
    hint: "an example is `--url http://127.0.0.1:8000`",
  });
}

async function ask(url: URL, apiKey: string): Promise<Explanation> {
  const headers: Record<string, string> =
    apiKey === "" ? {} : { authorization: `Bearer ${apiKey}` };
  let response: Response;
  let body: unknown;
  try {
    response = await fetch(url, { headers });
    body = await response.json();
  } catch (cause) {
    throw new KvEngineError("unavailable", `${url.origin} does not answer as kvengine does`, {
      subject: "--url",
      hint: "name the address of a running `kvengine serve` with --url",
      cause,
    });
  }
  const read = explanationSchema.safeParse(body);
  if (read.success) return read.data;
  throw refusalOf(response.status, body);
}

/** What the server says; its words are for people already. */
function refusalOf(status: number, body: unknown): KvEngineError {
  const error = isObject(body) && isObject(body["error"]) ? body["error"] : {};
  const { message } = error;
  const text = typeof message === "string" ? message : `the server answered with status ${status}`;
  const code = status === 401 ? "unauthorized" : status === 404 ? "not_found" : "unavailable";
  return new KvEngineError(code, text);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

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
