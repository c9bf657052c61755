/** The grammar of a whole answer: reasoning, then the form that was asked for, or calls of tools. */

import type { AppDeps } from "../deps.ts";
import type { MessageForm } from "../message/message-reader.ts";
import type { ChatRequest } from "../openai.ts";
import type { GrammarText } from "./compile.ts";
import { LarkRules } from "./lark-rules.ts";
import type { Structure } from "./structure.ts";
import { callGrammar } from "./tool-grammar.ts";

/** Of an answer that is nothing but text. */
export function answerGrammar(structure: Structure | undefined): GrammarText | undefined {
  if (structure === undefined) return undefined;
  return { field: structure.field, text: `start: ${structure.rule}` };
}

/** Of a chat's answer; undefined = it may be anything. Throws `invalid_request`. */
export function chatGrammar(
  { structure, toolUse: use, parallelToolCalls: parallel }: ChatRequest,
  { calls, reasoning }: MessageForm,
  { tokenizer, chatTemplate: template = "" }: AppDeps,
): GrammarText | undefined {
  const rules = new LarkRules(tokenizer);
  const body =
    calls === undefined
      ? answerGrammar(structure)
      : callGrammar(rules, { use, parallel, format: calls.format, template, structure });
  if (body === undefined || reasoning === undefined) return body;
  return { field: body.field, text: withReasoning(rules, body.text, reasoning) };
}

/** What is asked for begins behind the reasoning, which is free. */
function withReasoning(
  rules: LarkRules,
  text: string,
  { format, isInside }: NonNullable<MessageForm["reasoning"]>,
): string {
  const body = text.replace(/^start:/, "body:");
  const close = rules.mark(format.close);
  const thoughts =
    rules.controlId(format.close) === undefined
      ? `thoughts[suffix=${close}]: /(?s:.*)/`
      : `thoughts: /(?s:.*)/ ${close}`;
  const gap = '("\\n" "\\n"?)?';
  const reasoned = isInside ? `thoughts ${gap}` : `(${rules.mark(format.open)} thoughts ${gap})?`;
  return [`start: ${reasoned} body`, thoughts, body].join("\n");
}
