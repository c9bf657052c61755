/** The `input` of a response: a text or items, as the messages that the model's template knows. */

import { z } from "zod";
import type { ChatTemplateMessage } from "../../tokenizer/chat-template.ts";
import { cacheControl, joinedMarks, marked, type MarkedMessage } from "../cache-control.ts";
import { given, says, wrong } from "../field-checks.ts";
import { jsonOrUndefined } from "../message/json-value.ts";
import { checkValue } from "../schema-check.ts";

/** An item as it was sent, with its id: what `/input_items` lists. */
export type InputItem = Readonly<Record<string, unknown>>;

/** Most items of one request. */
const MAX_ITEMS = 10_000;

const string = z.string(says("a string"));
const unread = z.unknown().optional();
const CONTENT = "a string or an array of text parts";
const textPart = z.object(
  {
    type: z.enum(["input_text", "output_text", "text"], says('"input_text" or "output_text"')),
    text: string,
    cache_control: cacheControl,
  },
  says('a part like {"type": "input_text", "text": "…"}'),
);
const content = z.union([string, z.array(textPart)], says(CONTENT));

const message = z.strictObject({
  type: z.literal("message").optional(),
  id: unread,
  status: unread,
  phase: unread,
  role: z.enum(
    ["system", "developer", "user", "assistant"],
    says('"system", "developer", "user" or "assistant"'),
  ),
  content,
  cache_control: cacheControl,
});
const call = z.strictObject({
  type: z.literal("function_call"),
  id: unread,
  status: unread,
  call_id: string,
  name: string,
  arguments: string,
});
const output = z.strictObject({
  type: z.literal("function_call_output"),
  id: unread,
  status: unread,
  call_id: string,
  output: content,
  cache_control: cacheControl,
});
const reasoning = z.strictObject({
  type: z.literal("reasoning"),
  id: unread,
  status: unread,
  summary: unread,
  encrypted_content: z.null(says("null: reasoning is not encrypted here")).optional(),
  content: z
    .array(z.object({ type: z.literal("reasoning_text"), text: string }), says("reasoning parts"))
    .nullish(),
});

const ITEMS = "message, function_call, function_call_output or reasoning";

/** Items in their one form: a text is a user's message. Throws `invalid_request`. */
export function readItems(input: unknown): readonly InputItem[] {
  if (typeof input === "string") return [{ type: "message", role: "user", content: input }];
  if (!Array.isArray(input) || input.length === 0)
    throw wrong("input", input, "a string or an array of items");
  if (input.length > MAX_ITEMS) throw wrong("input", input, `up to ${MAX_ITEMS} items`);
  return input.map((item: unknown, i) => {
    if (typeof item !== "object" || item === null || Array.isArray(item))
      throw wrong(`input[${i}]`, item, `an item: ${ITEMS}`);
    return { ...item };
  });
}

/** A message of the template; those of one turn of the assistant are put together later. */
export function toMessages(items: readonly InputItem[]): readonly ChatTemplateMessage[] {
  return joinTurns(items.map((item, i) => toMessage(item, ["input", i])));
}

function toMessage(item: InputItem, at: readonly PropertyKey[]): TurnMessage {
  switch (item["type"] ?? "message") {
    case "message": {
      const { role, content: text, cache_control: own } = checkValue(message, item, at);
      const name = role === "developer" ? "system" : role;
      return { role: name, content: textOf(text), ...marked(text, own) };
    }
    case "function_call": {
      const { call_id: id, name, arguments: written } = checkValue(call, item, at);
      const args = jsonOrUndefined(written.trim() || "{}");
      if (typeof args !== "object" || args === null || Array.isArray(args))
        throw wrong(`input[${String(at[1])}].arguments`, written, "a JSON object as a string");
      const one = { id, type: "function", function: { name, arguments: args } };
      return { role: "assistant", content: "", tool_calls: [one] };
    }
    case "function_call_output": {
      const { call_id: id, output: text, cache_control: own } = checkValue(output, item, at);
      return { role: "tool", content: textOf(text), tool_call_id: id, ...marked(text, own) };
    }
    case "reasoning": {
      const { content: parts } = checkValue(reasoning, item, at);
      const text = (parts ?? []).map((part) => part.text).join("\n");
      return { role: "assistant", content: "", reasoning_content: text.toWellFormed() };
    }
    default:
      throw wrong(`input[${String(at[1])}].type`, item["type"], ITEMS);
  }
}

interface TurnMessage extends ChatTemplateMessage, MarkedMessage {
  readonly content: string;
  readonly tool_call_id?: string;
  readonly tool_calls?: readonly object[];
  readonly reasoning_content?: string;
}

/** What the assistant thought, said and called in one turn is one message to templates. */
function joinTurns(messages: readonly TurnMessage[]): TurnMessage[] {
  const joined: TurnMessage[] = [];
  for (const next of messages) {
    const last = joined.at(-1);
    const isSameTurn =
      last?.role === "assistant" &&
      next.role === "assistant" &&
      (last.content === "" || next.content === "") &&
      !given(next.reasoning_content);
    if (!isSameTurn) {
      joined.push(next);
      continue;
    }
    const calls = [...(last.tool_calls ?? []), ...(next.tool_calls ?? [])];
    joined[joined.length - 1] = {
      ...last,
      // Of two one is empty, so marks of the second are where they were.
      ...joinedMarks(last, next),
      content: last.content + next.content,
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    };
  }
  return joined;
}

function textOf(from: z.infer<typeof content>): string {
  const text = typeof from === "string" ? from : from.map((part) => part.text).join("\n");
  return text.toWellFormed();
}
