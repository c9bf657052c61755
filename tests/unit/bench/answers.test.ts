import { describe, expect, test } from "bun:test";
import {
  type AnswerComparison,
  compareAnswers,
  reasonsForNoVerdict,
} from "../../../cli/bench/ab/answers.ts";
import type { RequestRecord } from "../../../cli/bench/types.ts";
import { recordOf, runOf } from "../../support/bench-runs.ts";

function answer(conversation: string, turn: number, text: string): RequestRecord {
  return recordOf(0, [1], { conversation, turn, text });
}

describe("the answers of two sides", () => {
  test("are compared by conversation and turn, whatever order they ended in", () => {
    const a = runOf([answer("x", 0, "one"), answer("x", 1, "two"), answer("y", 0, "three")]);
    const b = runOf(a.records.toReversed());
    expect(compareAnswers(a, b)).toEqual({ compared: 3, different: 0, missing: 0 });
  });

  test("that differ show the first difference of the first such request", () => {
    const a = runOf([answer("x", 0, "same"), answer("x", 1, "the cat sat"), answer("y", 0, "A")]);
    const b = runOf([answer("y", 0, "B"), answer("x", 1, "the dog sat"), answer("x", 0, "same")]);
    expect(compareAnswers(a, b)).toEqual({
      compared: 3,
      different: 2,
      missing: 0,
      first: { conversation: "x", turn: 1, alike: 4, a: "cat sat", b: "dog sat" },
    });
  });

  test("differ where one is the beginning of the other", () => {
    const found = compareAnswers(
      runOf([answer("x", 0, "yes")]),
      runOf([answer("x", 0, "yes, but")]),
    );
    expect(found.first).toMatchObject({ alike: 3, a: "", b: ", but" });
  });

  test("that one side lacks or has not whole are missing", () => {
    const cut = { ...answer("y", 0, "th"), outcome: "cut" as const };
    const a = runOf([answer("x", 0, "one"), answer("y", 0, "three")]);
    const b = runOf([answer("x", 0, "one"), cut, answer("z", 0, "")]);
    expect(compareAnswers(a, b)).toEqual({ compared: 1, different: 0, missing: 2 });
  });

  test("keep conversations apart whose names look alike", () => {
    const found = compareAnswers(runOf([answer("x,1", 2, "a")]), runOf([answer("x", 12, "b")]));
    expect(found.compared).toBe(0);
  });
});

describe("a verdict on engines that keep KV differently", () => {
  const same = { side: "b", comparison: { compared: 5, different: 0, missing: 0 } };

  test("is due when blocks were evicted, came back, and the answers are the same", () => {
    const evidence = { evictedBlocks: 1, tierHitTokens: 1, answers: [same, same] };
    expect(reasonsForNoVerdict(evidence)).toEqual([]);
    // No side keeps KV below the device.
    expect(reasonsForNoVerdict({ evictedBlocks: 1, answers: [same] })).toEqual([]);
  });

  test("is refused when nothing was evicted, or nothing came back", () => {
    for (const tierHitTokens of [{}, { tierHitTokens: 0 }])
      expect(reasonsForNoVerdict({ evictedBlocks: 0, ...tierHitTokens, answers: [same] })).toEqual([
        expect.stringContaining("nothing was evicted"),
      ]);
    expect(reasonsForNoVerdict({ evictedBlocks: 9, tierHitTokens: 0, answers: [same] })).toEqual([
      expect.stringContaining("nothing came back"),
    ]);
  });

  test("is refused when answers differ, showing where, or are missing, each fault once", () => {
    const reasons = (comparison: AnswerComparison): string[] =>
      reasonsForNoVerdict({
        evictedBlocks: 1,
        answers: [same, { side: "c", comparison }, { side: "c", comparison }],
      });
    const first = { conversation: "x", turn: 1, alike: 4, a: "cat\n", b: "dog" };
    expect(reasons({ compared: 5, different: 2, missing: 0, first })).toEqual([
      '2 of 5 answers of side c differ from those of the first run; the first one in conversation x, turn 1, after 4 characters: "dog", not "cat\\n"',
    ]);
    expect(reasons({ compared: 0, different: 0, missing: 3 })).toEqual([
      "side c answered no request whole that the first run did",
    ]);
    expect(reasons({ compared: 4, different: 0, missing: 1 })).toEqual([
      "1 requests were answered whole by side c alone, or by the first run alone",
    ]);
  });
});
