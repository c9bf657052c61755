/** Tools for models whose template knows none: told in words, as the family of Hermes is told them. */

import type { ChatTemplateMessage } from "../tokenizer/chat-template.ts";

/**
 * The conversation with the tools in its first system message, and with calls of earlier answers and their results as text. Unchanged
 * where the template reads them itself.
 */
export function tellTools(
  messages: readonly ChatTemplateMessage[],
  tools: readonly object[],
  template: string,
): readonly ChatTemplateMessage[] {
  const told = template.includes("tool_calls") ? messages : messages.map(withCallsAsText);
  if (tools.length === 0 || /\btools\b/.test(template)) return told;
  const words = instructions(tools);
  const [first, ...rest] = told;
  if (first?.role !== "system") return [{ role: "system", content: words }, ...told];
  return [{ ...first, content: `${textOf(first)}\n\n${words}` }, ...rest];
}

function instructions(tools: readonly object[]): string {
  const specs = tools.map((tool) => JSON.stringify(tool)).join("\n");
  return (
    `You may call one or more of these functions:\n<tools>\n${specs}\n</tools>\n` +
    "For each call, answer with a JSON object with the function's name and its arguments:\n" +
    '<tool_call>\n{"name": "<name>", "arguments": {<arguments>}}\n</tool_call>'
  );
}

function withCallsAsText(message: ChatTemplateMessage): ChatTemplateMessage {
  const calls =
    "tool_calls" in message && Array.isArray(message.tool_calls) ? message.tool_calls : [];
  if (calls.length === 0) return message;
  const written = calls.map((call: { readonly function: object }) => {
    return `<tool_call>\n${JSON.stringify(call.function)}\n</tool_call>`;
  });
  return { ...message, content: [textOf(message), ...written].filter(Boolean).join("\n") };
}

function textOf({ content }: ChatTemplateMessage): string {
  return typeof content === "string" ? content : "";
}
