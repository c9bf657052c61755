/**
 * Body fields beyond those that are read: harmless ones are ignored and reported in a header, ones that would change the
 * answer are refused unless they ask for what happens anyway, and any other is an error that names the nearest.
 */

import { KvEngineError } from "../errors.ts";
import { unknownField } from "./schema-check.ts";

/** Fields that change nothing about the tokens of an answer. */
export const HARMLESS: ReadonlySet<string> = new Set([
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_retention",
  "prompt_cache_options",
  "prediction",
  "cache_prompt",
  "request_id",
  "spaces_between_special_tokens",
]);

interface Refused {
  /** What may stand there, for people. */
  readonly allowed: string;
  /** Whether the value asks for nothing that is missing. */
  readonly accepts: (value: unknown) => boolean;
  /** The field that means the same here. */
  readonly instead?: string;
}

const only = (value: string | number | boolean): Refused => ({
  allowed: JSON.stringify(value),
  accepts: (given) => given === value,
});
const EMPTY_LIST: Refused = {
  allowed: "[]",
  accepts: (given) => Array.isArray(given) && given.length === 0,
};
const ABSENT: Refused = { allowed: "null", accepts: () => false };
const renamed = (instead: string): Refused => ({ ...ABSENT, instead });

const REFUSED: Readonly<Record<string, Refused>> = {
  length_penalty: only(1),
  logit_processors: EMPTY_LIST,
  logits_processors: EMPTY_LIST,
  use_beam_search: only(false),
  early_stopping: only(false),
  include_stop_str_in_output: only(false),
  skip_special_tokens: only(true),
  return_tokens_as_token_ids: only(false),
  truncate_prompt_tokens: ABSENT,
  guided_json: renamed("structured_outputs.json"),
  guided_regex: renamed("structured_outputs.regex"),
  guided_choice: renamed("structured_outputs.choice"),
  guided_grammar: renamed("structured_outputs.grammar"),
  guided_json_object: renamed("structured_outputs.json_object"),
  guided_decoding_backend: ABSENT,
  guided_whitespace_pattern: ABSENT,
  structural_tag: ABSENT,
  grammar: renamed("structured_outputs.grammar"),
  json_schema: renamed("structured_outputs.json"),
};

const REFUSED_IN_CHAT: Readonly<Record<string, Refused>> = {
  functions: EMPTY_LIST,
  function_call: {
    allowed: '"none" or "auto"',
    accepts: (given) => given === "none" || given === "auto",
  },
  modalities: {
    allowed: '["text"]',
    accepts: (given) => Array.isArray(given) && given.length === 1 && given[0] === "text",
  },
  audio: ABSENT,
  verbosity: ABSENT,
  web_search_options: ABSENT,
  chat_template: ABSENT,
  documents: EMPTY_LIST,
  echo: only(false),
};

const REFUSED_IN_COMPLETIONS: Readonly<Record<string, Refused>> = {
  best_of: only(1),
  suffix: only(""),
  add_special_tokens: only(true),
};

const REFUSED_IN_RESPONSES: Readonly<Record<string, Refused>> = {
  conversation: ABSENT,
  prompt: ABSENT,
  max_tool_calls: ABSENT,
  context_management: ABSENT,
  moderation: ABSENT,
  n: only(1),
};

const REFUSED_BY: Readonly<Record<Endpoint, Readonly<Record<string, Refused>>>> = {
  chat: REFUSED_IN_CHAT,
  completions: REFUSED_IN_COMPLETIONS,
  responses: REFUSED_IN_RESPONSES,
};

type Endpoint = "chat" | "completions" | "responses";

/**
 * Checks every field that no schema reads. `null` is the same as leaving a field out.
 * @returns the names of ignored fields.
 */
export function checkOtherFields(
  fields: Readonly<Record<string, unknown>>,
  known: readonly string[],
  endpoint: Endpoint,
): readonly string[] {
  const refused = { ...REFUSED, ...REFUSED_BY[endpoint] };
  const ignored: string[] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (known.includes(name)) continue;
    const rule = Object.hasOwn(refused, name) ? refused[name] : undefined;
    if (rule !== undefined) {
      if (value === null || rule.accepts(value)) continue;
      throw new KvEngineError(
        "invalid_request",
        rule.instead === undefined
          ? `${name} is not supported; allowed is ${rule.allowed}`
          : `there is no field ${name}; ${rule.instead} is the one`,
        {
          subject: name,
          hint: rule.instead === undefined ? `leave ${name} out` : `use ${rule.instead}`,
        },
      );
    }
    if (HARMLESS.has(name)) {
      if (value !== null) ignored.push(name);
      continue;
    }
    throw unknownField([], name, [...known, ...Object.keys(refused), ...HARMLESS]);
  }
  return ignored;
}
