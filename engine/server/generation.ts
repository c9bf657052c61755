/** The sequences behind one HTTP request: started together, read as one row of deltas, aborted together. */

import type { TokenSource } from "../engine-client.ts";
import { epochMs } from "../epoch.ts";
import { KvEngineError, errorFromData, toKvEngineError } from "../errors.ts";
import {
  type CacheReceipt,
  type Finish,
  NO_LOGPROBS,
  type SamplingParams,
  type Timing,
  type TokenEvent,
  type Usage,
} from "../request.ts";
import { sumOfReceipts } from "./cache-receipt.ts";
import type { Caller } from "./access/caller.ts";
import { Choice, type ChoiceDelta } from "./choice.ts";
import type { AppContext } from "./deps.ts";
import { type GenerationInput, makeRequests } from "./generate-requests.ts";
import { SequenceClock } from "./sequence-clock.ts";

export class Generation {
  /** In the order of their index: all choices of the first prompt, then all of the second. */
  readonly choices: readonly Choice[];
  readonly n: number;
  readonly #context: AppContext;
  readonly #arrivedAt: number;
  readonly #sources: TokenSource[] = [];
  /** One for each choice. */
  readonly #clocks: readonly SequenceClock[];
  /** The choice whose turn it is. */
  #turn = 0;
  #givenUp: "abort" | "error" | undefined;
  readonly #caller: Caller;
  #cutBy: KvEngineError | undefined;
  readonly #onEnd: (() => void)[] = [];
  #hasEnded = false;

  /** Checks everything before anything is queued. Throws `invalid_request` and `context_length_exceeded`. */
  constructor(context: AppContext, input: GenerationInput) {
    this.#context = context;
    this.#caller = input.caller;
    this.n = input.options.n;
    this.#arrivedAt = epochMs();
    this.choices = makeRequests(context, input).map(
      (request, index) =>
        new Choice(
          index,
          request,
          input.tokens ?? context.deps.tokenizer,
          context.deps.special.endIds.filter((id) => !input.options.stopTokenIds.includes(id)),
          input.options.topLogprobs !== NO_LOGPROBS || input.options.returnTokenIds,
        ),
    );
    const { metrics } = context;
    this.#clocks = this.choices.map(
      ({ request }) => new SequenceClock(metrics, this.#arrivedAt, request.sampling.maxTokens),
    );
  }

  /**
   * Queues the sequences. May be called once. Throws `too_many_requests` where the caller has too many, and what the engine says at once,
   * with none of them left running.
   */
  start(): void {
    const { places, deps } = this.#context;
    this.onEnd(this.#caller.begin());
    if (deps.onPrompt !== undefined)
      for (const { request, index } of this.choices)
        if (index % this.n === 0)
          deps.onPrompt(request.id, deps.tokenizer.decode(request.promptTokenIds));
    this.#context.metrics.requested(this.n);
    this.onEnd(() => this.choices.forEach((choice) => places.leave(choice)));
    try {
      for (const [index, choice] of this.choices.entries()) {
        const clock = this.#clocks[index] as SequenceClock;
        places.enter(choice);
        const source = deps.client.generate(choice.request, (event, at) => {
          places.leave(choice);
          clock.came(event, at);
        });
        this.#sources.push(source);
      }
    } catch (error) {
      this.abort("error");
      throw error;
    }
  }

  /** Whether no delta will come any more. */
  get ended(): boolean {
    if (this.#givenUp !== undefined) return true;
    return this.#cutBy === undefined && this.choices.every(({ finished }) => finished);
  }

  /** Called once when nothing more is taken: everything was, or the rest was given up. At once if that has been. */
  onEnd(callback: () => void): void {
    if (this.#hasEnded) callback();
    else this.#onEnd.push(callback);
  }

  /** Whoever takes next gets this error, unless all has ended. */
  cut(error: KvEngineError): void {
    if (this.ended) return;
    this.#cutBy = error;
    for (const source of this.#sources) source.leave();
  }

  /** The place in the queue of the choice that is last in it; `undefined` = all have tokens. */
  get queuePlace(): number | undefined {
    const queued = this.#context.deps.client.stats().waiting;
    const places = this.choices.flatMap(
      (choice) => this.#context.places.placeOf(choice, queued) ?? [],
    );
    return places.length === 0 ? undefined : Math.max(...places);
  }

  /** `tell` is called when there is something to take, and after an abort; it replaces the one given before. */
  onNews(tell: () => void): void {
    for (const source of this.#sources) source.onEvents(tell);
  }

  /**
   * The next delta of those that have come, `undefined` = there is none now; choices take turns. Throws what the engine
   * reports, after the other sequences have been aborted.
   */
  take(): ChoiceDelta | undefined {
    if (this.#cutBy !== undefined) {
      this.abort("error");
      throw this.#cutBy;
    }
    const { length } = this.choices;
    for (let waiting = 0; waiting < length;) {
      const choice = this.choices[this.#turn] as Choice;
      const event = this.#sources[this.#turn]?.take();
      this.#turn = (this.#turn + 1) % length;
      waiting = event === undefined ? waiting + 1 : 0;
      const delta = event === undefined ? undefined : this.#deltaOf(choice, event);
      if (delta !== undefined) return delta;
    }
    return undefined;
  }

  /** Ends what still runs; deltas that were not taken are dropped. May be called at any time and more than once. */
  abort(reason: "abort" | "error" = "abort"): void {
    if (this.#givenUp !== undefined) return;
    this.#givenUp = reason;
    for (const [index, source] of this.#sources.entries()) {
      const choice = this.choices[index] as Choice;
      if (choice.finished) continue;
      choice.finished = true;
      this.#clocks[index]?.gaveUp(reason);
      source.leave();
    }
    this.#end();
  }

  /** A prompt counts once, however many choices it has. */
  usage(): Usage {
    const total = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
    const receipts: CacheReceipt[] = [];
    for (const { index, usage } of this.choices) {
      total.completionTokens += usage.completionTokens;
      if (index % this.n !== 0) continue;
      total.promptTokens += usage.promptTokens;
      total.cachedTokens += usage.cachedTokens;
      if (usage.cacheReceipt !== undefined) receipts.push(usage.cacheReceipt);
    }
    return receipts.length === 0 ? total : { ...total, cacheReceipt: sumOfReceipts(receipts) };
  }

  /** Where the time of the slowest choice went, part by part; `undefined` before one has finished. */
  get timing(): Timing | undefined {
    const timings = this.choices.flatMap(({ timing }) => timing ?? []);
    if (timings.length === 0) return undefined;
    const most = (part: keyof Timing): number => Math.max(...timings.map((one) => one[part]));
    return { queued: most("queued"), prefill: most("prefill"), decode: most("decode") };
  }

  /** How it ended, once it has. */
  get outcome(): "end" | "abort" | "error" {
    return this.#givenUp ?? "end";
  }

  /** When it came, when the engine had its first token, and when it ended the last choice, or when that was given up. As `epochMs`. */
  get times(): {
    readonly arrivedAt: number;
    readonly firstTokenAt: number | undefined;
    readonly endedAt: number;
  } {
    const firsts = this.#clocks.flatMap(({ firstAt }) => firstAt ?? []);
    const now = epochMs();
    return {
      arrivedAt: this.#arrivedAt,
      firstTokenAt: firsts.length === 0 ? undefined : Math.min(...firsts),
      // The clocks of two threads may differ by a little.
      endedAt: Math.max(this.#arrivedAt, ...this.#clocks.map(({ endedAt }) => endedAt ?? now)),
    };
  }

  /** Of the first choice; others differ in what makes them others. */
  get sampling(): SamplingParams {
    return (this.choices[0] as Choice).request.sampling;
  }

  /** What KV connectors have for the client: of the first choice. */
  get transferParams(): Readonly<Record<string, unknown>> | undefined {
    return this.choices[0]?.transferParams;
  }

  /** The first choice of the same prompt: what is said of the prompt is said there. */
  firstOf(choice: number): Choice {
    return this.choices[choice - (choice % this.n)] as Choice;
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    for (const callback of this.#onEnd) callback();
  }

  #deltaOf(choice: Choice, event: TokenEvent): ChoiceDelta | undefined {
    try {
      if (event.finish !== undefined) checkFinish(event.finish);
      const delta = choice.push(event);
      if (this.ended) this.#end();
      return delta;
    } catch (error) {
      this.abort("error");
      throw toKvEngineError(error);
    }
  }
}

/** Throws the error that a sequence ended with. */
function checkFinish({ reason, error }: Finish): void {
  if (reason === "error") {
    throw errorFromData(
      error ?? { code: "internal", message: "the engine gave up on this sequence" },
    );
  }
  if (reason === "abort")
    throw new KvEngineError("unavailable", "the request was aborted by the server");
}
