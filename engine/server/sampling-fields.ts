/** The body fields that say how tokens are picked and what is reported of them; the same in chats and completions. */

import { z } from "zod";
import { NO_LOGPROBS } from "../request.ts";
import { MAX_LOGPROBS } from "../request-limits.ts";
import type { JsonBody } from "./body.ts";
import {
  type Field,
  flag,
  given,
  integerIn,
  MAX_UINT32,
  numberIn,
  says,
  tokenIdList,
  wrong,
} from "./field-checks.ts";
import { integerText } from "./json.ts";

/** Checked, with their defaults. Token ids may still be outside the vocabulary. */
export interface SamplingFields {
  readonly maxTokens: number | undefined;
  /** The field that `maxTokens` came from, for errors. */
  readonly maxTokensField: "max_tokens" | "max_completion_tokens" | "max_output_tokens";
  readonly minTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: readonly (readonly [tokenId: number, bias: number])[];
  /** Empty = all. */
  readonly allowedTokenIds: readonly number[];
  readonly badWords: readonly string[];
  /** Two unsigned halves, low first. */
  readonly seed: readonly [low: number, high: number] | undefined;
  readonly stop: readonly string[];
  readonly stopTokenIds: readonly number[];
  readonly ignoreEos: boolean;
  /** As `SamplingParams` has them. */
  readonly topLogprobs: number;
  readonly promptLogprobs: number;
}

/** Most stop strings. */
const MAX_STOPS = 16;
/** Most stop token ids. */
const MAX_STOP_TOKEN_IDS = 256;
/** Most token ids that may be allowed or biased: beyond any vocabulary. */
const MAX_TOKEN_IDS = 1_048_576;
/** Most words that may be forbidden. */
const MAX_BAD_WORDS = 1024;
const MOST_BIAS = 100;

const STOP = `a non-empty string or up to ${MAX_STOPS} of them`;
const stopText = z.string(says(STOP)).min(1, says("a non-empty string"));
const BAD_WORD = "a string that is not blank";
const BAD_WORDS = `up to ${MAX_BAD_WORDS} strings`;
const BIAS = `a number from -${MOST_BIAS} to ${MOST_BIAS}`;
const PENALTY = "a number from -2 to 2";
export const LOGPROBS: string = `an integer from 0 to ${MAX_LOGPROBS}`;

export const maxTokensField: z.ZodType<number | null | undefined> = integerIn(
  1,
  MAX_UINT32,
  "an integer of at least 1",
);

export interface SamplingShape {
  readonly max_tokens: Field<number>;
  readonly min_tokens: Field<number>;
  readonly temperature: Field<number>;
  readonly top_p: Field<number>;
  readonly top_k: Field<number>;
  readonly min_p: Field<number>;
  readonly repetition_penalty: Field<number>;
  readonly presence_penalty: Field<number>;
  readonly frequency_penalty: Field<number>;
  readonly logit_bias: Field<Record<string, unknown>>;
  readonly allowed_token_ids: Field<number[]>;
  readonly bad_words: Field<string[]>;
  readonly seed: Field<number>;
  readonly stop: Field<string | string[]>;
  readonly stop_token_ids: Field<number[]>;
  readonly ignore_eos: Field<boolean>;
  readonly prompt_logprobs: Field<number>;
}

export const SAMPLING_SHAPE: SamplingShape = {
  max_tokens: maxTokensField,
  min_tokens: integerIn(0, MAX_UINT32, "an integer from 0 to max_tokens"),
  temperature: numberIn(0, 2, "a number from 0 to 2"),
  top_p: numberIn(0, 1, "a number from 0 to 1"),
  top_k: integerIn(-1, MAX_UINT32, "an integer of at least 1, or 0 or -1 for all tokens"),
  min_p: numberIn(0, 1, "a number from 0 to 1"),
  repetition_penalty: z.number(says("a number above 0")).gt(0, says("a number above 0")).nullish(),
  presence_penalty: numberIn(-2, 2, PENALTY),
  frequency_penalty: numberIn(-2, 2, PENALTY),
  logit_bias: z
    .record(z.string(), z.unknown(), says(`an object of token ids, each with ${BIAS}`))
    .nullish(),
  allowed_token_ids: tokenIdList(1, MAX_TOKEN_IDS),
  bad_words: z
    .array(z.string(says(BAD_WORD)).regex(/\S/, says(BAD_WORD)), says("an array of strings"))
    .max(MAX_BAD_WORDS, says(BAD_WORDS))
    .nullish(),
  seed: z.number(says("an integer of up to 64 bits")).nullish(),
  stop: z.union([stopText, z.array(stopText).max(MAX_STOPS, says(STOP))], says(STOP)).nullish(),
  stop_token_ids: tokenIdList(0, MAX_STOP_TOKEN_IDS),
  ignore_eos: flag,
  prompt_logprobs: integerIn(0, MAX_LOGPROBS, LOGPROBS),
};

/** What the shape makes of a body. */
type Checked = { readonly [N in keyof SamplingShape]?: z.infer<SamplingShape[N]> };

/** What checks of single fields leave open. Throws `invalid_request`. */
export function readSamplingFields(fields: Checked, body: JsonBody): SamplingFields {
  const topP = fields.top_p ?? 1;
  const stop = fields.stop ?? [];
  return {
    maxTokens: fields.max_tokens ?? undefined,
    maxTokensField: "max_tokens",
    minTokens: fields.min_tokens ?? 0,
    temperature: fields.temperature ?? 1,
    // The smallest set with a probability of at least 0 that still holds a token is the most probable token.
    topP: topP === 0 ? 1 : topP,
    topK: topP === 0 ? 1 : Math.max(0, fields.top_k ?? 0),
    minP: fields.min_p ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? 1,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    logitBias: readLogitBias(fields.logit_bias ?? {}),
    allowedTokenIds: [...new Set(fields.allowed_token_ids ?? [])],
    badWords: [...new Set(fields.bad_words ?? [])],
    seed: given(fields.seed) ? readSeed(fields.seed, body.text) : undefined,
    stop: typeof stop === "string" ? [stop] : [...new Set(stop)],
    stopTokenIds: [...new Set(fields.stop_token_ids ?? [])],
    ignoreEos: fields.ignore_eos ?? false,
    topLogprobs: NO_LOGPROBS,
    promptLogprobs: fields.prompt_logprobs ?? NO_LOGPROBS,
  };
}

function readLogitBias(
  biases: Readonly<Record<string, unknown>>,
): (readonly [tokenId: number, bias: number])[] {
  return Object.entries(biases).map(([key, bias]) => {
    const shown = key.slice(0, 32);
    if (!/^(0|[1-9]\d{0,9})$/.test(key) || Number(key) > MAX_UINT32)
      throw wrong(`logit_bias.${shown}`, bias, "a token id as the name");
    if (typeof bias !== "number" || !(Math.abs(bias) <= MOST_BIAS))
      throw wrong(`logit_bias.${shown}`, bias, BIAS);
    return [Number(key), bias];
  });
}

/** Signed and unsigned 64-bit integers; a negative one counts as its two's complement. */
function readSeed(seed: number, text: string): readonly [number, number] {
  const written = Number.isSafeInteger(seed) ? String(seed) : integerText(text, "seed");
  const value = written === undefined ? undefined : BigInt(written);
  if (value === undefined || value < -(2n ** 63n) || value >= 2n ** 64n) {
    throw wrong("seed", written === undefined ? seed : value, "an integer of up to 64 bits");
  }
  const bits = BigInt.asUintN(64, value);
  return [Number(bits & 0xffff_ffffn), Number(bits >> 32n)];
}
