/** The null backend: answers at once, holds nothing, and lets every sequence run to its last token. */

import { describe, expect, test } from "bun:test";
import { DEFAULT_SAMPLING } from "../../engine/request.ts";
import { pageBytes, Runner } from "../../engine/runner/native.ts";
import { seatHistory, seatParams } from "../../engine/runner/native-runner.ts";
import type { StepResult } from "../../engine/scheduler/batch.ts";

const GROUPS = [{ layers: 80, numKvHeads: 8, headDim: 128, kind: "full" as const, window: 0 }];

describe("the null backend", () => {
  test("a large pool of a large model's blocks takes next to no memory", async () => {
    const results: ((result: StepResult) => void)[] = [];
    const runner = await Runner.create(
      {
        backend: "null",
        isa: "auto",
        threads: 1,
        values: [],
        ops: [],
        files: [],
        tensors: [],
        groups: GROUPS,
        blockSize: 16,
        numBlocks: 10_000_000,
        maxTokens: 8,
        maxRows: 1,
        maxSamples: 1,
        maxModelLen: 100,
        vocabSize: 1000,
      },
      (result) => results.shift()!(result),
    );
    expect(pageBytes("null", GROUPS, 16)).toBe(64);
    expect(runner.info()).toMatchObject({ kvBytes: 640_000_000, weightBytes: 0 });
    const sampling = { ...DEFAULT_SAMPLING, maxTokens: 3, stopTokenIds: [1, 2, 3] };
    const sequence = {
      sampling,
      tokenIds: Int32Array.of(5),
      numTokens: 1,
      numPromptTokens: 1,
      numOutputTokens: 0,
    };
    runner.openSeat(0, seatParams(sequence), seatHistory(sequence));
    const answers: (readonly [token: number, finish: number])[] = [];
    for (let position = 0; position < 4; position++) {
      const { promise, resolve } = Promise.withResolvers<StepResult>();
      results.push(resolve);
      const token = position === 0 ? 5 : -1;
      const header = [2, position, 1, 1, 1, 1, 1, 0];
      runner.submit(Int32Array.of(...header, token, 0, 0, 1, position, 0, -1, 0, 1, 9_999_999));
      const { tokens, finish, error } = await promise;
      expect(error).toBeUndefined();
      answers.push([tokens[0]!, finish[0]!]);
    }
    await runner.stop();
    expect(answers.map(([, finish]) => finish)).toEqual([0, 0, 2, 0]);
    expect(answers[3]![0]).toBe(-1);
    for (const [token] of answers.slice(0, 3)) {
      expect(token).toBeWithin(0, 1000);
      expect(sampling.stopTokenIds).not.toContain(token);
    }
  });
});
