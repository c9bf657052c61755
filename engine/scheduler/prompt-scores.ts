/** Log-probabilities of one prompt's tokens, gathered chunk by chunk. */

import type { PromptLogprobs, TopLogprobs } from "../request.ts";

export class PromptScores {
  readonly #numPromptTokens: number;
  readonly #logprobs: number[] = [];
  readonly #tops: TopLogprobs[] = [];
  #taken = false;

  constructor(numPromptTokens: number) {
    this.#numPromptTokens = numPromptTokens;
  }

  /** Whether the token at `position + 1` is still to be scored by the row that computes `position`. */
  wants(position: number): boolean {
    return position >= this.#logprobs.length && position + 1 < this.#numPromptTokens;
  }

  /** Whether every token has its score. */
  get complete(): boolean {
    return this.#logprobs.length >= this.#numPromptTokens - 1;
  }

  add(logprob: number, top: TopLogprobs): void {
    this.#logprobs.push(logprob);
    this.#tops.push(top);
  }

  /** All scores, once: undefined while some are missing and after they were taken. */
  take(): PromptLogprobs | undefined {
    if (this.#taken || !this.complete) return undefined;
    this.#taken = true;
    return { logprobs: this.#logprobs, tops: this.#tops };
  }
}
