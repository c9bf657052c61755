import { describe, expect, test } from "bun:test";
import { guessedPromptMicros } from "../../../engine/runner/prompt-cost.ts";

const TENSORS = [
  { rows: 1000, cols: 50_000 },
  { rows: 1000, cols: 30_000 },
];

describe("what a prompt token is believed to cost", () => {
  test("is two operations a weight on a GPU", () => {
    expect(guessedPromptMicros(TENSORS, "cuda/sm_90")).toBe(4);
  });

  test("is not guessed on a CPU", () => {
    expect(guessedPromptMicros(TENSORS, "cpu/avx2")).toBeUndefined();
  });
});
