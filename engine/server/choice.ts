/** One sequence on its way to a client: token events in, text out. */

import type {
  CacheReceipt,
  GenerateRequest,
  PromptLogprobs,
  Timing,
  TokenEvent,
  TopLogprobs,
  Usage,
} from "../request.ts";
import { Detokenizer, type TokenBytes } from "../tokenizer/detokenizer.ts";
import { StopMatcher } from "../tokenizer/stop-matcher.ts";

/** A piece of a choice's answer. The last one has `finish`. */
export interface ChoiceDelta {
  readonly index: number;
  readonly text: string;
  /** Tokens since the delta before, whether they are kept or not. */
  readonly numTokens: number;
  /** The tokens behind `text`, and those before it that made no text yet; empty unless they were asked for. */
  readonly tokens: ChoiceTokens;
  readonly finish?: ChoiceFinish;
}

export interface ChoiceTokens {
  readonly tokenIds: number[];
  /** One for each of `tokenIds`. */
  readonly logprobs: number[];
  readonly tops: TopLogprobs[];
}

export function noTokens(): ChoiceTokens {
  return { tokenIds: [], logprobs: [], tops: [] };
}

export interface ChoiceFinish {
  readonly reason: "stop" | "length";
  /** The stop string, or the stop token id that the client named; `null` for EOS and for `length`. */
  readonly stopReason: string | number | null;
}

export class Choice {
  readonly index: number;
  readonly request: GenerateRequest;
  finished = false;
  /** Known with the first delta, where the request asked for it. */
  promptLogprobs: PromptLogprobs | undefined;
  /** What KV connectors have for the client, once it has finished. */
  transferParams: Readonly<Record<string, unknown>> | undefined;
  /** Once it has finished. */
  timing: Timing | undefined;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher | undefined;
  readonly #endIds: readonly number[];
  readonly #keepTokens: boolean;
  #numTokens = 0;
  /** Those that deltas were told of. */
  #toldTokens = 0;
  #cachedTokens = 0;
  #cacheReceipt: CacheReceipt | undefined;
  #usage: Usage | undefined;
  #stopped = false;
  #held = noTokens();

  /**
   * @param endIds the vocabulary's end tokens, which are no stop reason unless the client named them.
   * @param keepTokens whether deltas carry tokens and log-probabilities.
   */
  constructor(
    index: number,
    request: GenerateRequest,
    tokens: TokenBytes,
    endIds: readonly number[],
    keepTokens: boolean,
  ) {
    this.index = index;
    this.request = request;
    this.#detokenizer = new Detokenizer(tokens);
    this.#stops =
      request.sampling.stop.length === 0 ? undefined : new StopMatcher(request.sampling.stop);
    this.#endIds = endIds;
    this.#keepTokens = keepTokens;
  }

  /** So far, until the engine has said it. */
  get usage(): Usage {
    return (
      this.#usage ?? {
        promptTokens: this.request.promptTokenIds.length,
        completionTokens: this.#numTokens,
        cachedTokens: this.#cachedTokens,
        ...(this.#cacheReceipt === undefined ? {} : { cacheReceipt: this.#cacheReceipt }),
      }
    );
  }

  /** The next piece of the answer, or nothing while the tokens so far make no whole character or may begin a stop string. */
  push(event: TokenEvent): ChoiceDelta | undefined {
    const { tokenIds, finish } = event;
    this.#numTokens += tokenIds.length;
    this.#usage = finish?.usage;
    this.#cachedTokens = event.cachedTokens ?? this.#cachedTokens;
    this.#cacheReceipt ??= event.cacheReceipt;
    this.promptLogprobs ??= event.promptLogprobs;
    this.transferParams = finish?.transferParams;
    if (this.#keepTokens) {
      this.#held.tokenIds.push(...tokenIds);
      this.#held.logprobs.push(...event.logprobs);
      this.#held.tops.push(...(event.tops ?? []));
    }
    const text = this.#text(tokenIds, finish !== undefined);
    if (finish === undefined && text === "") return undefined;
    const { index } = this;
    const tokens = this.#held;
    if (this.#keepTokens) this.#held = noTokens();
    const numTokens = this.#numTokens - this.#toldTokens;
    this.#toldTokens = this.#numTokens;
    if (finish === undefined) return { index, text, numTokens, tokens };
    this.finished = true;
    this.timing = finish.timing;
    const reason = finish.reason === "length" ? "length" : "stop";
    const stopReason = this.#stopReason(finish.stopReason);
    return { index, text, numTokens, tokens, finish: { reason, stopReason } };
  }

  #text(ids: readonly number[], last: boolean): string {
    if (this.#stopped) return "";
    if (this.#stops === undefined)
      return this.#detokenizer.push(ids) + (last ? this.#detokenizer.flush() : "");
    // The first `minTokens` tokens can neither hold nor begin a stop string: the engine decides the same way.
    const numBefore = this.#numTokens - ids.length;
    const numFree = Math.max(0, this.request.sampling.minTokens - numBefore);
    const free = numFree === 0 ? "" : this.#detokenizer.push(ids.slice(0, numFree));
    let text = this.#detokenizer.push(numFree === 0 ? ids : ids.slice(numFree));
    if (last) text += this.#detokenizer.flush();
    const { text: safe, matched } = this.#stops.push(text);
    this.#stopped = matched !== undefined;
    return free + (last && !this.#stopped ? safe + this.#stops.flush() : safe);
  }

  #stopReason(given: string | number | undefined): string | number | null {
    if (given === undefined) return null;
    return typeof given === "number" && this.#endIds.includes(given) ? null : given;
  }
}
