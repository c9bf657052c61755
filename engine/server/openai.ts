/**
 * What a body of OpenAI's completion endpoints may hold. Every error names the field, what was found and what is
 * allowed. `null` is the same as leaving a field out.
 */

import { z } from "zod";
import { KvEngineError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import { NO_LOGPROBS } from "../request.ts";
import { MAX_LOGPROBS } from "../request-limits.ts";
import type { JsonBody } from "./body.ts";
import { fieldPath, flag, given, integerIn, says, wrong } from "./field-checks.ts";
import { checkOtherFields } from "./fields.ts";
import { type Prompt, readPrompts } from "./prompt-field.ts";
import {
  LOGPROBS,
  maxTokensField,
  readSamplingFields,
  SAMPLING_SHAPE,
  type SamplingFields,
} from "./sampling-fields.ts";

/** The fields that both endpoints read, checked and with their defaults. */
export interface CompletionOptions extends SamplingFields {
  readonly model: string | undefined;
  readonly stream: boolean;
  /** A last chunk with the usage of the whole request. */
  readonly includeUsage: boolean;
  /** The usage so far in every chunk. */
  readonly continuousUsage: boolean;
  readonly n: number;
  readonly priority: number;
  readonly cacheSalt: string | undefined;
  /** For KV connectors. */
  readonly transferParams: Readonly<Record<string, unknown>> | undefined;
  /** Names of fields that were read past. */
  readonly ignored: readonly string[];
}

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
  readonly name?: string;
  readonly tool_call_id?: string;
}

export interface ChatRequest extends CompletionOptions {
  readonly messages: readonly ChatMessage[];
}

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
/** Most characters of a salt. */
const MAX_SALT = 1024;

const SALT = `a non-empty string of at most ${MAX_SALT} characters`;

const COMMON = {
  ...SAMPLING_SHAPE,
  model: z.string(says("a string")).nullish(),
  stream: flag,
  stream_options: z
    .strictObject(
      { include_usage: flag, continuous_usage_stats: flag, include_obfuscation: flag },
      says("an object"),
    )
    .nullish(),
  n: integerIn(1, 128, "an integer from 1 to 128"),
  priority: integerIn(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, "an integer"),
  cache_salt: z.string(says(SALT)).min(1, says(SALT)).max(MAX_SALT, says(SALT)).nullish(),
  kv_transfer_params: z.record(z.string(), z.unknown(), says("an object")).nullish(),
};

const textPart = z.object(
  { type: z.literal("text", says('"text"')), text: z.string(says("a string")) },
  says('a part like {"type": "text", "text": "…"}'),
);
const CONTENT = "a string or an array of text parts";
/** What a client echoes from an assistant's message and what no template here reads. */
const nothing = z
  .union([z.null(), z.array(z.unknown()).max(0)], says("null or []; tools are not supported"))
  .optional();
const unread = z.unknown().optional();
const message = z.strictObject(
  {
    role: z.enum(
      ["system", "developer", "user", "assistant", "tool"],
      says('"system", "developer", "user", "assistant" or "tool"'),
    ),
    content: z.union([z.string(), z.array(textPart)], says(CONTENT)).nullish(),
    name: z.string(says("a string")).nullish(),
    tool_call_id: z.string(says("a string")).nullish(),
    tool_calls: nothing,
    function_call: nothing,
    audio: nothing,
    refusal: unread,
    annotations: unread,
    reasoning: unread,
    reasoning_content: unread,
  },
  says("a message object"),
);

const chatSchema = z.object({
  ...COMMON,
  messages: z.array(message, says("an array of messages")).min(1, says("at least one message")),
  max_completion_tokens: maxTokensField,
  logprobs: flag,
  top_logprobs: integerIn(0, MAX_LOGPROBS, LOGPROBS),
});

const completionSchema = z.object({
  ...COMMON,
  max_tokens: integerIn(0, 4_294_967_295, "an integer of at least 1, or 0 with echo"),
  prompt: z.unknown(),
  logprobs: integerIn(0, MAX_LOGPROBS, LOGPROBS),
  echo: flag,
});

const CHAT_FIELDS: readonly string[] = Object.keys(chatSchema.shape);
const COMPLETION_FIELDS: readonly string[] = Object.keys(completionSchema.shape);

/** Checks a chat body. Throws `invalid_request`. */
export function parseChatRequest(body: JsonBody): ChatRequest {
  const fields = check(chatSchema, body);
  const ignored = checkOtherFields(body.fields, CHAT_FIELDS, "chat");
  const explicit = fields.max_completion_tokens ?? undefined;
  const logprobs = fields.logprobs ?? false;
  const top = fields.top_logprobs ?? 0;
  if (top > 0 && !logprobs) throw wrong("top_logprobs", top, "0 unless logprobs is true");
  return {
    ...options(fields, body, ignored),
    ...(explicit === undefined
      ? {}
      : { maxTokens: explicit, maxTokensField: "max_completion_tokens" as const }),
    topLogprobs: logprobs ? top : NO_LOGPROBS,
    messages: fields.messages.map(toChatMessage),
  };
}

/** Checks a completions body. Throws `invalid_request`. */
export function parseCompletionRequest(body: JsonBody): CompletionRequest {
  const fields = check(completionSchema, body);
  const ignored = checkOtherFields(body.fields, COMPLETION_FIELDS, "completions");
  const prompts = readPrompts(fields.prompt, MAX_CHOICES);
  const common = options(fields, body, ignored);
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

type CommonFields = z.infer<z.ZodObject<typeof COMMON>>;

function options(
  fields: CommonFields,
  body: JsonBody,
  ignored: readonly string[],
): CompletionOptions {
  const stream = fields.stream ?? false;
  if (!stream && given(fields.stream_options)) {
    throw wrong("stream_options", fields.stream_options, "null unless stream is true");
  }
  if (stream && given(fields.prompt_logprobs))
    throw wrong("prompt_logprobs", fields.prompt_logprobs, "null where stream is true");
  return {
    ...readSamplingFields(fields, body),
    model: fields.model ?? undefined,
    stream,
    includeUsage: fields.stream_options?.include_usage ?? false,
    continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
    n: fields.n ?? 1,
    priority: fields.priority ?? 0,
    cacheSalt: fields.cache_salt?.toWellFormed(),
    transferParams: fields.kv_transfer_params ?? undefined,
    ignored,
  };
}

function toChatMessage(from: z.infer<typeof message>, index: number): ChatMessage {
  const { role, content, name, tool_call_id: toolCallId } = from;
  if (!given(content) && role !== "assistant")
    throw wrong(`messages[${index}].content`, content, CONTENT);
  const text =
    typeof content === "string" ? content : (content ?? []).map((part) => part.text).join("\n");
  return {
    // Templates know no developer; it is OpenAI's later name for the system.
    role: role === "developer" ? "system" : role,
    content: text.toWellFormed(),
    ...(given(name) ? { name: name.toWellFormed() } : {}),
    ...(given(toolCallId) ? { tool_call_id: toolCallId.toWellFormed() } : {}),
  };
}

function check<T>(schema: z.ZodType<T>, body: JsonBody): T {
  const result = schema.safeParse(body.fields);
  if (result.success) return result.data;
  let issue = result.error.issues[0] as z.core.$ZodIssue;
  const path = [...issue.path];
  // A union's own message names all of its forms; where one form matched further in, the place is inside it.
  while (issue.code === "invalid_union") {
    const inner: z.core.$ZodIssue | undefined = issue.errors
      .map((form) => form[0])
      .find((one) => one !== undefined && one.path.length > 0);
    if (inner === undefined) break;
    path.push(...inner.path);
    issue = inner;
  }
  if (issue.code === "unrecognized_keys") throw unknownKey(path, issue.keys[0] as string);
  throw wrong(fieldPath(path), valueAt(body.fields, path), issue.message);
}

function unknownKey(path: readonly PropertyKey[], key: string): KvEngineError {
  const known =
    path[0] === "messages"
      ? Object.keys(message.shape)
      : ["include_usage", "continuous_usage_stats"];
  const near = nearest(key, known);
  const name = fieldPath([...path, key.slice(0, 64)]);
  return new KvEngineError(
    "invalid_request",
    `there is no field ${name}${near === undefined ? "" : `; the nearest is ${near}`}`,
    {
      subject: name,
    },
  );
}

function valueAt(fields: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part],
    fields,
  );
}
