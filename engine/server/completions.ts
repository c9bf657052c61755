/** POST /v1/completions */

import type { Context } from "hono";
import type { KvEngineError } from "../errors.ts";
import { NO_LOGPROBS } from "../request.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { readJsonBody } from "./body.ts";
import type { Choice, ChoiceDelta } from "./choice.ts";
import type { AppContext, Env } from "./deps.ts";
import { noteForExplain } from "./explain/endpoint.ts";
import { Generation } from "./generation.ts";
import { answeredIds, answeredText, answeredTokens, echoedText } from "./echo.ts";
import { CompletionLogprobs, type PromptLogprobsJson, promptLogprobsJson } from "./logprobs.ts";
import { type CompletionRequest, parseCompletionRequest } from "./openai.ts";
import type { RequestPin } from "./pins/pin-marked.ts";
import type { Prompt } from "./prompt-field.ts";
import { asServed, checkModel, respond } from "./respond.ts";
import { sessionOf } from "./sessions/session-of.ts";
import { collect, type Head, lastFields, timingField, transferJson, usageJson } from "./answers.ts";
import { answerGrammar } from "./structured/answer-grammar.ts";
import { compileGrammar } from "./structured/compile.ts";
import { DONE, failFrames, type FrameWriter, frame } from "./sse.ts";

/** OpenAI's default of `max_tokens` here. */
const DEFAULT_MAX_TOKENS = 16;

export async function completions(context: AppContext, c: Context<Env>): Promise<Response> {
  context.admit(c);
  const request = asServed(context, parseCompletionRequest(await readJsonBody(context, c.req.raw)));
  checkModel(context, request.model);
  const session = sessionOf(c, request);
  const { generation, warnings } = await completionGeneration(context, c, request);
  noteForExplain(context, c, generation, request.n, undefined, session);
  const head: Head = {
    id: `cmpl-${c.get("requestId")}`,
    created: Math.floor(Date.now() / 1000),
    model: context.deps.model.name,
    fingerprint: context.fingerprint,
  };
  const { stream, ignored } = request;
  const options = {
    stream,
    ignored: [...ignored, ...warnings],
    pins: wholePins(generation, request),
  };
  return respond(context, c, generation, options, {
    writer: () => new CompletionFrames(context, head, request, generation),
    whole: () => wholeAnswer(context, head, request, generation),
  });
}

/** Each prompt, where all of it is to be pinned. */
function wholePins({ choices }: Generation, { pinMs, n }: CompletionRequest): RequestPin[] {
  if (pinMs === undefined) return [];
  return choices.flatMap(({ index, request: { id, promptTokenIds } }) =>
    index % n === 0 ? [{ request: id, numTokens: promptTokenIds.length, ttlMs: pinMs }] : [],
  );
}

interface Started {
  readonly generation: Generation;
  /** Names of what is only roughly kept. */
  readonly warnings: readonly string[];
}

/** The sequences of a checked body; nothing is queued. */
export async function completionGeneration(
  context: AppContext,
  c: Context<Env>,
  request: CompletionRequest,
): Promise<Started> {
  const grammar = await compileGrammar(context, answerGrammar(request.structure));
  const generation = new Generation(context, {
    requestId: c.get("requestId"),
    caller: c.get("caller"),
    prompts: request.prompts.map((prompt) => encode(context, prompt)),
    promptField: "prompt",
    options: request,
    grammar: grammar?.ref,
    defaultMaxTokens: DEFAULT_MAX_TOKENS,
  });
  return { generation, warnings: grammar?.warnings ?? [] };
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
  // JSON leaves out what is undefined.
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
        prompt_token_ids: request.returnTokenIds ? [...first.request.promptTokenIds] : undefined,
        token_ids: request.returnTokenIds ? answeredIds(request, answer.tokenIds) : undefined,
      };
    }),
    usage: usageJson(generation.usage()),
    ...(request.returnTiming ? timingField(generation) : {}),
    ...transferJson(generation),
  };
}

/** Where it was asked for. */
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
    const { echo, returnTokenIds } = this.#request;
    if (!echo && !returnTokenIds) return "";
    return this.#generation.choices
      .map(({ index, request }) => {
        const text = JSON.stringify(echoedText(this.#request, index, this.#tokenizer));
        const ids = returnTokenIds
          ? `,"prompt_token_ids":[${request.promptTokenIds.join(",")}],"token_ids":[]`
          : "";
        return this.#chunk(
          `"index":${index},"text":${text},"logprobs":null,"finish_reason":null${ids}`,
        );
      })
      .join("");
  }

  delta({ index, text, tokens, finish }: ChoiceDelta): string {
    const logprobs = this.#logprobs[index]?.next(tokens) ?? null;
    const reason = finish === undefined ? "null" : `"${finish.reason}"`;
    const stop = finish === undefined ? "" : `,"stop_reason":${JSON.stringify(finish.stopReason)}`;
    const own = JSON.stringify(answeredText(this.#request, text));
    const fields = `"text":${own},"logprobs":${JSON.stringify(logprobs)}`;
    const ids = this.#request.returnTokenIds
      ? `,"token_ids":[${answeredIds(this.#request, tokens.tokenIds).join(",")}]`
      : "";
    return this.#chunk(`"index":${index},${fields},"finish_reason":${reason}${stop}${ids}`);
  }

  end(): string {
    const fields = lastFields(this.#generation, this.#request);
    return (fields === "" ? "" : frame(`${this.#opening}]${fields}}`)) + DONE;
  }

  fail(error: KvEngineError): string {
    return failFrames(error);
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
