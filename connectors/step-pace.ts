/** How long steps take and how many tokens they have: moving averages. */

/** Weight of a new step. */
const STEP_WEIGHT = 0.1;

export class StepPace {
  /** When the last step was scheduled; NaN = the engine has rested since. */
  #lastAt = Number.NaN;
  /** Milliseconds from one step to the next; 0 = not known yet. */
  ms = 0;
  tokens = 0;

  rested(): void {
    this.#lastAt = Number.NaN;
  }

  /** A step of so many tokens is scheduled at `now`, in milliseconds. */
  observe(numTokens: number, now: number): void {
    if (!Number.isNaN(this.#lastAt)) this.ms += STEP_WEIGHT * (now - this.#lastAt - this.ms);
    this.tokens += STEP_WEIGHT * (numTokens - this.tokens);
    this.#lastAt = now;
  }
}
