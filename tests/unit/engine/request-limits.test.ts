import { describe, expect, test } from "bun:test";
import type { GroupSpec } from "../../../engine/cache/block-group.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import {
  DEFAULT_SAMPLING,
  type GenerateRequest,
  type SamplingParams,
} from "../../../engine/request.ts";
import {
  blocksNeeded,
  checkRequest,
  longestSequence,
  type RequestLimits,
} from "../../../engine/request-limits.ts";

const FULL: GroupSpec = { kind: "full", window: 0 };
const WINDOW: GroupSpec = { kind: "window", window: 8 };
const LIMITS: RequestLimits = {
  maxModelLen: 200,
  vocabSize: 50,
  blockSize: 4,
  groups: [FULL],
  maxInFlightTokens: 8,
  numBlocks: 20,
};

function refusal(
  sampling: Partial<SamplingParams>,
  request: Partial<GenerateRequest> = {},
  limits: RequestLimits = LIMITS,
): string | undefined {
  try {
    checkRequest(
      {
        id: "r",
        promptTokenIds: Int32Array.of(1, 2, 3),
        arrivalTime: 0,
        priority: 0,
        sampling: { ...DEFAULT_SAMPLING, maxTokens: 4, ...sampling },
        ...request,
      },
      limits,
    );
    return undefined;
  } catch (thrown) {
    const { code, subject, message } = thrown as KvEngineError;
    expect(thrown).toBeInstanceOf(KvEngineError);
    expect(message).toContain("allowed is");
    return `${code} ${subject}`;
  }
}

describe("sampling that is refused", () => {
  const ranges: readonly (readonly [
    subject: string,
    inside: readonly Partial<SamplingParams>[],
    outside: readonly Partial<SamplingParams>[],
  ])[] = [
    ["temperature", [{ temperature: 0 }], [{ temperature: -1 }, { temperature: Number.NaN }]],
    ["top_p", [{ topP: 1 }], [{ topP: 0 }, { topP: 1.01 }]],
    ["min_tokens", [{ minTokens: 0 }, { minTokens: 4 }], [{ minTokens: 5 }, { minTokens: -1 }]],
    [
      "repetition_penalty",
      [{ repetitionPenalty: 0.01 }, { repetitionPenalty: 100 }],
      [{ repetitionPenalty: 0 }, { repetitionPenalty: 1e-300 }, { repetitionPenalty: Infinity }],
    ],
    [
      "presence_penalty",
      [{ presencePenalty: -2 }, { presencePenalty: 2 }],
      [{ presencePenalty: -2.1 }, { presencePenalty: 2.1 }, { presencePenalty: Number.NaN }],
    ],
    [
      "frequency_penalty",
      [{ frequencyPenalty: -2 }, { frequencyPenalty: 2 }],
      [{ frequencyPenalty: -2.1 }, { frequencyPenalty: 2.1 }],
    ],
    [
      "logit_bias",
      [{ logitBias: [[0, -100]] }, { logitBias: [[49, 100]] }],
      [{ logitBias: [[50, 1]] }, { logitBias: [[-1, 1]] }, { logitBias: [[1, 101]] }],
    ],
    [
      "allowed_token_ids",
      [{ allowedTokenIds: [] }, { allowedTokenIds: [0, 49] }],
      [{ allowedTokenIds: [50] }, { allowedTokenIds: [0.5] }],
    ],
    ["bad_words", [{ badWords: [[1, 49]] }], [{ badWords: [[1], []] }, { badWords: [[1], [50]] }]],
    ["stop_token_ids", [{ stopTokenIds: [49] }], [{ stopTokenIds: [50] }]],
    [
      "logprobs",
      [{ topLogprobs: -1 }, { topLogprobs: 20 }],
      [{ topLogprobs: 21 }, { topLogprobs: -2 }],
    ],
    [
      "prompt_logprobs",
      [{ promptLogprobs: -1 }, { promptLogprobs: 20 }],
      [{ promptLogprobs: 21 }, { promptLogprobs: 0.5 }],
    ],
  ];
  test.each(ranges)("%s, both ends", (subject, inside, outside) => {
    for (const sampling of inside) expect(refusal(sampling)).toBeUndefined();
    for (const sampling of outside) expect(refusal(sampling)).toBe(`invalid_request ${subject}`);
  });

  test("an empty salt and a priority that is no integer", () => {
    expect(refusal({}, { cacheSalt: "s", priority: -5 })).toBeUndefined();
    expect(refusal({}, { cacheSalt: "" })).toBe("invalid_request cache_salt");
    expect(refusal({}, { priority: 0.5 })).toBe("invalid_request priority");
  });
});

describe("KV blocks of a request", () => {
  test("the last token needs no slot, and each group has its own", () => {
    expect(blocksNeeded(3, 1, LIMITS)).toBe(1);
    expect(blocksNeeded(4, 1, LIMITS)).toBe(1);
    expect(blocksNeeded(4, 2, LIMITS)).toBe(2);
    expect(blocksNeeded(4, 2, { ...LIMITS, groups: [FULL, FULL] })).toBe(4);
  });

  test("a window group's do not grow with the length", () => {
    const limits = { ...LIMITS, groups: [WINDOW] };
    expect(blocksNeeded(150, 1, limits)).toBe(blocksNeeded(190, 1, limits));
    expect(longestSequence(limits)).toBe(200);
    expect(longestSequence({ ...LIMITS, groups: [FULL] })).toBe(81);
  });
});
