/** POST /tokenize and /detokenize */

import type { Context } from "hono";
import { z } from "zod";
import { type JsonBody, readJsonBody } from "./body.ts";
import { CHAT_PROMPT_SHAPE, readChatPromptFields } from "./chat-fields.ts";
import { chatPrompt } from "./chat-prompt.ts";
import type { AppContext, Env } from "./deps.ts";
import { flag, says, wrong } from "./field-checks.ts";
import { checkModel, warn } from "./respond.ts";
import { checkFields } from "./schema-check.ts";

const model = z.string(says("a string")).nullish();
const tokenId = z.int(says("a token id")).min(0, says("a token id"));

const textSchema = z.strictObject({
  model,
  prompt: z.string(says("a string")),
  add_special_tokens: flag,
  return_token_strs: flag,
});
const chatSchema = z.strictObject({ model, ...CHAT_PROMPT_SHAPE, return_token_strs: flag });
const tokensSchema = z.strictObject({
  model,
  tokens: z.array(tokenId, says("an array of token ids")),
});

/** A text or a chat as token ids. */
export async function tokenize(context: AppContext, c: Context<Env>): Promise<Response> {
  const body = await readJsonBody(context, c.req.raw);
  const { tokens, asked, withTexts } =
    "messages" in body.fields ? tokensOfChat(context, c, body) : tokensOfText(context, body);
  checkModel(context, asked);
  const { tokenizer, client } = context.deps;
  return c.json({
    count: tokens.length,
    max_model_len: client.info.maxModelLen,
    tokens: [...tokens],
    ...(withTexts ? { token_strs: Array.from(tokens, (id) => tokenizer.decode([id])) } : {}),
  });
}

interface Tokenized {
  readonly tokens: Int32Array;
  readonly asked: string | undefined;
  readonly withTexts: boolean;
}

function tokensOfText({ deps: { tokenizer } }: AppContext, body: JsonBody): Tokenized {
  const fields = checkFields(textSchema, body);
  const tokens = tokenizer.encode(fields.prompt.toWellFormed(), {
    parseSpecial: true,
    addSpecial: fields.add_special_tokens ?? true,
  });
  return {
    tokens,
    asked: fields.model ?? undefined,
    withTexts: fields.return_token_strs ?? false,
  };
}

function tokensOfChat(context: AppContext, c: Context<Env>, body: JsonBody): Tokenized {
  const fields = checkFields(chatSchema, body);
  const { tokenIds, ignored } = chatPrompt(context.deps, readChatPromptFields(fields));
  warn(c, ignored);
  return {
    tokens: tokenIds,
    asked: fields.model ?? undefined,
    withTexts: fields.return_token_strs ?? false,
  };
}

/** Token ids as text; control tokens have none. */
export async function detokenize(context: AppContext, c: Context<Env>): Promise<Response> {
  const body = await readJsonBody(context, c.req.raw);
  const fields = checkFields(tokensSchema, body);
  checkModel(context, fields.model ?? undefined);
  const { tokenizer, client } = context.deps;
  const { vocabSize } = client.info;
  const at = fields.tokens.findIndex((id) => id >= vocabSize);
  if (at >= 0) throw wrong(`tokens[${at}]`, fields.tokens[at], `0 to ${vocabSize - 1}`);
  return c.json({ prompt: tokenizer.decode(fields.tokens) });
}

/** For the description of the API. */
export const TOKENIZE_SCHEMAS: {
  readonly tokenize: z.ZodType;
  readonly detokenize: z.ZodType;
} = { tokenize: z.union([textSchema, chatSchema]), detokenize: tokensSchema };
