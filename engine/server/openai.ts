/**
 * What a body of OpenAI's completion endpoints may hold. Every error names the field, what was found and what is
 * allowed. `null` is the same as leaving a field out.
 */

import { z } from "zod";
import { KvEngineError } from "../errors.ts";
import type { JsonBody } from "./body.ts";
import { checkOtherFields } from "./fields.ts";
import { integerText } from "./json.ts";
import { nearest } from "./nearest.ts";

/** The fields that both endpoints read, checked and with their defaults. */
export interface CompletionOptions {
  readonly model: string | undefined;
  readonly stream: boolean;
  /** A last chunk with the usage of the whole request. */
  readonly includeUsage: boolean;
  /** The usage so far in every chunk. */
  readonly continuousUsage: boolean;
  readonly n: number;
  readonly maxTokens: number | undefined;
  /** The field that `maxTokens` came from, for errors. */
  readonly maxTokensField: "max_tokens" | "max_completion_tokens";
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  /** Two unsigned halves, low first. */
  readonly seed: readonly [low: number, high: number] | undefined;
  readonly stop: readonly string[];
  readonly stopTokenIds: readonly number[];
  readonly ignoreEos: boolean;
  /** Report the log-probability of each token. */
  readonly logprobs: boolean;
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
  /** Each a text or token ids. */
  readonly prompts: readonly (string | readonly number[])[];
}

/** Most sequences that one body may ask for: prompts times `n`. */
const MAX_CHOICES = 2048;
/** Most stop strings. */
const MAX_STOPS = 16;
/** Most stop token ids. */
const MAX_STOP_TOKEN_IDS = 256;
const MAX_UINT32 = 4_294_967_295;

const says = (text: string): { error: string } => ({ error: text });
const numberIn = (min: number, max: number, text: string): z.ZodType<number | null | undefined> =>
  z.number(says(text)).min(min, says(text)).max(max, says(text)).nullish();
const integerIn = (min: number, max: number, text: string): z.ZodType<number | null | undefined> =>
  z
    .number(says(text))
    .refine((value) => Number.isInteger(value) && value >= min && value <= max, says(text))
    .nullish();
const flag: z.ZodType<boolean | null | undefined> = z.boolean(says("true or false")).nullish();

const STOP = `a non-empty string or up to ${MAX_STOPS} of them`;
const stopText = z.string(says(STOP)).min(1, says("a non-empty string"));
const maxTokens = integerIn(1, MAX_UINT32, "an integer of at least 1");

const COMMON = {
  model: z.string(says("a string")).nullish(),
  stream: flag,
  stream_options: z
    .strictObject(
      { include_usage: flag, continuous_usage_stats: flag, include_obfuscation: flag },
      says("an object"),
    )
    .nullish(),
  n: integerIn(1, 128, "an integer from 1 to 128"),
  max_tokens: maxTokens,
  temperature: numberIn(0, 2, "a number from 0 to 2"),
  top_p: numberIn(0, 1, "a number from 0 to 1"),
  top_k: integerIn(-1, MAX_UINT32, "an integer of at least 1, or 0 or -1 for all tokens"),
  min_p: numberIn(0, 1, "a number from 0 to 1"),
  seed: z.number(says("an integer of up to 64 bits")).nullish(),
  stop: z.union([stopText, z.array(stopText).max(MAX_STOPS, says(STOP))], says(STOP)).nullish(),
  stop_token_ids: z
    .array(
      z
        .number(says("a token id"))
        .refine((id) => Number.isInteger(id) && id >= 0, says("a token id")),
      says("an array of token ids"),
    )
    .max(MAX_STOP_TOKEN_IDS, says(`up to ${MAX_STOP_TOKEN_IDS} token ids`))
    .nullish(),
  ignore_eos: flag,
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
  max_completion_tokens: maxTokens,
  logprobs: flag,
});

const completionSchema = z.object({
  ...COMMON,
  prompt: z.unknown(),
  logprobs: integerIn(0, 0, "0 (the chosen token only)"),
});

const CHAT_FIELDS: readonly string[] = Object.keys(chatSchema.shape);
const COMPLETION_FIELDS: readonly string[] = Object.keys(completionSchema.shape);

/** Checks a chat body. Throws `invalid_request`. */
export function parseChatRequest(body: JsonBody): ChatRequest {
  const fields = check(chatSchema, body);
  const ignored = checkOtherFields(body.fields, CHAT_FIELDS, "chat");
  const explicit = fields.max_completion_tokens ?? undefined;
  return {
    ...options(fields, body, ignored),
    ...(explicit === undefined
      ? {}
      : { maxTokens: explicit, maxTokensField: "max_completion_tokens" as const }),
    logprobs: fields.logprobs ?? false,
    messages: fields.messages.map(toChatMessage),
  };
}

/** Checks a completions body. Throws `invalid_request`. */
export function parseCompletionRequest(body: JsonBody): CompletionRequest {
  const fields = check(completionSchema, body);
  const ignored = checkOtherFields(body.fields, COMPLETION_FIELDS, "completions");
  const prompts = parsePrompt(fields.prompt);
  const common = options(fields, body, ignored);
  if (prompts.length * common.n > MAX_CHOICES) {
    throw wrong(
      "n",
      common.n,
      `at most ${MAX_CHOICES} choices in one request; there are ${prompts.length} prompts`,
    );
  }
  return { ...common, logprobs: typeof fields.logprobs === "number", prompts };
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
  const topP = fields.top_p ?? 1;
  const stop = fields.stop ?? [];
  return {
    model: fields.model ?? undefined,
    stream,
    includeUsage: fields.stream_options?.include_usage ?? false,
    continuousUsage: fields.stream_options?.continuous_usage_stats ?? false,
    n: fields.n ?? 1,
    maxTokens: fields.max_tokens ?? undefined,
    maxTokensField: "max_tokens",
    temperature: fields.temperature ?? 1,
    // The smallest set with a probability of at least 0 that still holds a token is the most probable token.
    topP: topP === 0 ? 1 : topP,
    topK: topP === 0 ? 1 : Math.max(0, fields.top_k ?? 0),
    minP: fields.min_p ?? 0,
    seed: given(fields.seed) ? parseSeed(fields.seed, body.text) : undefined,
    stop: typeof stop === "string" ? [stop] : [...new Set(stop)],
    stopTokenIds: [...new Set(fields.stop_token_ids ?? [])],
    ignoreEos: fields.ignore_eos ?? false,
    logprobs: false,
    ignored,
  };
}

/** Signed and unsigned 64-bit integers; a negative one counts as its two's complement. */
function parseSeed(seed: number, text: string): readonly [number, number] {
  const written = Number.isSafeInteger(seed) ? String(seed) : integerText(text, "seed");
  const value = written === undefined ? undefined : BigInt(written);
  if (value === undefined || value < -(2n ** 63n) || value >= 2n ** 64n) {
    throw wrong("seed", written === undefined ? seed : value, "an integer of up to 64 bits");
  }
  const bits = BigInt.asUintN(64, value);
  return [Number(bits & 0xffff_ffffn), Number(bits >> 32n)];
}

const PROMPT = "a string, an array of strings, an array of token ids or an array of such arrays";

/** Checked by hand: a prompt may be a hundred thousand token ids. */
function parsePrompt(prompt: unknown): readonly (string | readonly number[])[] {
  if (typeof prompt === "string") return [prompt];
  if (!Array.isArray(prompt)) throw wrong("prompt", prompt, PROMPT);
  const items: readonly unknown[] = prompt;
  const first = items[0];
  if (items.length === 0) throw wrong("prompt", prompt, "at least one prompt or token id");
  if (typeof first === "number") return [tokenIds(items, "prompt")];
  if (items.length > MAX_CHOICES)
    throw wrong("prompt", `${items.length} prompts`, `up to ${MAX_CHOICES} prompts`);
  if (typeof first === "string") {
    return items.map((item, i) => {
      if (typeof item !== "string")
        throw wrong(`prompt[${i}]`, item, "a string, as the first prompt is one");
      return item;
    });
  }
  return items.map((item, i) => {
    if (!Array.isArray(item))
      throw wrong(
        i === 0 ? "prompt" : `prompt[${i}]`,
        item,
        i === 0 ? PROMPT : "an array of token ids",
      );
    if (item.length === 0) throw wrong(`prompt[${i}]`, item, "at least one token id");
    return tokenIds(item, `prompt[${i}]`);
  });
}

function tokenIds(items: readonly unknown[], path: string): readonly number[] {
  for (let i = 0; i < items.length; i++) {
    const id = items[i];
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > MAX_UINT32) {
      throw wrong(`${path}[${i}]`, id, "a token id");
    }
  }
  return items as readonly number[];
}

function given<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
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

/** `messages[0].content` */
function fieldPath(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) =>
      typeof part === "number" ? `[${part}]` : `${i === 0 ? "" : "."}${String(part)}`,
    )
    .join("");
}

function valueAt(fields: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part],
    fields,
  );
}

function wrong(path: string, value: unknown, allowed: string): KvEngineError {
  const verdict = value === undefined ? "is missing" : `is ${show(value)}`;
  return new KvEngineError("invalid_request", `${path} ${verdict}; allowed is ${allowed}`, {
    subject: path,
  });
}

/** A short form of any JSON value. */
function show(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "[]" : `an array of ${value.length}`;
  if (typeof value === "object" && value !== null)
    return Object.keys(value).length === 0 ? "{}" : "an object";
  if (typeof value === "bigint") return String(value);
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
