import { describe, expect, test } from "bun:test";
import { DEFAULT_SAMPLING, type SamplingParams } from "../../../engine/request.ts";
import {
  maxSamplesOf,
  type Seated,
  seatHistory,
  seatParams,
} from "../../../engine/runner/native-runner.ts";
import { ENGINE_CONFIG } from "../../support/engine-config.ts";

/** Three prompt tokens and two of output, in an array that has room for more. */
function seated(sampling: Partial<SamplingParams> = {}): Seated {
  return {
    sampling: { ...DEFAULT_SAMPLING, ...sampling },
    tokenIds: Int32Array.of(1, 2, 3, 4, 5, 0, 0),
    numTokens: 5,
    numPromptTokens: 3,
    numOutputTokens: 2,
  };
}

describe("a seat", () => {
  test("gets everything that its request says, and goes on at the next output token", () => {
    const sampling: SamplingParams = {
      temperature: 0.5,
      topK: 7,
      topP: 0.9,
      minP: 0.1,
      seed: [11, 12],
      choice: 3,
      maxTokens: 9,
      stop: ["x"],
      stopTokenIds: [21, 22],
      minTokens: 4,
      repetitionPenalty: 1.5,
      presencePenalty: -1,
      frequencyPenalty: 2,
      logitBias: [
        [31, -100],
        [32, 0.5],
      ],
      allowedTokenIds: [31, 32],
      badWords: [[41], [42, 43]],
      topLogprobs: 5,
      promptLogprobs: 6,
    };
    expect(seatParams(seated(sampling))).toEqual({
      temperature: 0.5,
      topK: 7,
      topP: 0.9,
      minP: 0.1,
      seedLow: 11,
      seedHigh: 12,
      choice: 3,
      outputIndex: 2,
      stopIds: [21, 22],
      maxTokens: 9,
      minTokens: 4,
      repetitionPenalty: 1.5,
      presencePenalty: -1,
      frequencyPenalty: 2,
      logitBiasIds: [31, 32],
      logitBiases: [-100, 0.5],
      allowedIds: [31, 32],
      badWords: [[41], [42, 43]],
      topLogprobs: 5,
      promptLogprobs: 6,
      promptLength: 3,
    });
  });

  test("gets the tokens so far only where it looks back", () => {
    expect(seatHistory(seated())).toHaveLength(0);
    expect(seatHistory(seated({ logitBias: [[1, 1]], minTokens: 1 }))).toHaveLength(0);
    for (const sampling of [
      { repetitionPenalty: 1.1 },
      { presencePenalty: -0.1 },
      { frequencyPenalty: 0.1 },
      { badWords: [[1]] },
    ]) {
      expect(Array.from(seatHistory(seated(sampling)))).toEqual([1, 2, 3, 4, 5]);
    }
  });
});

describe("samples of a step", () => {
  const config = { ...ENGINE_CONFIG, modelPath: "", maxNumSeqs: 4, maxNumBatchedTokens: 512 };

  test("one for each sequence, room for prompts, and room for drafts where there are any", () => {
    expect(maxSamplesOf(config)).toBe(4 + 32);
    const drafting = { ...config, speculative: "ngram", speculativeTokens: 5 } as const;
    expect(maxSamplesOf(drafting)).toBe(4 + 32 + 4 * 5);
    expect(maxSamplesOf({ ...drafting, maxNumSeqs: 100 })).toBe(100 + 32 + 8 * 5);
  });

  test("no more than tokens", () => {
    expect(maxSamplesOf({ ...config, maxNumBatchedTokens: 7 })).toBe(7);
  });
});
