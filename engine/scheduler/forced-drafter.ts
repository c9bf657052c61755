/**
 * Drafts of what a grammar leaves no choice of: keys, brackets, the rest of a word. They are verified as all drafts are, so the tokens are
 * those that one masked step after the other would have picked.
 */

import type { Drafter } from "./drafter.ts";

/** Fewest forced tokens that are worth a step in which the sequence has no row, as it waits for the token before them. */
const LEAST_RUN = 3;
const NONE: Int32Array = new Int32Array(0);

export class ForcedDrafter implements Drafter {
  readonly isGuess: boolean = false;
  readonly #most: number;
  #forced: Int32Array = NONE;

  /** `most`: tokens of a draft. */
  constructor(most: number) {
    this.#most = most;
  }

  append(): void {}

  force(tokens: Int32Array): void {
    this.#forced = tokens;
  }

  propose(limit: number): Int32Array {
    return this.#forced.subarray(0, Math.max(0, Math.min(limit, this.#most)));
  }

  mayPropose(): boolean {
    return this.#forced.length > LEAST_RUN;
  }

  verified(): void {}
}
