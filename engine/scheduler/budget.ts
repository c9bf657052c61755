/** What is left in the step that is being scheduled. Decodes are served first, then drafts, then prompts get the rest. */

export class StepBudget {
  readonly #maxTokens: number;
  readonly #maxSamples: number;
  #tokens = 0;
  #samples = 0;
  #prefillTokens = 0;

  constructor(maxTokens: number, maxSamples: number) {
    this.#maxTokens = maxTokens;
    this.#maxSamples = maxSamples;
  }

  /** Begins a step. */
  reset(): void {
    this.#tokens = this.#maxTokens;
    this.#samples = this.#maxSamples;
    this.#prefillTokens = 0;
  }

  get tokensLeft(): number {
    return this.#tokens;
  }

  get samplesLeft(): number {
    return this.#samples;
  }

  /** Prompt tokens that still fit. */
  get prefillLeft(): number {
    return Math.min(this.#tokens, this.#prefillTokens);
  }

  /** Sets how many prompt tokens the step may have. */
  allowPrefill(tokens: number): void {
    this.#prefillTokens = tokens;
  }

  /** Room for a row of `tokens` with `samples` of them sampled? */
  fits(tokens: number, samples: number): boolean {
    return tokens <= this.#tokens && samples <= this.#samples;
  }

  /** The caller has asked whether it fits. */
  take(tokens: number, samples: number): void {
    this.#tokens -= tokens;
    this.#samples -= samples;
  }

  takePrefill(tokens: number, samples: number): void {
    this.take(tokens, samples);
    this.#prefillTokens -= tokens;
  }
}
