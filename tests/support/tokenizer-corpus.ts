/** Awkward texts and what llama.cpp makes of them with the default model's vocabulary. */

import corpus from "../unit/tokenizer/vectors/smollm2-ids.json" with { type: "json" };

export interface RecordedIds {
  readonly text: string;
  /** Ids with control tokens found in the text. */
  readonly special: readonly number[];
  /** Ids with control tokens as plain text. */
  readonly plain: readonly number[];
}

export const TOKENIZER_CORPUS: readonly RecordedIds[] = corpus;
