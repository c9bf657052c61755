/** POST /v1/completions */

import type { Context } from "hono";
import { NO_LOGPROBS } from "../request.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { readJsonBody } from "./body.ts";
import type { Choice, ChoiceDelta } from "./choice.ts";
import type { AppContext, Env } from "./deps.ts";
import { noteForExplain } from "./explain/endpoint.ts";
import { Generation } from "./generation.ts";
import { answeredText, answeredTokens, echoedText } from "./echo.ts";
import { CompletionLogprobs, type PromptLogprobsJson, promptLogprobsJson } from "./logprobs.ts";
import { type CompletionRequest, parseCompletionRequest } from "./openai.ts";
import type { Prompt } from "./prompt-field.ts";
import { checkModel, respond } from "./respond.ts";
import { collect, type Head, lastFields, transferJson, usageJson } from "./responses.ts";
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
  noteForExplain(context, c, generation, request.n, undefined);
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

function encode(context: AppContext, prompt: Prompt): Int32Array {
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
  const { tokenizer } = context.deps;
  return {
    id: head.id,
    object: "text_completion",
    created: head.created,
    model: head.model,
    system_fingerprint: head.fingerprint,
    choices: answers.map((answer, index) => {
      const first = generation.firstOf(index);
      return {
        index,
        text: echoedText(request, index, tokenizer) + answeredText(request, answer.text),
        logprobs:
          request.topLogprobs === NO_LOGPROBS
            ? null
            : new CompletionLogprobs(tokenizer).next(answeredTokens(request, first, answer)),
        finish_reason: answer.finish.reason,
        stop_reason: answer.finish.stopReason,
        prompt_logprobs: promptLogprobs(tokenizer, request, first),
      };
    }),
    usage: usageJson(generation.usage()),
    ...transferJson(generation),
  };
}

/** Where it was asked for; JSON leaves out what is undefined. */
function promptLogprobs(
  tokenizer: Tokenizer,
  { answeredPromptLogprobs }: CompletionRequest,
  { promptLogprobs: known, request: { promptTokenIds } }: Choice,
): PromptLogprobsJson | undefined {
  if (answeredPromptLogprobs === NO_LOGPROBS || known === undefined) return undefined;
  return promptLogprobsJson(tokenizer, promptTokenIds, known, answeredPromptLogprobs);
}

/** One `text_completion` for each delta: the parts that never change are made once. */
class CompletionFrames implements FrameWriter {
  readonly #tokenizer: Tokenizer;
  readonly #request: CompletionRequest;
  readonly #generation: Generation;
  /** Up to the opening bracket of `choices`. */
  readonly #opening: string;
  /** One for each choice, where log-probabilities were asked for. */
  readonly #logprobs: readonly CompletionLogprobs[];

  constructor(context: AppContext, head: Head, request: CompletionRequest, generation: Generation) {
    this.#tokenizer = context.deps.tokenizer;
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
    this.#logprobs =
      request.topLogprobs === NO_LOGPROBS
        ? []
        : generation.choices.map(() => new CompletionLogprobs(this.#tokenizer));
  }

  start(): string {
    if (!this.#request.echo) return "";
    return this.#generation.choices
      .map(({ index }) => {
        const text = JSON.stringify(echoedText(this.#request, index, this.#tokenizer));
        return this.#chunk(`"index":${index},"text":${text},"logprobs":null,"finish_reason":null`);
      })
      .join("");
  }

  delta({ index, text, tokens, finish }: ChoiceDelta): string {
    const logprobs = this.#logprobs[index]?.next(tokens) ?? null;
    const reason = finish === undefined ? "null" : `"${finish.reason}"`;
    const stop = finish === undefined ? "" : `,"stop_reason":${JSON.stringify(finish.stopReason)}`;
    const own = JSON.stringify(answeredText(this.#request, text));
    const fields = `"text":${own},"logprobs":${JSON.stringify(logprobs)}`;
    return this.#chunk(`"index":${index},${fields},"finish_reason":${reason}${stop}`);
  }

  end(): string {
    const fields = lastFields(this.#generation, this.#request.includeUsage);
    return fields === "" ? "" : frame(`${this.#opening}]${fields}}`);
  }

  #chunk(choice: string): string {
    return frame(`${this.#opening}{${choice}}]${this.#usage()}}`);
  }

  #usage(): string {
    if (this.#request.continuousUsage)
      return `,"usage":${JSON.stringify(usageJson(this.#generation.usage()))}`;
    return this.#request.includeUsage ? ',"usage":null' : "";
  }
}
