/**
 * What a body of OpenAI's completion endpoints may hold. Every error names the field, what was found and what is
 * allowed. `null` is the same as leaving a field out.
 */

import { z } from "zod";
import { NO_LOGPROBS } from "../request.ts";
import { MAX_LOGPROBS } from "../request-limits.ts";
import type { JsonBody } from "./body.ts";
import { CHAT_PROMPT_SHAPE, type ChatPromptFields, readChatPromptFields } from "./chat-fields.ts";
import { COMMON_SHAPE, type CompletionOptions, readCommonFields } from "./common-fields.ts";
import { flag, integerIn, wrong } from "./field-checks.ts";
import { checkOtherFields } from "./fields.ts";
import { type Prompt, readPrompts } from "./prompt-field.ts";
import { LOGPROBS, maxTokensField } from "./sampling-fields.ts";
import { checkFields } from "./schema-check.ts";

export interface ChatRequest extends CompletionOptions, ChatPromptFields {}

export interface CompletionRequest extends CompletionOptions {
  readonly prompts: readonly Prompt[];
  /** The prompt goes before the answer's text. */
  readonly echo: boolean;
  /** `prompt_logprobs` of the answer: `promptLogprobs` is more where `echo` asks for more. */
  readonly answeredPromptLogprobs: number;
  /** `max_tokens` was 0: nothing but the prompt is answered. */
  readonly promptOnly: boolean;
}

/** Most sequences that one body may ask for: prompts times `n`. */
const MAX_CHOICES = 2048;

const chatSchema = z.object({
  ...COMMON_SHAPE,
  ...CHAT_PROMPT_SHAPE,
  max_completion_tokens: maxTokensField,
  logprobs: flag,
  top_logprobs: integerIn(0, MAX_LOGPROBS, LOGPROBS),
});

const completionSchema = z.object({
  ...COMMON_SHAPE,
  max_tokens: integerIn(0, 4_294_967_295, "an integer of at least 1, or 0 with echo"),
  prompt: z.unknown(),
  logprobs: integerIn(0, MAX_LOGPROBS, LOGPROBS),
  echo: flag,
});

/** For the description of the API. */
export const CHAT_SCHEMA: z.ZodType = chatSchema;
export const COMPLETION_SCHEMA: z.ZodType = completionSchema;

const CHAT_FIELDS: readonly string[] = Object.keys(chatSchema.shape);
const COMPLETION_FIELDS: readonly string[] = Object.keys(completionSchema.shape);

/** Checks a chat body. Throws `invalid_request`. */
export function parseChatRequest(body: JsonBody): ChatRequest {
  const fields = checkFields(chatSchema, body);
  const ignored = checkOtherFields(body.fields, CHAT_FIELDS, "chat");
  const explicit = fields.max_completion_tokens ?? undefined;
  const logprobs = fields.logprobs ?? false;
  const top = fields.top_logprobs ?? 0;
  if (top > 0 && !logprobs) throw wrong("top_logprobs", top, "0 unless logprobs is true");
  return {
    ...readCommonFields(fields, body, ignored),
    ...(explicit === undefined
      ? {}
      : { maxTokens: explicit, maxTokensField: "max_completion_tokens" as const }),
    topLogprobs: logprobs ? top : NO_LOGPROBS,
    ...readChatPromptFields(fields),
  };
}

/** Checks a completions body. Throws `invalid_request`. */
export function parseCompletionRequest(body: JsonBody): CompletionRequest {
  const fields = checkFields(completionSchema, body);
  const ignored = checkOtherFields(body.fields, COMPLETION_FIELDS, "completions");
  const prompts = readPrompts(fields.prompt, MAX_CHOICES);
  const common = readCommonFields(fields, body, ignored);
  if (prompts.length * common.n > MAX_CHOICES) {
    throw wrong(
      "n",
      common.n,
      `at most ${MAX_CHOICES} choices in one request; there are ${prompts.length} prompts`,
    );
  }
  const echo = fields.echo ?? false;
  const topLogprobs = fields.logprobs ?? NO_LOGPROBS;
  if (echo && common.stream && topLogprobs !== NO_LOGPROBS)
    throw wrong("echo", true, "false where stream and logprobs are given");
  if (common.maxTokens === 0 && !echo)
    throw wrong("max_tokens", 0, "an integer of at least 1, or 0 with echo");
  const promptOnly = common.maxTokens === 0;
  return {
    ...common,
    ...(promptOnly ? { maxTokens: 1 } : {}),
    promptLogprobs: Math.max(common.promptLogprobs, echo ? topLogprobs : NO_LOGPROBS),
    answeredPromptLogprobs: common.promptLogprobs,
    topLogprobs,
    prompts,
    echo,
    promptOnly,
  };
}
