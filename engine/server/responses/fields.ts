/** What a body of `/v1/responses` may hold. */

import { z } from "zod";
import { NO_LOGPROBS } from "../../request.ts";
import { MAX_LOGPROBS } from "../../request-limits.ts";
import type { JsonBody } from "../body.ts";
import { CHAT_PROMPT_SHAPE, readChatPromptFields } from "../chat-fields.ts";
import type { ToolChoiceFields, ToolFields } from "../chat-messages.ts";
import { COMMON_SHAPE, readCommonFields } from "../common-fields.ts";
import { flag, given, integerIn, says, wrong } from "../field-checks.ts";
import { checkOtherFields } from "../fields.ts";
import type { ChatRequest } from "../openai.ts";
import { LOGPROBS, maxTokensField } from "../sampling-fields.ts";
import { checkFields } from "../schema-check.ts";
import { readTextFormat, SCHEMA_SHAPE } from "../structured/structure.ts";
import { type InputItem, readItems, toMessages } from "./input-items.ts";

export interface ResponsesRequest {
  /** What the model is asked, without what came before in the conversation. */
  readonly chat: ChatRequest;
  readonly instructions: string | undefined;
  readonly input: readonly InputItem[];
  readonly previousResponseId: string | undefined;
  readonly store: boolean;
  readonly background: boolean;
  readonly withLogprobs: boolean;
  /** Fields that the response repeats. */
  readonly echoed: EchoedFields;
}

export interface EchoedFields {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tools: readonly object[];
  readonly tool_choice: string | object;
  readonly parallel_tool_calls: boolean;
  readonly max_output_tokens: number | null;
  readonly reasoning: { readonly effort: string | null; readonly summary: null };
  readonly top_logprobs: number;
  readonly text: { readonly format: object };
}

const FORMAT =
  '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "name": "…", "schema": {…}}';
const CHOICES = '"none", "auto", "required" or {"type": "function", "name": "…"}';
const METADATA = "up to 16 texts of at most 512 characters under names of at most 64";
const LOGPROBS_INCLUDED = "message.output_text.logprobs";
const INCLUDES = [LOGPROBS_INCLUDED, "reasoning.encrypted_content"] as const;

/** OpenAI's own form has the function's fields beside its type. */
const tool = z.strictObject(
  {
    type: z.literal("function", says('"function"')),
    name: z.string(says("a string")),
    description: z.string(says("a string")).nullish(),
    parameters: z.record(z.string(), z.unknown(), says("a JSON Schema object")).nullish(),
    strict: flag,
  },
  says('a tool like {"type": "function", "name": "…"}'),
);

const schema = z
  .object(COMMON_SHAPE)
  .omit({ max_tokens: true, n: true, prompt_logprobs: true, stream_options: true })
  .omit({ return_token_ids: true, return_timing: true, response_format: true })
  .extend({
    input: z.unknown(),
    instructions: z.string(says("a string")).nullish(),
    max_output_tokens: maxTokensField,
    previous_response_id: z.string(says("a string")).nullish(),
    store: flag,
    background: flag,
    metadata: z
      .record(z.string().max(64), z.string().max(512), says(METADATA))
      .refine((entries) => Object.keys(entries).length <= 16, says(METADATA))
      .nullish(),
    tools: z.array(tool, says("an array of tools")).nullish(),
    tool_choice: z
      .union(
        [
          z.enum(["none", "auto", "required"]),
          z.strictObject({ type: z.literal("function"), name: z.string() }),
        ],
        says(CHOICES),
      )
      .nullish(),
    parallel_tool_calls: flag,
    chat_template_kwargs: CHAT_PROMPT_SHAPE.chat_template_kwargs,
    reasoning: z
      .strictObject(
        {
          effort: CHAT_PROMPT_SHAPE.reasoning_effort,
          summary: z.enum(["auto", "concise", "detailed"]).nullish(),
          generate_summary: z.null(says("null")).optional(),
        },
        says("an object"),
      )
      .nullish(),
    text: z
      .strictObject(
        {
          format: z
            .strictObject(
              {
                type: z.enum(["text", "json_object", "json_schema"], says(FORMAT)),
                name: SCHEMA_SHAPE.name.optional(),
                description: SCHEMA_SHAPE.description,
                schema: SCHEMA_SHAPE.schema,
                strict: SCHEMA_SHAPE.strict,
              },
              says(FORMAT),
            )
            .nullish(),
          verbosity: z.literal("medium", says('"medium"')).nullish(),
        },
        says("an object"),
      )
      .nullish(),
    truncation: z.literal("disabled", says('"disabled"')).nullish(),
    include: z
      .array(z.enum(INCLUDES, says(INCLUDES.map((one) => `"${one}"`).join(" or "))))
      .nullish(),
    top_logprobs: integerIn(0, MAX_LOGPROBS, LOGPROBS),
    stream_options: z.strictObject({ include_obfuscation: flag }, says("an object")).nullish(),
  });

/** For the description of the API. */
export const RESPONSES_SCHEMA: z.ZodType = schema;

const FIELDS: readonly string[] = Object.keys(schema.shape);

/** Checks a body. Throws `invalid_request`. */
export function parseResponsesRequest(body: JsonBody): ResponsesRequest {
  const fields = checkFields(schema, body);
  const ignored = [...checkOtherFields(body.fields, FIELDS, "responses")];
  const input = readItems(fields.input);
  const effort = fields.reasoning?.effort ?? undefined;
  // Nothing here writes summaries.
  if (given(fields.reasoning?.summary)) ignored.push("reasoning.summary");
  const withLogprobs = fields.include?.includes(LOGPROBS_INCLUDED) ?? false;
  if (fields.include?.includes("reasoning.encrypted_content") === true)
    ignored.push("include.reasoning.encrypted_content");
  const top = fields.top_logprobs ?? 0;
  if (top > 0 && !withLogprobs)
    throw wrong("top_logprobs", top, `0 unless include holds "${LOGPROBS_INCLUDED}"`);
  const store = fields.store ?? true;
  const background = fields.background ?? false;
  if (background && !store) throw wrong("background", true, "false where store is false");
  if (background && fields.stream === true)
    throw wrong("background", true, "false where stream is true");
  const tools = (fields.tools ?? []).map(toChatTool);
  const prompt = {
    ...readChatPromptFields(
      {
        messages: [],
        tools,
        tool_choice: toChatChoice(fields.tool_choice),
        parallel_tool_calls: fields.parallel_tool_calls,
        chat_template_kwargs: fields.chat_template_kwargs,
        reasoning_effort: effort,
      },
      (index) => `tools[${index}]`,
    ),
    messages: toMessages(input),
  };
  const maxTokens = fields.max_output_tokens ?? undefined;
  const common = readCommonFields(fields, body, ignored);
  const byFormat = readTextFormat(fields.text?.format);
  if (byFormat !== undefined && common.structure !== undefined)
    throw wrong(
      "structured_outputs",
      fields.structured_outputs,
      "null where text.format asks for JSON",
    );
  return {
    chat: {
      ...common,
      ...(byFormat === undefined ? {} : { structure: byFormat }),
      ...prompt,
      maxTokens,
      maxTokensField: "max_output_tokens",
      topLogprobs: withLogprobs ? top : NO_LOGPROBS,
    },
    instructions: fields.instructions?.toWellFormed(),
    input,
    previousResponseId: fields.previous_response_id ?? undefined,
    store,
    background,
    withLogprobs,
    echoed: {
      metadata: fields.metadata ?? {},
      tools: (fields.tools ?? []).map(echoedTool),
      tool_choice: fields.tool_choice ?? "auto",
      parallel_tool_calls: fields.parallel_tool_calls ?? true,
      max_output_tokens: maxTokens ?? null,
      reasoning: { effort: effort ?? null, summary: null },
      top_logprobs: top,
      text: { format: fields.text?.format ?? { type: "text" } },
    },
  };
}

function toChatTool({ type, ...rest }: z.infer<typeof tool>): ToolFields {
  return { type, function: rest };
}

function toChatChoice(
  choice:
    | "none"
    | "auto"
    | "required"
    | { readonly type: "function"; readonly name: string }
    | null
    | undefined,
): ToolChoiceFields | null | undefined {
  if (typeof choice !== "object" || choice === null) return choice;
  return { type: "function", function: { name: choice.name } };
}

function echoedTool({ name, description, parameters, strict }: z.infer<typeof tool>): object {
  return {
    type: "function",
    name,
    description: description ?? null,
    parameters: parameters ?? null,
    strict: strict ?? false,
  };
}
