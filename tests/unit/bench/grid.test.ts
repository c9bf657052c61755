import { describe, expect, test } from "bun:test";
import {
  checkGrid,
  type GridLimits,
  gridOf,
  nameOf,
  partsOf,
  rowOf,
  tokensOf,
} from "../../../cli/bench/engine/grid.ts";
import { thrownBy } from "../../support/thrown.ts";

const NONE = {
  nPrompt: [0],
  nGen: [0],
  nPromptGen: [],
  nDepth: [0],
  nParallel: [0],
  nParallelPrompt: [128],
  nParallelGen: [64],
  sharedPrompt: false,
};

function rowNames(values: Partial<Parameters<typeof gridOf>[0]>): string[] {
  const tests = gridOf({ ...NONE, ...values });
  return tests.flatMap((test) => partsOf(test).map((part) => rowOf(test, part).test));
}

describe("the grid", () => {
  test("has prompts, outputs and pairs of each depth, in llama-bench's order", () => {
    expect(
      rowNames({ nPrompt: [8, 16], nGen: [4], nPromptGen: [[8, 4]], nDepth: [0, 32] }),
    ).toEqual([
      ...["pp8", "pp16", "tg4", "pp8+tg4"],
      ...["pp8 @ d32", "pp16 @ d32", "tg4 @ d32", "pp8+tg4 @ d32"],
    ]);
  });

  test("has all combinations of sequences side by side, three rates each; outputs are behind the prompts' KV", () => {
    expect(rowNames({ nParallel: [1, 2], nParallelPrompt: [8], nParallelGen: [4, 6] })).toEqual([
      ...["pp8 x1", "tg4 x1 @ d8", "pp8+tg4 x1", "pp8 x2", "tg4 x2 @ d8", "pp8+tg4 x2"],
      ...["pp8 x1", "tg6 x1 @ d8", "pp8+tg6 x1", "pp8 x2", "tg6 x2 @ d8", "pp8+tg6 x2"],
    ]);
    expect(rowNames({ nParallel: [2], sharedPrompt: true })).toEqual([
      "pp128 x2 shared",
      "tg64 x2 shared @ d128",
      "pp128+tg64 x2 shared",
    ]);
  });

  test("is empty of zeros and has nothing twice", () => {
    expect(gridOf(NONE)).toEqual([]);
    expect(rowNames({ nPrompt: [8, 0, 8], nDepth: [0, 0] })).toEqual(["pp8"]);
    const tests = gridOf({
      ...NONE,
      nPromptGen: [[8, 4]],
      nParallel: [1],
      nParallelPrompt: [8],
      nParallelGen: [4],
    });
    expect(new Set(tests.map(nameOf)).size).toBe(2);
  });
});

describe("tokens of a rate", () => {
  const [single] = gridOf({ ...NONE, nPromptGen: [[8, 4]], nDepth: [32] });
  const [apart] = gridOf({ ...NONE, nParallel: [3], nParallelPrompt: [8], nParallelGen: [4] });
  const [shared] = gridOf({
    ...{ ...NONE, nParallel: [3], nParallelPrompt: [8], nParallelGen: [4] },
    sharedPrompt: true,
  });

  test("are those of prompt and output; the depth does not count", () => {
    expect(tokensOf(rowOf(single!, "both"))).toBe(12);
  });

  test("are those of all sequences; a shared prompt counts once", () => {
    expect(partsOf(apart!).map((part) => tokensOf(rowOf(apart!, part)))).toEqual([24, 12, 36]);
    expect(partsOf(shared!).map((part) => tokensOf(rowOf(shared!, part)))).toEqual([8, 12, 20]);
  });
});

describe("what cannot be measured is refused before anything is", () => {
  const LIMITS: GridLimits = {
    maxModelLen: 100,
    blockSize: 16,
    blocksOf: (numTokens) => Math.ceil(numTokens / 16),
    numBlocks: 20,
    enablePrefixCaching: true,
  };
  const check = (values: Partial<Parameters<typeof gridOf>[0]>, limits = LIMITS): (() => void) => {
    return () => checkGrid(gridOf({ ...NONE, ...values }), limits);
  };
  const OFF = { ...LIMITS, enablePrefixCaching: false };

  test("sequences longer than the model takes, with the token that is picked behind them", () => {
    expect(check({ nPrompt: [67], nDepth: [32] })).not.toThrow();
    expect(check({ nPrompt: [68], nDepth: [32] })).toThrow(
      "pp68 @ d32 needs sequences of 101 tokens; at most 100 fit",
    );
    expect(check({ nGen: [100] })).toThrow("needs sequences of 101 tokens");
  });

  test("a depth before a prompt that is no whole number of blocks; before an output any is fine", async () => {
    expect(check({ nPrompt: [8], nDepth: [32] })).not.toThrow();
    expect(check({ nGen: [8], nDepth: [33] })).not.toThrow();
    expect(check({ nPrompt: [8], nDepth: [33] })).toThrow("in blocks of 16 tokens");
    const error = await thrownBy(check({ nPromptGen: [[8, 8]], nDepth: [33] }));
    expect([error.code, error.hint]).toEqual(["bad_config", "use 32 or 48"]);
  });

  test("what needs the prefix cache where it is off", () => {
    expect(check({ nPrompt: [8], nDepth: [32] }, OFF)).toThrow("prefix cache, which is off");
    expect(check({ nParallel: [2], nParallelPrompt: [8] }, OFF)).toThrow(
      "prefix cache, which is off",
    );
    expect(check({ nPrompt: [8], nGen: [8] }, OFF)).not.toThrow();
    expect(check({ nGen: [8], nDepth: [32] }, OFF)).not.toThrow();
  });

  test("more sequences side by side than there are blocks for", () => {
    const values = { nParallelPrompt: [32], nParallelGen: [31] };
    expect(check({ ...values, nParallel: [5] })).not.toThrow();
    expect(check({ ...values, nParallel: [6] })).toThrow(
      "pp32+tg31 x6 needs 24 KV blocks; there are 20",
    );
  });
});
