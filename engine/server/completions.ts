/** POST /v1/completions */

import type { Context } from "hono";
import { readJsonBody } from "./body.ts";
import type { ChoiceDelta } from "./choice.ts";
import type { AppContext, Env } from "./deps.ts";
import { Generation } from "./generation.ts";
import { type CompletionRequest, parseCompletionRequest } from "./openai.ts";
import { checkModel, respond } from "./respond.ts";
import { CompletionLogprobs, type Head, collect, usageJson } from "./responses.ts";
import { type FrameWriter, frame } from "./sse.ts";

/** OpenAI's default of `max_tokens` here. */
const DEFAULT_MAX_TOKENS = 16;

export async function completions(context: AppContext, c: Context<Env>): Promise<Response> {
  context.admit();
  const request = parseCompletionRequest(await readJsonBody(c.req.raw, context.bodyLimit));
  checkModel(context, request.model);
  const requestId = c.get("requestId");
  const generation = new Generation(context, {
    requestId,
    prompts: request.prompts.map((prompt) => encode(context, prompt)),
    promptField: "prompt",
    options: request,
    defaultMaxTokens: DEFAULT_MAX_TOKENS,
  });
  const head: Head = {
    id: `cmpl-${requestId}`,
    created: Math.floor(Date.now() / 1000),
    model: context.deps.model.name,
    fingerprint: context.fingerprint,
  };
  return respond(context, c, generation, request, {
    writer: () => new CompletionFrames(context, head, request, generation),
    whole: () => wholeAnswer(context, head, request, generation),
  });
}

function encode(context: AppContext, prompt: string | readonly number[]): Int32Array {
  // Ids beyond 31 bits would turn into others here; as -1 they are refused with the rest that is outside the vocabulary.
  if (typeof prompt !== "string")
    return Int32Array.from(prompt, (id) => (id > 0x7fff_ffff ? -1 : id));
  return context.deps.tokenizer.encode(prompt.toWellFormed(), {
    parseSpecial: true,
    addSpecial: true,
  });
}

async function wholeAnswer(
  context: AppContext,
  head: Head,
  request: CompletionRequest,
  generation: Generation,
): Promise<object> {
  const answers = await collect(generation);
  return {
    id: head.id,
    object: "text_completion",
    created: head.created,
    model: head.model,
    system_fingerprint: head.fingerprint,
    choices: answers.map((answer, index) => ({
      index,
      text: answer.text,
      logprobs: request.logprobs
        ? new CompletionLogprobs(context.deps.tokenizer).next(answer)
        : null,
      finish_reason: answer.finish.reason,
      stop_reason: answer.finish.stopReason,
    })),
    usage: usageJson(generation.usage()),
  };
}

/** One `text_completion` for each delta: the parts that never change are made once. */
class CompletionFrames implements FrameWriter {
  readonly #request: CompletionRequest;
  readonly #generation: Generation;
  /** Up to the opening bracket of `choices`. */
  readonly #opening: string;
  /** One for each choice, where log-probabilities were asked for. */
  readonly #logprobs: readonly CompletionLogprobs[];

  constructor(context: AppContext, head: Head, request: CompletionRequest, generation: Generation) {
    this.#request = request;
    this.#generation = generation;
    const fixed = JSON.stringify({
      id: head.id,
      object: "text_completion",
      created: head.created,
      model: head.model,
      system_fingerprint: head.fingerprint,
    });
    this.#opening = `${fixed.slice(0, -1)},"choices":[`;
    this.#logprobs = request.logprobs
      ? generation.choices.map(() => new CompletionLogprobs(context.deps.tokenizer))
      : [];
  }

  start(): string {
    return "";
  }

  delta({ index, text, finish, ...tokens }: ChoiceDelta): string {
    const logprobs = this.#logprobs[index]?.next(tokens) ?? null;
    const reason = finish === undefined ? "null" : `"${finish.reason}"`;
    const stop = finish === undefined ? "" : `,"stop_reason":${JSON.stringify(finish.stopReason)}`;
    const fields = `"text":${JSON.stringify(text)},"logprobs":${JSON.stringify(logprobs)}`;
    return frame(
      `${this.#opening}{"index":${index},${fields},"finish_reason":${reason}${stop}}]${this.#usage()}}`,
    );
  }

  end(): string {
    if (!this.#request.includeUsage) return "";
    return frame(
      `${this.#opening}],"usage":${JSON.stringify(usageJson(this.#generation.usage()))}}`,
    );
  }

  #usage(): string {
    if (this.#request.continuousUsage)
      return `,"usage":${JSON.stringify(usageJson(this.#generation.usage()))}`;
    return this.#request.includeUsage ? ',"usage":null' : "";
  }
}
