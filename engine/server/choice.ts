/** One sequence on its way to a client: token events in, text out. */

import type { GenerateRequest, TokenEvent, Usage } from "../request.ts";
import { Detokenizer } from "../tokenizer/detokenizer.ts";
import { StopMatcher } from "../tokenizer/stop-matcher.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** A piece of a choice's answer. The last one has `finish`. */
export interface ChoiceDelta {
  readonly index: number;
  readonly text: string;
  /** The tokens behind `text`, and those before it that made no text yet; empty unless log-probabilities were asked for. */
  readonly tokenIds: readonly number[];
  /** One for each of `tokenIds`. */
  readonly logprobs: readonly number[];
  readonly finish?: ChoiceFinish;
}

export interface ChoiceFinish {
  readonly reason: "stop" | "length";
  /** The stop string, or the stop token id that the client named; `null` for EOS and for `length`. */
  readonly stopReason: string | number | null;
}

export class Choice {
  readonly index: number;
  readonly request: GenerateRequest;
  usage: Usage;
  finished = false;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher | undefined;
  readonly #endIds: readonly number[];
  readonly #keepTokens: boolean;
  #stopped = false;
  #heldIds: number[] = [];
  #heldLogprobs: number[] = [];

  /**
   * @param endIds the vocabulary's end tokens, which are no stop reason unless the client named them.
   * @param keepTokens whether deltas carry tokens and log-probabilities.
   */
  constructor(
    index: number,
    request: GenerateRequest,
    tokenizer: Tokenizer,
    endIds: readonly number[],
    keepTokens: boolean,
  ) {
    this.index = index;
    this.request = request;
    this.usage = {
      promptTokens: request.promptTokenIds.length,
      completionTokens: 0,
      cachedTokens: 0,
    };
    this.#detokenizer = new Detokenizer(tokenizer);
    this.#stops =
      request.sampling.stop.length === 0 ? undefined : new StopMatcher(request.sampling.stop);
    this.#endIds = endIds;
    this.#keepTokens = keepTokens;
  }

  /** The next piece of the answer, or nothing while the tokens so far make no whole character or may begin a stop string. */
  push(event: TokenEvent): ChoiceDelta | undefined {
    const { finish } = event;
    this.usage = finish?.usage ?? {
      ...this.usage,
      completionTokens: this.usage.completionTokens + event.tokenIds.length,
    };
    if (this.#keepTokens) {
      this.#heldIds.push(...event.tokenIds);
      this.#heldLogprobs.push(...event.logprobs);
    }
    const text = this.#text(event.tokenIds, finish !== undefined);
    if (finish === undefined && text === "") return undefined;
    const [tokenIds, logprobs] = [this.#heldIds, this.#heldLogprobs];
    this.#heldIds = [];
    this.#heldLogprobs = [];
    const delta = { index: this.index, text, tokenIds, logprobs };
    if (finish === undefined) return delta;
    this.finished = true;
    const reason = finish.reason === "length" ? "length" : "stop";
    return { ...delta, finish: { reason, stopReason: this.#stopReason(finish.stopReason) } };
  }

  #text(ids: readonly number[], last: boolean): string {
    if (this.#stopped) return "";
    let text = this.#detokenizer.push(ids);
    if (last) text += this.#detokenizer.flush();
    if (this.#stops === undefined) return text;
    const { text: safe, matched } = this.#stops.push(text);
    this.#stopped = matched !== undefined;
    return last && !this.#stopped ? safe + this.#stops.flush() : safe;
  }

  #stopReason(given: string | number | undefined): string | number | null {
    if (given === undefined) return null;
    return typeof given === "number" && this.#endIds.includes(given) ? null : given;
  }
}
