/** How families of models write calls of tools, as rules of a grammar. */

import type { Tool } from "../chat-messages.ts";
import { wrong } from "../field-checks.ts";
import { json, literal } from "./lark.ts";
import type { LarkRules } from "./lark-rules.ts";

export interface CallRules {
  /** Before the first call, between two, and behind the last. */
  readonly begin: string;
  readonly between: string;
  readonly end: string;
  /** The right side of a rule for a call. `id`: a name for its rules that no other call has. */
  readonly call: (tool: Tool, rules: LarkRules, id: string) => string;
}

type CallRulesOf = (template: string) => CallRules;

/** `{"name": "f", "arguments": {…}}` */
const object =
  (key: string): CallRules["call"] =>
  ({ name, parameters }) =>
    `${literal(`{"name": ${JSON.stringify(name)}, "${key}": `)} ${args(parameters)} "}"`;

/** Arguments are an object, whatever else the schema says. */
function args(parameters: Tool["parameters"]): string {
  return json({ type: "object", ...parameters });
}

const hermes: CallRules = {
  begin: "<tool_call>\n",
  between: "\n</tool_call>\n<tool_call>\n",
  end: "\n</tool_call>",
  call: object("arguments"),
};

/** By the names of `CALL_FORMATS`. */
const RULES: Readonly<Record<string, CallRulesOf>> = {
  hermes: () => hermes,
  json: () => hermes,
  mistral: (template) =>
    template.includes("[ARGS]")
      ? {
          begin: "[TOOL_CALLS]",
          between: "[TOOL_CALLS]",
          end: "",
          call: ({ name, parameters }, rules) =>
            `${rules.written(`${name}[ARGS]`, ["[ARGS]"])} ${args(parameters)}`,
        }
      : { begin: "[TOOL_CALLS][", between: ", ", end: "]", call: object("arguments") },
  llama3_json: () => ({ begin: "", between: "; ", end: "", call: object("parameters") }),
  pythonic: () => ({ begin: "[", between: ", ", end: "]", call: python }),
};

export function callRules(format: string, template: string): CallRules {
  const rules = RULES[format];
  if (rules === undefined) throw new Error(`there are no rules for calls in the format ${format}`);
  return rules(template);
}

/** What of a schema of arguments a list of named ones keeps. */
const KEPT: ReadonlySet<string> = new Set([
  ...["type", "properties", "required", "additionalProperties", "title", "description"],
  ...["$defs", "definitions", "$schema", "$id", "$comment"],
]);

/** `f(a=1, b="x")`: those that are required, then any of the others, with values in JSON. */
const python: CallRules["call"] = ({ name, parameters, field }, rules, id) => {
  const other = Object.keys(parameters).find((key) => !KEPT.has(key));
  if (other !== undefined)
    throw wrong(
      `${field}.${other}`,
      parameters[other],
      "a schema with properties alone, as this model's calls have named arguments",
    );
  const { $defs, definitions } = parameters;
  const shared = {
    ...($defs === undefined ? {} : { $defs }),
    ...(definitions === undefined ? {} : { definitions }),
  };
  const properties = Object.entries((parameters["properties"] ?? {}) as Record<string, object>);
  const names = properties.map(([key, schema], i) =>
    rules.add(`${id}_p${i}`, `${literal(`${key}=`)} ${json({ ...schema, ...shared })}`),
  );
  const wanted = new Set((parameters["required"] ?? []) as string[]);
  const required = names.filter((_, i) => wanted.has(properties[i]?.[0] ?? ""));
  const optional = names.filter((one) => !required.includes(one));
  const more = optional.map((one) => `(", " ${one})?`);
  const list =
    required.length > 0
      ? [required.join(' ", " '), ...more].join(" ")
      : optional.length === 0
        ? '""'
        : `(${optional.map((one, i) => [one, ...more.slice(i + 1)].join(" ")).join(" | ")})?`;
  return `${literal(`${name}(`)} ${list} ")"`;
};
