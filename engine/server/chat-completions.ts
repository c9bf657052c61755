/** POST /v1/chat/completions */

import type { Context } from "hono";
import { NO_LOGPROBS } from "../request.ts";
import { renderChat } from "../tokenizer/chat-template.ts";
import { readJsonBody } from "./body.ts";
import type { ChoiceDelta } from "./choice.ts";
import type { AppContext, Env } from "./deps.ts";
import { chatRendering, noteForExplain } from "./explain/endpoint.ts";
import { Generation } from "./generation.ts";
import { chatLogprobs, promptLogprobsJson } from "./logprobs.ts";
import { type ChatRequest, parseChatRequest } from "./openai.ts";
import { checkModel, respond } from "./respond.ts";
import { collect, type Head, lastFields, transferJson, usageJson } from "./responses.ts";
import { type FrameWriter, frame } from "./sse.ts";

export async function chatCompletions(context: AppContext, c: Context<Env>): Promise<Response> {
  context.admit();
  const request = parseChatRequest(await readJsonBody(c.req.raw, context.bodyLimit));
  checkModel(context, request.model);
  const { deps } = context;
  const requestId = c.get("requestId");
  const prompt = deps.tokenizer.encode(render(context, request), { parseSpecial: true });
  const generation = new Generation(context, {
    requestId,
    prompts: [prompt],
    promptField: "messages",
    options: request,
    defaultMaxTokens: undefined,
  });
  noteForExplain(context, c, generation, request.n, chatRendering(context, request.messages));
  const head: Head = {
    id: `chatcmpl-${requestId}`,
    created: Math.floor(Date.now() / 1000),
    model: deps.model.name,
    fingerprint: context.fingerprint,
  };
  return respond(context, c, generation, request, {
    writer: () => new ChatFrames(context, head, request, generation),
    whole: () => wholeAnswer(context, head, request, generation),
  });
}

function render(context: AppContext, request: ChatRequest): string {
  const { chatTemplate, special } = context.deps;
  const { bosToken, eosToken } = special;
  return renderChat(chatTemplate, request.messages, {
    addGenerationPrompt: true,
    bosToken,
    eosToken,
  });
}

async function wholeAnswer(
  context: AppContext,
  head: Head,
  request: ChatRequest,
  generation: Generation,
): Promise<object> {
  const answers = await collect(generation);
  const { tokenizer } = context.deps;
  const { request: asked, promptLogprobs } = generation.firstOf(0);
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    system_fingerprint: head.fingerprint,
    choices: answers.map((answer, index) => ({
      index,
      message: { role: "assistant", content: answer.text, refusal: null },
      logprobs: request.topLogprobs === NO_LOGPROBS ? null : chatLogprobs(tokenizer, answer),
      finish_reason: answer.finish.reason,
      stop_reason: answer.finish.stopReason,
    })),
    usage: usageJson(generation.usage()),
    ...transferJson(generation),
    ...(promptLogprobs === undefined
      ? {}
      : {
          prompt_logprobs: promptLogprobsJson(
            tokenizer,
            asked.promptTokenIds,
            promptLogprobs,
            request.promptLogprobs,
          ),
        }),
  };
}

/** One `chat.completion.chunk` for each delta: the parts that never change are made once. */
class ChatFrames implements FrameWriter {
  readonly #context: AppContext;
  readonly #request: ChatRequest;
  readonly #generation: Generation;
  /** Up to the opening bracket of `choices`. */
  readonly #opening: string;

  constructor(context: AppContext, head: Head, request: ChatRequest, generation: Generation) {
    this.#context = context;
    this.#request = request;
    this.#generation = generation;
    const fixed = JSON.stringify({
      id: head.id,
      object: "chat.completion.chunk",
      created: head.created,
      model: head.model,
      system_fingerprint: head.fingerprint,
    });
    this.#opening = `${fixed.slice(0, -1)},"choices":[`;
  }

  start(): string {
    return this.#generation.choices
      .map(({ index }) =>
        this.#chunk(index, '{"role":"assistant","content":"","refusal":null}', "null", "null"),
      )
      .join("");
  }

  delta({ index, text, tokens, finish }: ChoiceDelta): string {
    let frames = "";
    if (text !== "" || tokens.tokenIds.length > 0) {
      const logprobs =
        this.#request.topLogprobs === NO_LOGPROBS
          ? "null"
          : JSON.stringify(chatLogprobs(this.#context.deps.tokenizer, tokens));
      frames = this.#chunk(index, `{"content":${JSON.stringify(text)}}`, logprobs, "null");
    }
    if (finish !== undefined) {
      const reason = `"${finish.reason}","stop_reason":${JSON.stringify(finish.stopReason)}`;
      frames += this.#chunk(index, "{}", "null", reason);
    }
    return frames;
  }

  end(): string {
    const fields = lastFields(this.#generation, this.#request.includeUsage);
    return fields === "" ? "" : frame(`${this.#opening}]${fields}}`);
  }

  /** All but the index as JSON. */
  #chunk(index: number, delta: string, logprobs: string, finish: string): string {
    const choice = `{"index":${index},"delta":${delta},"logprobs":${logprobs},"finish_reason":${finish}}`;
    return frame(`${this.#opening}${choice}]${this.#usage()}}`);
  }

  #usage(): string {
    if (this.#request.continuousUsage)
      return `,"usage":${JSON.stringify(usageJson(this.#generation.usage()))}`;
    return this.#request.includeUsage ? ',"usage":null' : "";
  }
}
