/** POST /v1/completions/render and /v1/chat/completions/render: a request as the engine would get it, and no answer. */

import type { Context } from "hono";
import type { GenerateRequest } from "../request.ts";
import { readJsonBody } from "./body.ts";
import { ChatGeneration } from "./chat-generation.ts";
import { completionGeneration } from "./completions.ts";
import type { AppContext, Env } from "./deps.ts";
import { parseChatRequest, parseCompletionRequest } from "./openai.ts";
import { checkModel, warn } from "./respond.ts";

export async function renderChatCompletion(
  context: AppContext,
  c: Context<Env>,
): Promise<Response> {
  const request = parseChatRequest(await readJsonBody(context, c.req.raw));
  checkModel(context, request.model);
  const { generation, prompt, ignored } = await ChatGeneration.create(
    context,
    c,
    request,
    "messages",
  );
  warn(c, ignored);
  return c.json({ ...requestJson(context, generation.firstOf(0).request), prompt: prompt.text });
}

/** One object for each prompt. */
export async function renderCompletion(context: AppContext, c: Context<Env>): Promise<Response> {
  const request = parseCompletionRequest(await readJsonBody(context, c.req.raw));
  checkModel(context, request.model);
  const { generation, warnings } = await completionGeneration(context, c, request);
  warn(c, [...request.ignored, ...warnings]);
  const firsts = generation.choices.filter(({ index }) => index % request.n === 0);
  return c.json(firsts.map((choice) => requestJson(context, choice.request)));
}

/** In the form of vLLM's render endpoints, as far as routers read it. */
function requestJson({ deps }: AppContext, request: GenerateRequest): object {
  const { sampling } = request;
  return {
    request_id: request.id,
    model: deps.model.name,
    token_ids: [...request.promptTokenIds],
    sampling_params: {
      max_tokens: sampling.maxTokens,
      temperature: sampling.temperature,
      top_p: sampling.topP,
      top_k: sampling.topK,
      min_p: sampling.minP,
      stop: sampling.stop,
      stop_token_ids: sampling.stopTokenIds,
    },
    priority: request.priority,
    cache_salt: request.cacheSalt ?? null,
  };
}
