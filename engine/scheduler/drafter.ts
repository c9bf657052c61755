/** Guesses of the tokens that follow a sequence's last one. A step verifies them. */

export interface Drafter {
  /** Whether verified guesses are counted as speculation. */
  readonly isGuess: boolean;
  /** Takes the committed tokens at positions `from..to` of `tokens`; `from` is where the last call ended. */
  append(tokens: Int32Array, from: number, to: number): void;
  /** Tokens that the sequence's grammar leaves no choice of, behind the last committed one. */
  force(tokens: Int32Array): void;
  /** Up to `limit` tokens that may follow the last one. Valid until the next call. */
  propose(limit: number): Int32Array;
  /** Whether drafts could follow the next token, whatever that is: it is worth waiting for. */
  mayPropose(): boolean;
  /** Of `drafted` tokens the first `accepted` were right. */
  verified(drafted: number, accepted: number): void;
}
