/** Messages and tools of a chat's body, and what the model's template gets of them. */

import { z } from "zod";
import type { ChatTemplateMessage } from "../tokenizer/chat-template.ts";
import { type CacheControl, cacheControl, marked, type MarkedMessage } from "./cache-control.ts";
import { flag, given, says, wrong } from "./field-checks.ts";
import { jsonOrUndefined } from "./message/json-value.ts";

/** A function that the model may call. */
export interface Tool {
  readonly name: string;
  /** As the template gets it. */
  readonly spec: object;
  /** JSON Schema of its arguments. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Where that stands in the body. */
  readonly field: string;
  /** Calls are to keep to it, also where none has to be made. */
  readonly strict: boolean;
}

/** The tools of a request, and which of them the answer calls. */
export interface ToolUse {
  /** Empty = none may be called. */
  readonly tools: readonly Tool[];
  /** Those of which one has to be called; undefined = the model chooses whether it calls. */
  readonly required: readonly Tool[] | undefined;
}

/** Most tools of one request. */
export const MAX_TOOLS = 1024;

const textPart = z.object(
  {
    type: z.literal("text", says('"text"')),
    text: z.string(says("a string")),
    cache_control: cacheControl,
  },
  says('a part like {"type": "text", "text": "…"}'),
);
const CONTENT = "a string or an array of text parts";
const TOOL_CALL =
  'a call like {"id": "…", "type": "function", "function": {"name": "…", "arguments": "{}"}}';
const string = z.string(says("a string"));
/** What a client echoes from an assistant's message and what no template here reads. */
const nothing = z.union([z.null(), z.array(z.unknown()).max(0)], says("null or []")).optional();
const unread = z.unknown().optional();

const toolCall = z.strictObject(
  {
    id: string.nullish(),
    type: z.literal("function", says('"function"')).optional(),
    index: unread,
    function: z.strictObject(
      {
        name: string,
        arguments: z.union([string, z.record(z.string(), z.unknown())], says("JSON as a string")),
      },
      says("an object with name and arguments"),
    ),
  },
  says(TOOL_CALL),
);

interface TextPartFields {
  readonly type: "text";
  readonly text: string;
  readonly cache_control?: CacheControl | null | undefined;
}

/** A message as it was sent. */
export interface MessageFields {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly content?: string | TextPartFields[] | null | undefined;
  readonly cache_control?: CacheControl | null | undefined;
  readonly name?: string | null | undefined;
  readonly tool_call_id?: string | null | undefined;
  readonly tool_calls?: CallFields[] | null | undefined;
  readonly reasoning?: string | null | undefined;
  readonly reasoning_content?: string | null | undefined;
}

interface CallFields {
  readonly id?: string | null | undefined;
  readonly function: {
    readonly name: string;
    readonly arguments: string | Record<string, unknown>;
  };
}

/** A tool as it was sent. */
export interface ToolFields {
  readonly type: "function";
  readonly function: {
    readonly name: string;
    readonly description?: string | null | undefined;
    readonly parameters?: Record<string, unknown> | null | undefined;
    readonly strict?: boolean | null | undefined;
  };
}

export type ToolChoiceFields =
  | "none"
  | "auto"
  | "required"
  | { readonly type: "function"; readonly function: { readonly name: string } };

const messageSchema = z.strictObject(
  {
    role: z.enum(
      ["system", "developer", "user", "assistant", "tool"],
      says('"system", "developer", "user", "assistant" or "tool"'),
    ),
    content: z.union([z.string(), z.array(textPart)], says(CONTENT)).nullish(),
    cache_control: cacheControl,
    name: string.nullish(),
    tool_call_id: string.nullish(),
    tool_calls: z.array(toolCall, says("an array of calls")).nullish(),
    reasoning: string.nullish(),
    reasoning_content: string.nullish(),
    function_call: nothing,
    audio: nothing,
    refusal: unread,
    annotations: unread,
  },
  says("a message object"),
);

export const messagesField: z.ZodType<MessageFields[]> = z
  .array(messageSchema, says("an array of messages"))
  .min(1, says("at least one message"));

const FUNCTION_NAME = "1 to 64 letters, digits, _, - and .";
const toolSchema = z.strictObject(
  {
    type: z.literal("function", says('"function"')),
    function: z.strictObject(
      {
        name: z.string(says(FUNCTION_NAME)).regex(/^[\w.-]{1,64}$/, says(FUNCTION_NAME)),
        description: string.nullish(),
        parameters: z.record(z.string(), z.unknown(), says("a JSON Schema object")).nullish(),
        strict: flag,
      },
      says("an object with a name"),
    ),
  },
  says('a tool like {"type": "function", "function": {"name": "…"}}'),
);

export const toolsField: z.ZodType<ToolFields[] | null | undefined> = z
  .array(toolSchema, says("an array of tools"))
  .max(MAX_TOOLS, says(`up to ${MAX_TOOLS} tools`))
  .nullish();

const CHOICES = '"none", "auto", "required" or {"type": "function", "function": {"name": "…"}}';
export const toolChoiceField: z.ZodType<ToolChoiceFields | null | undefined> = z
  .union(
    [
      z.enum(["none", "auto", "required"]),
      z.strictObject({
        type: z.literal("function"),
        function: z.strictObject({ name: z.string() }),
      }),
    ],
    says(CHOICES),
  )
  .nullish();

/** A checked message as templates know it. Throws `invalid_request`. */
export function toTemplateMessage(
  from: MessageFields,
  index: number,
): ChatTemplateMessage & MarkedMessage {
  const path = `messages[${index}]`;
  const { role, content, name, tool_call_id: toolCallId, tool_calls: calls } = from;
  if (!given(content) && role !== "assistant") throw wrong(`${path}.content`, content, CONTENT);
  if (given(calls) && calls.length > 0 && role !== "assistant")
    throw wrong(`${path}.tool_calls`, calls, 'null where the role is not "assistant"');
  const reasoning = from.reasoning ?? from.reasoning_content;
  return {
    // Templates know no developer; it is OpenAI's later name for the system.
    role: role === "developer" ? "system" : role,
    content: textOf(content).toWellFormed(),
    ...marked(content, from.cache_control),
    ...(given(name) ? { name: name.toWellFormed() } : {}),
    ...(given(toolCallId) ? { tool_call_id: toolCallId.toWellFormed() } : {}),
    ...(given(reasoning) ? { reasoning_content: reasoning.toWellFormed() } : {}),
    ...(given(calls) && calls.length > 0
      ? { tool_calls: calls.map((call, i) => toTemplateCall(call, `${path}.tool_calls[${i}]`)) }
      : {}),
  };
}

function textOf(content: MessageFields["content"]): string {
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => part.text).join("\n");
}

/** Templates write the arguments as JSON themselves, so they get the object. */
function toTemplateCall(call: CallFields, path: string): object {
  const { name, arguments: written } = call.function;
  const args = typeof written === "string" ? jsonOrUndefined(written.trim() || "{}") : written;
  if (typeof args !== "object" || args === null || Array.isArray(args))
    throw wrong(`${path}.function.arguments`, written, "a JSON object as a string");
  return {
    ...(given(call.id) ? { id: call.id } : {}),
    type: "function",
    function: { name, arguments: args },
  };
}

/** The tools that may be called, and whether they are. `at`: where the fields of tool `i` stand. Throws `invalid_request`. */
export function readTools(
  tools: readonly ToolFields[] | null | undefined,
  choice: ToolChoiceFields | null | undefined,
  at: (index: number) => string = (index) => `tools[${index}].function`,
): ToolUse {
  const names = new Set<string>();
  const read = (tools ?? []).map(({ type, function: { strict, ...rest } }, i): Tool => {
    if (names.has(rest.name))
      throw wrong(`tools[${i}]`, rest.name, "a name that no other tool has");
    names.add(rest.name);
    const spec = Object.fromEntries(Object.entries(rest).filter(([, value]) => given(value)));
    return {
      name: rest.name,
      spec: { type, function: spec },
      parameters: rest.parameters ?? {},
      field: `${at(i)}.parameters`,
      strict: strict === true,
    };
  });
  if (!given(choice) || choice === "auto") return { tools: read, required: undefined };
  if (choice === "none") return { tools: [], required: undefined };
  const required =
    choice === "required" ? read : read.filter(({ name }) => name === choice.function.name);
  if (required.length > 0) return { tools: read, required };
  const value = typeof choice === "string" ? choice : `function ${choice.function.name}`;
  const allowed = read.length === 0 ? '"none" or "auto" without tools' : "the name of a tool";
  throw wrong("tool_choice", value, allowed);
}
