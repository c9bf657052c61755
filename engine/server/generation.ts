/** The sequences behind one HTTP request: started together, merged into one stream of deltas, aborted together. */

import { KvEngineError, errorFromData, toKvEngineError } from "../errors.ts";
import { checkRequest } from "../request-limits.ts";
import type { GenerateRequest, TokenEvent, Usage } from "../request.ts";
import { Choice, type ChoiceDelta } from "./choice.ts";
import type { AppContext } from "./deps.ts";
import type { CompletionOptions } from "./openai.ts";

export interface GenerationInput {
  readonly requestId: string;
  readonly prompts: readonly Int32Array[];
  /** The body's field that the prompts came from, for errors. */
  readonly promptField: string;
  readonly options: CompletionOptions;
  /** `max_tokens` where the client gave none; `undefined` = all that fits. */
  readonly defaultMaxTokens: number | undefined;
}

/** When tokens came, in milliseconds; 0 = not yet. */
interface Clock {
  first: number;
  last: number;
}

export class Generation {
  /** In the order of their index: all choices of the first prompt, then all of the second. */
  readonly choices: readonly Choice[];
  readonly #context: AppContext;
  readonly #n: number;
  readonly #arrival: number;
  readonly #iterators: AsyncIterator<TokenEvent>[] = [];
  #aborted = false;

  /** Checks everything before anything is queued. Throws `invalid_request` and `context_length_exceeded`. */
  constructor(context: AppContext, input: GenerationInput) {
    this.#context = context;
    this.#n = input.options.n;
    this.#arrival = performance.now();
    this.choices = makeRequests(context, input).map(
      (request, index) =>
        new Choice(
          index,
          request,
          context.deps.tokenizer,
          context.deps.special.endIds.filter((id) => !input.options.stopTokenIds.includes(id)),
          input.options.logprobs,
        ),
    );
  }

  /** Queues the sequences. May be called once. Throws what the engine says at once, with none of them left running. */
  start(): void {
    const { client } = this.#context.deps;
    this.#context.metrics.requested(this.#n);
    try {
      for (const { request } of this.choices)
        this.#iterators.push(client.generate(request)[Symbol.asyncIterator]());
    } catch (error) {
      this.abort("error");
      throw error;
    }
  }

  /**
   * The deltas of the started sequences as they come. May be called once. Throws what the engine reports, after the other
   * sequences have been aborted.
   */
  async *deltas(): AsyncGenerator<ChoiceDelta> {
    const only = this.choices.length === 1 ? this.choices[0] : undefined;
    try {
      if (only === undefined) yield* this.#merge();
      else yield* this.#follow(only);
    } catch (error) {
      this.abort("error");
      throw toKvEngineError(error);
    } finally {
      this.abort();
    }
  }

  /** Ends what still runs; deltas that were not taken are dropped. May be called at any time and more than once. */
  abort(reason: "abort" | "error" = "abort"): void {
    if (this.#aborted) return;
    this.#aborted = true;
    for (const [index, iterator] of this.#iterators.entries()) {
      const choice = this.choices[index] as Choice;
      if (choice.finished) continue;
      choice.finished = true;
      this.#context.metrics.unfinished(reason);
      // Leaving a sequence aborts it, and ends a next() that waits.
      iterator.return?.().catch((error: unknown) => {
        this.#context.deps.onError?.(toKvEngineError(error), choice.request.id);
      });
    }
  }

  /** A prompt counts once, however many choices it has. */
  usage(): Usage {
    const total = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
    for (const { index, usage } of this.choices) {
      total.completionTokens += usage.completionTokens;
      if (index % this.#n !== 0) continue;
      total.promptTokens += usage.promptTokens;
      total.cachedTokens += usage.cachedTokens;
    }
    return total;
  }

  async *#follow(choice: Choice): AsyncGenerator<ChoiceDelta> {
    const iterator = this.#iterators[choice.index] as AsyncIterator<TokenEvent>;
    const clock: Clock = { first: 0, last: 0 };
    while (!choice.finished) {
      const delta = this.#take(choice, await iterator.next(), clock);
      if (delta !== undefined) yield delta;
    }
  }

  /** Whichever sequence has something goes first. */
  async *#merge(): AsyncGenerator<ChoiceDelta> {
    const next = async (
      choice: Choice,
    ): Promise<{ choice: Choice; result: IteratorResult<TokenEvent> }> => ({
      choice,
      result: await (this.#iterators[choice.index] as AsyncIterator<TokenEvent>).next(),
    });
    const clocks = this.choices.map((): Clock => ({ first: 0, last: 0 }));
    const pending = new Map(this.choices.map((choice) => [choice, next(choice)]));
    while (pending.size > 0) {
      const { choice, result } = await Promise.race(pending.values());
      const delta = this.#take(choice, result, clocks[choice.index] as Clock);
      // Deleted first, so that it goes to the end of the line: race() favours the front.
      pending.delete(choice);
      if (!choice.finished) pending.set(choice, next(choice));
      if (delta !== undefined) yield delta;
    }
  }

  #take(choice: Choice, result: IteratorResult<TokenEvent>, clock: Clock): ChoiceDelta | undefined {
    if (choice.finished) return undefined;
    if (result.done === true) {
      throw new KvEngineError("internal", `sequence ${choice.request.id} ended without saying why`);
    }
    const event = result.value;
    const { metrics } = this.#context;
    const now = performance.now();
    if (event.tokenIds.length > 0) {
      if (clock.last === 0) {
        metrics.firstToken((now - this.#arrival) / 1000);
        clock.first = now;
      } else {
        metrics.nextTokens((now - clock.last) / 1000, event.tokenIds.length);
      }
      clock.last = now;
    }
    const { finish } = event;
    if (finish !== undefined) {
      if (finish.reason === "error") {
        throw errorFromData(
          finish.error ?? { code: "internal", message: "the engine gave up on this sequence" },
        );
      }
      if (finish.reason === "abort")
        throw new KvEngineError("unavailable", "the request was aborted by the server");
      metrics.finished({
        reason: finish.reason,
        seconds: (now - this.#arrival) / 1000,
        decodeSeconds: (clock.last - clock.first) / 1000,
        usage: finish.usage,
        maxTokens: choice.request.sampling.maxTokens,
      });
    }
    return choice.push(event);
  }
}

function makeRequests(context: AppContext, input: GenerationInput): GenerateRequest[] {
  const { options } = input;
  const { special } = context.deps;
  const seed = options.seed ?? drawSeed();
  const stopTokenIds = [
    ...new Set([...(options.ignoreEos ? [] : special.endIds), ...options.stopTokenIds]),
  ];
  const arrivalTime = Date.now();
  return input.prompts.flatMap((promptTokenIds) => {
    const maxTokens =
      options.maxTokens ?? defaultMaxTokens(context, promptTokenIds.length, input.defaultMaxTokens);
    return Array.from({ length: options.n }, (_, choice): GenerateRequest => {
      const request: GenerateRequest = {
        // A client may use one X-Request-Id twice; the number keeps live sequences apart.
        id: `${input.requestId}-${context.nextId()}`,
        promptTokenIds,
        arrivalTime,
        sampling: {
          temperature: options.temperature,
          topK: options.topK >= context.deps.client.info.vocabSize ? 0 : options.topK,
          topP: options.topP,
          minP: options.minP,
          seed,
          choice,
          maxTokens,
          stop: options.stop,
          stopTokenIds,
        },
      };
      if (choice === 0) checkFits(context, request, input);
      return request;
    });
  });
}

/** All that fits the model's length and the pool of KV blocks; the last token needs no KV. At least 1, so that checks speak. */
function defaultMaxTokens(
  context: AppContext,
  promptTokens: number,
  wanted: number | undefined,
): number {
  const { maxModelLen, numBlocks, blockSize } = context.deps.client.info;
  const fits = Math.min(maxModelLen, numBlocks * blockSize + 1) - promptTokens;
  return Math.max(1, Math.min(wanted ?? fits, fits));
}

function checkFits(context: AppContext, request: GenerateRequest, input: GenerationInput): void {
  const { maxModelLen, vocabSize, numBlocks, blockSize } = context.deps.client.info;
  const names: Readonly<Record<string, string>> = {
    prompt: input.promptField,
    max_tokens: input.options.maxTokensField,
  };
  const badStop = input.options.stopTokenIds.findIndex((id) => id >= vocabSize);
  if (badStop >= 0) {
    const subject = `stop_token_ids[${badStop}]`;
    const found = input.options.stopTokenIds[badStop];
    throw new KvEngineError(
      "invalid_request",
      `${subject} is ${found}; allowed is 0 to ${vocabSize - 1}`,
      { subject },
    );
  }
  try {
    // One group at least; the client asks once more with the model's own number.
    checkRequest(request, { maxModelLen, vocabSize, numBlocks, blockSize, numGroups: 1 });
  } catch (thrown) {
    const error = toKvEngineError(thrown);
    const subject = error.subject === undefined ? undefined : names[error.subject];
    if (subject === undefined) throw error;
    const inTheirWords = (text: string): string =>
      text.replaceAll("max_tokens", input.options.maxTokensField);
    throw new KvEngineError(error.code, inTheirWords(error.message), {
      subject,
      ...(error.hint === undefined ? {} : { hint: inTheirWords(error.hint) }),
      cause: error,
    });
  }
}

function drawSeed(): readonly [number, number] {
  const [low, high] = crypto.getRandomValues(new Uint32Array(2));
  return [low as number, high as number];
}
