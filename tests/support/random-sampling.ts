/** Sampling parameters of requests to the tiny model. */

import * as fc from "fast-check";
import type { SamplingParams } from "../../engine/request.ts";
import { TINY } from "./tiny-model.ts";

type Sampling = Pick<
  SamplingParams,
  | "maxTokens"
  | "temperature"
  | "topK"
  | "seed"
  | "stopTokenIds"
  | "minTokens"
  | "repetitionPenalty"
  | "presencePenalty"
  | "frequencyPenalty"
  | "logitBias"
  | "badWords"
  | "topLogprobs"
>;

const anySampling: fc.Arbitrary<Sampling> = fc.record({
  maxTokens: fc.integer({ min: 1, max: 24 }),
  temperature: fc.constantFrom(0, 0.8),
  topK: fc.constantFrom(0, 12),
  seed: fc.nat(100).map((low) => [low, 5] as const),
  stopTokenIds: fc.uniqueArray(fc.nat(TINY.vocabSize - 1), { maxLength: 3 }),
  minTokens: fc.constantFrom(0, 0, 4),
  repetitionPenalty: fc.constantFrom(1, 1, 1.3),
  presencePenalty: fc.constantFrom(0, 0, 0.7),
  frequencyPenalty: fc.constantFrom(0, 0, -0.5),
  logitBias: fc.constantFrom([], [[40, 3] as const, [41, -100] as const]),
  badWords: fc.constantFrom([], [[60], [61, 62]]),
  topLogprobs: fc.constantFrom(-1, 0, 3),
});

/** Of whose rows the largest logit is enough: no logits are written. */
const greedySampling: fc.Arbitrary<Sampling> = anySampling.map((one) => ({
  ...one,
  temperature: 0,
  minTokens: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  badWords: [],
  topLogprobs: -1,
}));

/** Every fourth is greedy and asks for nothing more. */
export const randomSampling: fc.Arbitrary<Sampling> = fc.oneof(
  { weight: 3, arbitrary: anySampling },
  { weight: 1, arbitrary: greedySampling },
);
