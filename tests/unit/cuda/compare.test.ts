import { describe, expect, test } from "bun:test";
import { compareScores, type Scores } from "../../gpu/compare.ts";

/** A text of which the first token is not scored. */
function scores(logprobs: readonly number[], tops: readonly Record<string, number>[]): Scores {
  return {
    tokens: ["<s>", ...logprobs.map((_, i) => `t${i}`)],
    token_logprobs: [null, ...logprobs],
    top_logprobs: [null, ...tops],
  };
}

const EXPECTED = scores(
  [-1, -2],
  [
    { a: -0.5, b: -2 },
    { a: -0.7, b: -0.8 },
  ],
);

describe("what two backends make of a text", () => {
  test("agrees where differences are within the tolerance", () => {
    const found = scores(
      [-1.05, -2.1],
      [
        { a: -0.6, b: -1.9 },
        { b: -0.7, a: -0.8 },
      ],
    );
    const { wrong, positions, decided, largest } = compareScores(EXPECTED, found, 0.2);
    expect(wrong).toEqual([]);
    expect([positions, decided]).toEqual([2, 1]);
    expect(largest).toBeCloseTo(0.1);
  });

  test("does not where another token is the most probable one although that was decided", () => {
    const found = scores(
      [-1, -2],
      [
        { b: -0.5, a: -2 },
        { a: -0.7, b: -0.8 },
      ],
    );
    expect(compareScores(EXPECTED, found, 0.2).wrong).toEqual(['position 1: "b" in place of "a"']);
    // Then it is not decided.
    expect(compareScores(EXPECTED, found, 0.75).wrong).toEqual([]);
  });

  test("does not where a log-probability is off, no number or missing", () => {
    const tops = [EXPECTED.top_logprobs[1] ?? {}, EXPECTED.top_logprobs[2] ?? {}];
    expect(compareScores(EXPECTED, scores([-1.3, -2], tops), 0.2).wrong).toHaveLength(1);
    expect(compareScores(EXPECTED, scores([-1, NaN], tops), 0.2).wrong).toHaveLength(1);
    const missing = compareScores(EXPECTED, scores([-1], tops.slice(0, 1)), 0.2).wrong;
    expect(missing).toEqual(["the tokens differ", "position 2 is not scored"]);
  });
});
