/** Tokens left in the step that is being scheduled. Decodes are served first, a prefill chunk gets the rest. */

export class StepBudget {
  readonly #maxTokens: number;
  readonly #maxPrefillTokens: number;
  #tokens = 0;
  #prefillTokens = 0;

  /** `maxPrefillTokens`: most prompt tokens of one step, the chunk size; never more than `maxTokens` counts. */
  constructor(maxTokens: number, maxPrefillTokens: number) {
    this.#maxTokens = maxTokens;
    this.#maxPrefillTokens = maxPrefillTokens;
  }

  /** Begins a step. */
  reset(): void {
    this.#tokens = this.#maxTokens;
    this.#prefillTokens = this.#maxPrefillTokens;
  }

  /** Takes one token for a decode; false when none is left. */
  takeDecode(): boolean {
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }

  /** Prompt tokens that still fit. */
  get prefillLeft(): number {
    return Math.min(this.#tokens, this.#prefillTokens);
  }

  /** Takes up to `wanted` prompt tokens; answers how many. */
  takePrefill(wanted: number): number {
    const taken = Math.min(wanted, this.prefillLeft);
    this.#tokens -= taken;
    this.#prefillTokens -= taken;
    return taken;
  }
}
