/**
 * Drafts for one sequence, looked up in its own tokens: what followed the last tokens when they stood here before. A draft is
 * a guess that a step verifies; a wrong one costs time only. So it watches what its guesses are worth: where they are wrong it
 * drafts less, then stays silent for a while.
 */

import type { Drafter } from "./drafter.ts";
import { NgramIndex } from "./ngram-index.ts";

export interface NgramDrafterOptions {
  /** Most tokens of a draft, 1 and more. */
  readonly maxDraft: number;
  /** Fewest and most last tokens that are looked up, 1 and more. */
  readonly minNgram: number;
  readonly maxNgram: number;
}

export interface DraftStats {
  /** Drafts that a step has verified, their tokens, and those that were right. */
  readonly drafts: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
  /** Times it fell silent. */
  readonly silences: number;
}

const FIRST_DRAFT = 4;
/** Share of drafted tokens that must be right: below, a row with drafts costs more than the steps it saves. */
const LEAST_VALUE = 0.3;
/** What is assumed at first, and when a silence ends: a few failures, then one, are enough to fall silent (again). */
const FIRST_VALUE = 0.6;
const NEXT_VALUE = 0.38;
/** From here on a silence counts as overcome: the next one is short again. */
const GOOD_VALUE = 0.5;
/** Weight of a verified draft in the average. */
const DRAFT_WEIGHT = 0.25;
/** Weight of a look-up that found nothing: it cost no computation, but a step had to wait for the token before it. */
const MISS_WEIGHT = 0.05;
/** Tokens of the first silence and of the longest; each is twice the one before. */
const FIRST_SILENCE = 16;
const LONGEST_SILENCE = 256;

export class NgramDrafter implements Drafter {
  readonly isGuess: boolean = true;
  readonly #minNgram: number;
  readonly #maxDraft: number;
  /** One for each length, the longest first. */
  readonly #indexes: NgramIndex[] = [];
  /** Of the n-grams one shorter than the shortest: what of that is known while its last token is not. None for length 0. */
  readonly #beginnings: NgramIndex | undefined;
  readonly #draft: Int32Array;
  #tokens: Int32Array = new Int32Array(0);
  #numTokens = 0;
  /** Length of the next draft. */
  #length: number;
  /** Exponential average of the share of drafted tokens that were right. */
  #value = FIRST_VALUE;
  #silence = FIRST_SILENCE;
  #silentUntil = 0;
  /** Number of tokens at the last look-up that found nothing; asking again says nothing new. */
  #missedAt = 0;
  #drafts = 0;
  #draftTokens = 0;
  #acceptedTokens = 0;
  #silences = 0;

  constructor({ maxDraft, minNgram, maxNgram }: NgramDrafterOptions) {
    this.#minNgram = minNgram;
    this.#maxDraft = maxDraft;
    this.#draft = new Int32Array(maxDraft);
    this.#length = Math.min(FIRST_DRAFT, maxDraft);
    for (let n = maxNgram; n >= minNgram; n--) this.#indexes.push(new NgramIndex(n));
    this.#beginnings = minNgram > 1 ? new NgramIndex(minNgram - 1) : undefined;
  }

  get stats(): DraftStats {
    return {
      drafts: this.#drafts,
      draftTokens: this.#draftTokens,
      acceptedTokens: this.#acceptedTokens,
      silences: this.#silences,
    };
  }

  /** Bytes of the indexes. */
  get numBytes(): number {
    const bytes = this.#indexes.reduce((sum, index) => sum + index.numBytes, 0);
    return bytes + (this.#beginnings?.numBytes ?? 0);
  }

  /**
   * Takes the committed tokens at positions `from..to`; `from` is where the last call ended. `tokens` holds the whole sequence
   * up to `to` and is kept, not copied: these tokens may not change.
   */
  append(tokens: Int32Array, from: number, to: number): void {
    this.#tokens = tokens;
    // An n-gram is added when the token behind it is known: the one at the end is never found as its own earlier occurrence.
    for (let end = Math.max(from, 1); end < to; end++) this.#addEndingAt(end);
    this.#numTokens = to;
  }

  /** Text that a grammar forces has often stood there before. */
  force(): void {}

  /**
   * Up to `limit` tokens that may follow the last one: those that followed the most recent earlier occurrence of the longest
   * known n-gram at the end. Where that occurrence reaches the end itself, they go on in the draft. Empty when there is none,
   * or while silent. Valid until the next call.
   */
  propose(limit: number): Int32Array {
    const end = this.#numTokens;
    const wanted = Math.min(limit, this.#length);
    if (wanted <= 0 || end < this.#silentUntil) return this.#draft.subarray(0, 0);
    const from = this.#longestMatch();
    if (from === 0) {
      if (this.#missedAt !== end) this.#judge(0, MISS_WEIGHT);
      this.#missedAt = end;
      return this.#draft.subarray(0, 0);
    }
    const draft = this.#draft;
    const known = Math.min(wanted, end - from);
    for (let i = 0; i < known; i++) draft[i] = this.#tokens[from + i] as number;
    for (let i = known; i < wanted; i++) draft[i] = draft[i - known] as number;
    return draft.subarray(0, wanted);
  }

  /**
   * Whether a draft could follow the next token, whatever that is: the known part of the shortest n-gram that will end in it
   * has occurred. False while silent.
   */
  mayPropose(): boolean {
    const end = this.#numTokens;
    if (end < this.#silentUntil || end < this.#minNgram) return false;
    return this.#beginnings === undefined || this.#beginnings.find(this.#tokens, end) > 0;
  }

  /** Tells what became of a draft: of `drafted` tokens the first `accepted` were right. */
  verified(drafted: number, accepted: number): void {
    if (drafted === 0) return;
    this.#drafts++;
    this.#draftTokens += drafted;
    this.#acceptedTokens += accepted;
    if (accepted < drafted) this.#length = Math.max(1, (this.#length + accepted + 1) >> 1);
    else if (drafted >= this.#length) this.#length = Math.min(this.#maxDraft, 2 * this.#length);
    this.#judge(accepted / drafted, DRAFT_WEIGHT);
  }

  #addEndingAt(end: number): void {
    let n = this.#minNgram + this.#indexes.length - 1;
    for (const index of this.#indexes) if (n-- <= end) index.add(this.#tokens, end);
    if (n <= end) this.#beginnings?.add(this.#tokens, end);
  }

  /** Position behind the most recent earlier occurrence of the longest known n-gram at the end; 0 = none. */
  #longestMatch(): number {
    let n = this.#minNgram + this.#indexes.length - 1;
    for (const index of this.#indexes) {
      const from = n-- <= this.#numTokens ? index.find(this.#tokens, this.#numTokens) : 0;
      if (from > 0) return from;
    }
    return 0;
  }

  #judge(value: number, weight: number): void {
    this.#value += weight * (value - this.#value);
    if (this.#value >= GOOD_VALUE) this.#silence = FIRST_SILENCE;
    if (this.#value >= LEAST_VALUE) return;
    this.#silences++;
    this.#silentUntil = this.#numTokens + this.#silence;
    this.#silence = Math.min(LONGEST_SILENCE, 2 * this.#silence);
    this.#value = NEXT_VALUE;
  }
}
