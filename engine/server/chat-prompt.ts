/** From the messages of a chat to the tokens that the model reads, and how its answer is to be read. */

import { type ChatTemplateMessage, renderChat } from "../tokenizer/chat-template.ts";
import { pinsOf, type PromptPin } from "./cache-control.ts";
import type { ChatPromptFields } from "./chat-fields.ts";
import type { AppDeps } from "./deps.ts";
import type { Rendering } from "./explain/rendering.ts";
import { callFormatNamed, callFormatOf } from "./message/call-formats.ts";
import type { MessageForm } from "./message/message-reader.ts";
import {
  endsInReasoning,
  type ReasoningFormat,
  reasoningFormatNamed,
  reasoningFormatOf,
} from "./message/reasoning.ts";
import { tellTools } from "./tool-prompt.ts";

export interface ChatPrompt {
  readonly text: string;
  readonly tokenIds: Int32Array;
  readonly form: MessageForm;
  /** Names of fields that the model's template reads past. */
  readonly ignored: readonly string[];
  /** What of it is to be pinned. */
  readonly pins: readonly PromptPin[];
  /** What the prompt was made of, for explanations. */
  readonly rendering: Rendering;
}

/** Throws `invalid_request` with the template's own words where it refuses the conversation. */
export function chatPrompt(deps: AppDeps, fields: ChatPromptFields): ChatPrompt {
  const { special, tokenizer, chatTemplate: template = "" } = deps;
  const { variables, ignored } = templateVariables(fields, template);
  const render = (messages: readonly ChatTemplateMessage[], tools: readonly object[]): string =>
    renderChat(deps.chatTemplate, tellTools(messages, tools, template), {
      addGenerationPrompt: fields.addGenerationPrompt,
      continueFinalMessage: fields.continueFinalMessage,
      bosToken: special.bosToken,
      eosToken: special.eosToken,
      tools: tools.length === 0 ? undefined : tools,
      variables,
    });
  const tools = fields.toolUse.tools.map(({ spec }) => spec);
  const text = render(fields.messages, tools);
  const encode = (some: string): Int32Array =>
    tokenizer.encode(some, { parseSpecial: true, addSpecial: fields.addSpecialTokens });
  const tokenIds = encode(text);
  const rendering: Rendering = {
    messages: fields.messages.map((message) => ({ ...message })),
    tools,
    template,
    render: (those, theirTools) =>
      render(those as unknown as readonly ChatTemplateMessage[], theirTools as readonly object[]),
  };
  const pins = pinsOf({ text, tokenIds, rendering }, fields.messages, encode);
  return { text, tokenIds, form: formOf(deps, fields, text), ignored, pins, rendering };
}

function formOf(deps: AppDeps, fields: ChatPromptFields, prompt: string): MessageForm {
  const format = reasoningFormat(deps);
  const {
    toolUse: { tools },
    parallelToolCalls: parallel,
  } = fields;
  return {
    ...(format === undefined
      ? {}
      : { reasoning: { format, isInside: endsInReasoning(prompt, format) } }),
    ...(tools.length === 0
      ? {}
      : {
          calls: {
            format: callFormat(deps),
            tools: new Set(tools.map(({ name }) => name)),
            parallel,
          },
        }),
  };
}

function reasoningFormat({
  reasoningParser = "auto",
  chatTemplate,
}: AppDeps): ReasoningFormat | undefined {
  if (reasoningParser === "auto") return reasoningFormatOf(chatTemplate ?? "");
  return reasoningParser === "none" ? undefined : reasoningFormatNamed(reasoningParser);
}

function callFormat({
  toolCallParser = "auto",
  chatTemplate,
}: AppDeps): ReturnType<typeof callFormatOf> {
  return toolCallParser === "auto"
    ? callFormatOf(chatTemplate ?? "")
    : callFormatNamed(toolCallParser);
}

interface Variables {
  readonly variables: Readonly<Record<string, unknown>>;
  readonly ignored: readonly string[];
}

/** The template's own variables; those whose names it does not hold change nothing and are reported. */
function templateVariables(fields: ChatPromptFields, template: string): Variables {
  const { templateKwargs, reasoningEffort: effort } = fields;
  const ignored = Object.keys(templateKwargs)
    .filter((name) => !readsVariable(template, name))
    .map((name) => `chat_template_kwargs.${name}`);
  if (effort === undefined) return { variables: templateKwargs, ignored };
  if (readsVariable(template, "reasoning_effort"))
    return { variables: { reasoning_effort: effort, ...templateKwargs }, ignored };
  const flag = THINKING_FLAGS.find((name) => readsVariable(template, name));
  if (flag === undefined)
    return { variables: templateKwargs, ignored: [...ignored, "reasoning_effort"] };
  return { variables: { [flag]: effort !== "none", ...templateKwargs }, ignored };
}

/** Whether a name stands inside Jinja's own marks. */
function readsVariable(template: string, name: string): boolean {
  if (!/^\w+$/.test(name)) return false;
  const statements = template.match(/\{[%{].*?[%}]\}/gs) ?? [];
  return statements.some((statement) => new RegExp(`\\b${name}\\b`).test(statement));
}

/** Variables by which templates switch reasoning on and off. */
const THINKING_FLAGS: readonly string[] = ["enable_thinking", "thinking"];
