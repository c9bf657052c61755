/** From a checked body to the engine's requests, one for each choice of each prompt. */

import { KvEngineError, toKvEngineError } from "../errors.ts";
import {
  type GenerateRequest,
  type GrammarRef,
  NO_LOGPROBS,
  type SamplingParams,
} from "../request.ts";
import { checkRequest, longestSequence } from "../request-limits.ts";
import type { TokenBytes } from "../tokenizer/detokenizer.ts";
import type { Caller } from "./access/caller.ts";
import { badWordIds } from "./bad-words.ts";
import type { AppContext } from "./deps.ts";
import { wrong } from "./field-checks.ts";
import type { CompletionOptions } from "./common-fields.ts";

export interface GenerationInput {
  readonly requestId: string;
  readonly caller: Caller;
  readonly prompts: readonly Int32Array[];
  /** The body's field that the prompts came from, for errors. */
  readonly promptField: string;
  readonly options: CompletionOptions;
  /** What tokens stand for in the answer's text; default: as the tokenizer has it. */
  readonly tokens?: TokenBytes | undefined;
  /** What the answers follow. */
  readonly grammar?: GrammarRef | undefined;
  /** `max_tokens` where the client gave none; `undefined` = all that fits. */
  readonly defaultMaxTokens: number | undefined;
}

/**
 * All choices of the first prompt, then all of the second. Checks everything that can be checked before anything is
 * queued; throws `invalid_request` and `context_length_exceeded` in the words of the body.
 */
export function makeRequests(context: AppContext, input: GenerationInput): GenerateRequest[] {
  const { options } = input;
  checkOptions(context, options);
  const cacheSalt = input.caller.cacheSalt(options.cacheSalt);
  const common = {
    sampling: commonSampling(context, options),
    arrivalTime: Date.now(),
    priority: input.caller.priority(options.priority),
    ...(cacheSalt === undefined ? {} : { cacheSalt }),
    ...(input.grammar === undefined ? {} : { grammar: input.grammar }),
    ...(options.transferParams === undefined ? {} : { transferParams: options.transferParams }),
  };
  const requests: GenerateRequest[] = [];
  for (const promptTokenIds of input.prompts) {
    const maxTokens =
      options.maxTokens ?? defaultMaxTokens(context, promptTokenIds.length, input.defaultMaxTokens);
    let leader: string | undefined;
    for (let choice = 0; choice < options.n; choice++) {
      // A client may use one X-Request-Id twice; the number keeps live sequences apart.
      const id = `${input.requestId}-${context.nextId()}`;
      // What is said of the prompt is the same for all choices.
      const promptLogprobs = choice === 0 ? options.promptLogprobs : NO_LOGPROBS;
      const request: GenerateRequest = {
        ...common,
        ...(leader === undefined ? {} : { leader }),
        id,
        promptTokenIds,
        sampling: { ...common.sampling, choice, maxTokens, promptLogprobs },
      };
      if (choice === 0) checkFits(context, request, input);
      leader ??= id;
      requests.push(request);
    }
  }
  return requests;
}

function commonSampling(
  { deps }: AppContext,
  options: CompletionOptions,
): Omit<SamplingParams, "choice" | "maxTokens" | "promptLogprobs"> {
  const { temperature, topK, topP, minP, minTokens, stop, logitBias, allowedTokenIds } = options;
  const { repetitionPenalty, presencePenalty, frequencyPenalty, topLogprobs } = options;
  return {
    temperature,
    topK: topK >= deps.client.info.vocabSize ? 0 : topK,
    topP,
    minP,
    seed: options.seed ?? drawSeed(),
    stop,
    stopTokenIds: [
      ...new Set([...(options.ignoreEos ? [] : deps.special.endIds), ...options.stopTokenIds]),
    ],
    minTokens,
    repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    logitBias,
    allowedTokenIds,
    badWords: badWordIds(deps.tokenizer, options.badWords),
    topLogprobs,
  };
}

/** What the engine would refuse without the place, or take without effect. */
function checkOptions({ deps }: AppContext, options: CompletionOptions): void {
  const { vocabSize, schedulingPolicy } = deps.client.info;
  const allowed = `0 to ${vocabSize - 1}`;
  const lists = {
    stop_token_ids: options.stopTokenIds,
    allowed_token_ids: options.allowedTokenIds,
  };
  for (const [name, ids] of Object.entries(lists)) {
    const at = ids.findIndex((id) => id >= vocabSize);
    if (at >= 0) throw wrong(`${name}[${at}]`, ids[at], allowed);
  }
  const bias = options.logitBias.find(([id]) => id >= vocabSize);
  if (bias !== undefined)
    throw wrong(`logit_bias.${bias[0]}`, bias[1], `a token id of ${allowed} as the name`);
  if (options.priority !== 0 && schedulingPolicy !== "priority") {
    throw new KvEngineError(
      "invalid_request",
      `priority is ${options.priority}; allowed is 0, as this server does not schedule by priority`,
      { subject: "priority", hint: "start the server with --scheduling-policy priority" },
    );
  }
}

/** All that fits the model's length and the pool of KV blocks; the last token needs no KV. At least 1, so that checks speak. */
function defaultMaxTokens(
  { deps: { client } }: AppContext,
  promptTokens: number,
  wanted: number | undefined,
): number {
  const fits = longestSequence(client.limits) - promptTokens;
  return Math.max(1, Math.min(wanted ?? fits, fits));
}

/** What the engine would refuse, in the words of the body. */
function checkFits(context: AppContext, request: GenerateRequest, input: GenerationInput): void {
  const names: Readonly<Record<string, string>> = {
    prompt: input.promptField,
    max_tokens: input.options.maxTokensField,
  };
  try {
    checkRequest(request, context.deps.client.limits);
  } catch (thrown) {
    const error = toKvEngineError(thrown);
    if (error.subject === undefined) throw error;
    const inTheirWords = (text: string): string =>
      text.replaceAll("max_tokens", input.options.maxTokensField);
    throw new KvEngineError(error.code, inTheirWords(error.message), {
      subject: names[error.subject] ?? error.subject,
      ...(error.hint === undefined ? {} : { hint: inTheirWords(error.hint) }),
      cause: error,
    });
  }
}

function drawSeed(): readonly [number, number] {
  const [low, high] = crypto.getRandomValues(new Uint32Array(2));
  return [low as number, high as number];
}
