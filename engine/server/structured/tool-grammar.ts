/** Calls of tools whose arguments keep to their schemas, in the way of the model's family. */

import type { Tool, ToolUse } from "../chat-messages.ts";
import { wrong } from "../field-checks.ts";
import type { CallFormat } from "../message/call-formats.ts";
import { type CallRules, callRules } from "./call-rules.ts";
import type { GrammarText } from "./compile.ts";
import type { LarkRules } from "./lark-rules.ts";
import type { Structure } from "./structure.ts";

export interface CallGrammarInput {
  readonly use: ToolUse;
  readonly parallel: boolean;
  readonly format: CallFormat;
  readonly template: string;
  /** What an answer without calls is to be. */
  readonly structure: Structure | undefined;
}

/** Undefined = nothing but the family's habit says how calls are written. Throws `invalid_request`. */
export function callGrammar(rules: LarkRules, input: CallGrammarInput): GrammarText | undefined {
  const { use, structure } = input;
  const family = callRules(input.format.name, input.template);
  if (use.required !== undefined) {
    if (structure !== undefined)
      throw wrong(structure.field, {}, "null where tool_choice asks for a call");
    return {
      field: fieldOf(use.required),
      text: rules.text(row(rules, input, family, use.required)),
    };
  }
  if (structure !== undefined) {
    const answer = rules.add("answer", structure.rule);
    return {
      field: structure.field,
      text: rules.text(`${answer} | ${row(rules, input, family, use.tools)}`),
    };
  }
  if (!use.tools.some(({ strict }) => strict)) return undefined;
  return { field: fieldOf(use.tools), text: rules.text(freeOrCalls(rules, input, family)) };
}

/** Of several tools the crate does not say which it means. */
function fieldOf(tools: readonly Tool[]): string {
  return tools.length === 1 ? (tools[0]?.field ?? "tools") : "tools";
}

/** One call, or a row of them. */
function row(
  rules: LarkRules,
  input: CallGrammarInput,
  family: CallRules,
  tools: readonly Tool[],
): string {
  return [rules.written(family.begin, marksOf(input)), calls(rules, input, family, tools)]
    .filter(notEmpty)
    .join(" ");
}

/** What follows the beginning of a row. */
function calls(
  rules: LarkRules,
  input: CallGrammarInput,
  family: CallRules,
  tools: readonly Tool[],
): string {
  const all = tools.map((tool, i) => rules.add(`call_${i}`, family.call(tool, rules, `call_${i}`)));
  const call = rules.add("call", all.join(" | "));
  const marks = marksOf(input);
  const more = input.parallel ? `(${rules.written(family.between, marks)} ${call})*` : "";
  const end = family.end === "" ? "" : rules.written(family.end, marks);
  return [call, more, end].filter(notEmpty).join(" ");
}

const notEmpty = (part: string): boolean => part !== "" && part !== '""';

const marksOf = ({ format }: CallGrammarInput): readonly string[] => [
  ...format.open,
  ...format.close,
];

/** Text in which no call begins, or any text and then calls. */
function freeOrCalls(rules: LarkRules, input: CallGrammarInput, family: CallRules): string {
  const { format, use } = input;
  const textMarks = format.open.filter((mark) => rules.controlId(mark) === undefined);
  const first = format.bare === "" ? "" : `[^${escaped(format.bare)}\\s]`;
  const any = first === "" ? "/(?s:.*)/" : `/(${first}(?s:.*))?/`;
  const free = rules.add(
    "FREE",
    [any, ...textMarks.map((mark) => `~/(?s:.*)${escaped(mark)}(?s:.*)/`)].join(" & "),
  );
  const after = calls(rules, input, family, use.tools);
  const mark = marksOf(input).find((one) => family.begin.startsWith(one));
  if (mark === undefined) {
    const begin = family.begin === "" ? "" : rules.written(family.begin, []);
    return `${free} | ${[begin, after].filter(notEmpty).join(" ")}`;
  }
  const rest = family.begin.slice(mark.length);
  const behind = [rest === "" ? "" : rules.written(rest, []), after].filter(notEmpty).join(" ");
  if (!textMarks.includes(mark)) return `${free} (${rules.mark(mark)} ${behind})?`;
  const lead = rules.add(`lead[suffix=${rules.mark(mark)}]`, any);
  return `${free} | ${lead.replace(/\[.*/, "")} ${behind}`;
}

/** As a regular expression between slashes has it. */
function escaped(text: string): string {
  return text.replaceAll(/[^\w ]/g, (char) => `\\x{${char.charCodeAt(0).toString(16)}}`);
}
