/** A conversation to the text the model was trained on, by the Jinja template that comes with the model. */

import { Template } from "@huggingface/jinja";
import { KvEngineError, messageOf } from "../errors.ts";

export interface ChatTextPart {
  readonly type: "text";
  readonly text: string;
}

/** Fields beyond these reach the template as they are. */
export interface ChatTemplateMessage {
  readonly role: string;
  /** Parts are joined by line breaks; nothing is the empty text. */
  readonly content?: string | readonly ChatTextPart[] | null;
}

export interface ChatTemplateOptions {
  /** End with the beginning of the assistant's answer. */
  readonly addGenerationPrompt: boolean;
  /** Texts of the vocabulary's BOS and EOS tokens; empty where it has none. */
  readonly bosToken: string;
  readonly eosToken: string;
  /** End inside the last message, whose text goes on. */
  readonly continueFinalMessage?: boolean;
  /** Tools that the model may call, as their JSON. */
  readonly tools?: readonly object[] | undefined;
  /** Further variables of the template. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * The prompt of a conversation. Encode it with `parseSpecial`, without `addSpecial`: the template writes the model's
 * marks itself. Throws `invalid_request` with the template's own words where it refuses the conversation, and where the
 * model has no template; `bad_model` where the template is no Jinja.
 */
export function renderChat(
  template: string | undefined,
  messages: readonly ChatTemplateMessage[],
  options: ChatTemplateOptions,
): string {
  if (template === undefined || template.trim() === "") {
    throw new KvEngineError("invalid_request", "the model has no chat template", {
      subject: "messages",
      hint: "send a prompt to /v1/completions, or use an instruction-tuned model",
    });
  }
  const compiled = compile(template);
  const variables = {
    ...options.variables,
    // Templates ask whether there is none, which what is left out is not.
    tools: options.tools ?? null,
    documents: null,
    messages: messages.map((message) => ({ ...message, content: joinContent(message.content) })),
    add_generation_prompt: options.addGenerationPrompt,
    bos_token: options.bosToken,
    eos_token: options.eosToken,
  };
  try {
    const text = compiled.render(variables);
    return options.continueFinalMessage === true ? cutAfter(text, messages.at(-1)) : text;
  } catch (error) {
    throw new KvEngineError(
      "invalid_request",
      `messages: the model's chat template: ${messageOf(error)}`,
      {
        subject: "messages",
        cause: error,
      },
    );
  }
}

/** A prompt without what the template writes behind its last message. */
function cutAfter(prompt: string, last: ChatTemplateMessage | undefined): string {
  const whole = joinContent(last?.content).trimStart();
  const text = whole.trimEnd();
  const at = prompt.lastIndexOf(text);
  if (text === "" || at < 0)
    throw new Error(
      "it does not write the last message as it is, so that nothing can go on from it",
    );
  // Templates may trim; where this one does not, white space at the end stays.
  return prompt.slice(0, at + (prompt.startsWith(whole, at) ? whole.length : text.length));
}

/** The last template compiled: a server has one. */
let last: { readonly text: string; readonly compiled: Template } | undefined;

function compile(text: string): Template {
  if (last?.text !== text) {
    try {
      last = { text, compiled: new Template(text) };
    } catch (error) {
      throw new KvEngineError("bad_model", `tokenizer.chat_template: ${messageOf(error)}`, {
        subject: "tokenizer.chat_template",
        cause: error,
      });
    }
  }
  return last.compiled;
}

function joinContent(content: ChatTemplateMessage["content"]): string {
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => part.text).join("\n");
}
