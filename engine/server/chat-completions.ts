/** POST /v1/chat/completions */

import type { Context } from "hono";
import { NO_LOGPROBS } from "../request.ts";
import { collect, type Head, timingField, transferJson, usageJson } from "./answers.ts";
import { readJsonBody } from "./body.ts";
import { ChatFrames } from "./chat-frames.ts";
import { ChatGeneration } from "./chat-generation.ts";
import type { AppContext, Env } from "./deps.ts";
import { noteForExplain } from "./explain/endpoint.ts";
import { chatLogprobs, promptLogprobsJson } from "./logprobs.ts";
import { Message } from "./message/message.ts";
import { parseChatRequest } from "./openai.ts";
import { asServed, checkModel, respond } from "./respond.ts";
import { sessionOf } from "./sessions/session-of.ts";

export async function chatCompletions(context: AppContext, c: Context<Env>): Promise<Response> {
  context.admit(c);
  const request = asServed(context, parseChatRequest(await readJsonBody(context, c.req.raw)));
  checkModel(context, request.model);
  const session = sessionOf(c, request);
  const chat = await ChatGeneration.create(context, c, request, "messages");
  noteForExplain(context, c, chat.generation, request.n, chat.prompt.rendering, session);
  const head: Head = {
    id: `chatcmpl-${c.get("requestId")}`,
    created: Math.floor(Date.now() / 1000),
    model: context.deps.model.name,
    fingerprint: context.fingerprint,
  };
  const options = { stream: request.stream, ignored: chat.ignored, pins: chat.pins };
  return respond(context, c, chat.generation, options, {
    writer: () => new ChatFrames(context, head, chat),
    whole: () => wholeAnswer(context, head, chat),
  });
}

async function wholeAnswer(context: AppContext, head: Head, chat: ChatGeneration): Promise<object> {
  const { request, generation } = chat;
  const messages = generation.choices.map(() => new Message());
  const answers = await collect(generation, (delta) =>
    messages[delta.index]?.add(chat.piecesOf(delta)),
  );
  const { tokenizer } = context.deps;
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    system_fingerprint: head.fingerprint,
    choices: answers.map((answer, index) => ({
      index,
      message: messageJson(messages[index] ?? new Message()),
      logprobs: request.topLogprobs === NO_LOGPROBS ? null : chatLogprobs(tokenizer, answer),
      finish_reason: chat.finishReason(index, answer.finish.reason),
      stop_reason: answer.finish.stopReason,
      // JSON leaves out what is undefined.
      token_ids: request.returnTokenIds ? answer.tokenIds : undefined,
    })),
    usage: usageJson(generation.usage(), chat.reasoningTokens),
    ...(request.returnTiming ? timingField(generation) : {}),
    ...transferJson(generation),
    ...(request.returnTokenIds ? { prompt_token_ids: [...chat.prompt.tokenIds] } : {}),
    ...promptLogprobs(context, chat),
  };
}

function messageJson({ content, reasoning, calls }: Message): object {
  const isEmpty = content === "" && (reasoning !== "" || calls.length > 0);
  return {
    role: "assistant",
    content: isEmpty ? null : content,
    refusal: null,
    // Clients are split over the name.
    ...(reasoning === "" ? {} : { reasoning, reasoning_content: reasoning }),
    ...(calls.length === 0
      ? {}
      : {
          tool_calls: calls.map(({ id, name, args }) => ({
            id,
            type: "function",
            function: { name, arguments: args },
          })),
        }),
  };
}

function promptLogprobs({ deps: { tokenizer } }: AppContext, chat: ChatGeneration): object {
  const { promptLogprobs: known } = chat.generation.firstOf(0);
  if (known === undefined) return {};
  const { promptLogprobs: count } = chat.request;
  return { prompt_logprobs: promptLogprobsJson(tokenizer, chat.prompt.tokenIds, known, count) };
}
