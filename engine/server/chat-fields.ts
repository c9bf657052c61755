/** The fields that only chats have: what the model's template is given. */

import { z } from "zod";
import type { ChatTemplateMessage } from "../tokenizer/chat-template.ts";
import {
  type MessageFields,
  messagesField,
  readTools,
  type ToolUse,
  type ToolChoiceFields,
  toolChoiceField,
  type ToolFields,
  toolsField,
  toTemplateMessage,
} from "./chat-messages.ts";
import type { MarkedMessage } from "./cache-control.ts";
import { type Field, flag, given, says, wrong } from "./field-checks.ts";

/** What of a chat's body decides the prompt. */
export interface ChatPromptFields {
  readonly messages: readonly (ChatTemplateMessage & MarkedMessage)[];
  readonly toolUse: ToolUse;
  /** Whether one answer may hold several calls. */
  readonly parallelToolCalls: boolean;
  readonly addGenerationPrompt: boolean;
  /** The answer goes on where the last message ends. */
  readonly continueFinalMessage: boolean;
  /** The model's own mark is put before what the template writes. */
  readonly addSpecialTokens: boolean;
  /** Further variables of the template. */
  readonly templateKwargs: Readonly<Record<string, unknown>>;
  readonly reasoningEffort: ReasoningEffort | undefined;
  /** Whether reasoning is part of the answer. */
  readonly includeReasoning: boolean;
}

const REASONING_EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"] as const;
type ReasoningEffort = (typeof REASONING_EFFORTS)[number];
const EFFORT = REASONING_EFFORTS.map((effort) => `"${effort}"`).join(", ");

/** Variables that only the server sets. */
const OWN_VARIABLES: readonly string[] = [
  "messages",
  "tools",
  "documents",
  "add_generation_prompt",
  "bos_token",
  "eos_token",
];

export interface ChatPromptShape {
  readonly messages: z.ZodType<MessageFields[]>;
  readonly tools: Field<ToolFields[]>;
  readonly tool_choice: Field<ToolChoiceFields>;
  readonly parallel_tool_calls: Field<boolean>;
  readonly add_generation_prompt: Field<boolean>;
  readonly continue_final_message: Field<boolean>;
  readonly add_special_tokens: Field<boolean>;
  readonly chat_template_kwargs: Field<Record<string, unknown>>;
  readonly reasoning_effort: Field<ReasoningEffort>;
  readonly include_reasoning: Field<boolean>;
}

export const CHAT_PROMPT_SHAPE: ChatPromptShape = {
  messages: messagesField,
  tools: toolsField,
  tool_choice: toolChoiceField,
  parallel_tool_calls: flag,
  add_generation_prompt: flag,
  continue_final_message: flag,
  add_special_tokens: flag,
  chat_template_kwargs: z.record(z.string(), z.unknown(), says("an object")).nullish(),
  reasoning_effort: z.enum(REASONING_EFFORTS, says(EFFORT)).nullish(),
  include_reasoning: flag,
};

type Checked = {
  readonly [N in Exclude<keyof ChatPromptShape, "messages">]?: z.infer<ChatPromptShape[N]>;
} & { readonly messages: readonly MessageFields[] };

/** What checks of single fields leave open. Throws `invalid_request`. */
export function readChatPromptFields(
  fields: Checked,
  toolPath?: (index: number) => string,
): ChatPromptFields {
  const messages = fields.messages.map(toTemplateMessage);
  const continueFinalMessage = fields.continue_final_message ?? false;
  if (continueFinalMessage) {
    if (fields.add_generation_prompt === true)
      throw wrong("add_generation_prompt", true, "false where continue_final_message is true");
    if (messages.at(-1)?.content === "")
      throw wrong(`messages[${messages.length - 1}].content`, "", "a text to go on from");
  }
  const templateKwargs = fields.chat_template_kwargs ?? {};
  const own = Object.keys(templateKwargs).find((name) => OWN_VARIABLES.includes(name));
  if (own !== undefined)
    throw wrong(
      `chat_template_kwargs.${own}`,
      templateKwargs[own],
      "a variable that no field of the body sets",
    );
  return {
    messages,
    toolUse: readTools(fields.tools, fields.tool_choice, toolPath),
    parallelToolCalls: fields.parallel_tool_calls ?? true,
    addGenerationPrompt: fields.add_generation_prompt ?? !continueFinalMessage,
    continueFinalMessage,
    addSpecialTokens: fields.add_special_tokens ?? false,
    templateKwargs,
    reasoningEffort: given(fields.reasoning_effort) ? fields.reasoning_effort : undefined,
    includeReasoning: fields.include_reasoning ?? true,
  };
}
