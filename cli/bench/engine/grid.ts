/** Which tests the flags ask for: llama-bench's and llama-batched-bench's grids. Pure: knows no engine. */

import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";

/** A prompt, an output, or a prompt with an output behind it; one sequence. */
export interface SingleTest {
  readonly kind: "single";
  /** 0 = generation only. */
  readonly nPrompt: number;
  /** 0 = prompt only. */
  readonly nGen: number;
  /** Tokens whose KV is there before. */
  readonly nDepth: number;
}

/** Sequences that begin together, all of these lengths. */
export interface ParallelTest {
  readonly kind: "parallel";
  readonly nPrompt: number;
  readonly nGen: number;
  readonly nParallel: number;
  /** One prompt for all, computed once. */
  readonly shared: boolean;
}

export type Test = SingleTest | ParallelTest;

/** What of a test one rate is about: the prompts, the outputs, or both by the sum of their times. */
export type Part = "prompt" | "gen" | "both";

/** What one rate is about. The names of the fields are llama-bench's. */
export interface Row {
  /** `pp512`, `tg128 @ d4096`, `pp512+tg128`, `tg64 x32 @ d128`. */
  readonly test: string;
  readonly n_prompt: number;
  readonly n_gen: number;
  readonly n_depth: number;
  readonly n_parallel: number;
  readonly shared_prompt: boolean;
}

/** In llama-bench's order, without repetitions: of each depth prompts, outputs and pairs; then sequences side by side. */
export function gridOf(
  values: Pick<
    OptionValues,
    | "nPrompt"
    | "nGen"
    | "nPromptGen"
    | "nDepth"
    | "nParallel"
    | "nParallelPrompt"
    | "nParallelGen"
    | "sharedPrompt"
  >,
): readonly Test[] {
  const lengths = [
    ...values.nPrompt.filter((n) => n > 0).map((n) => [n, 0] as const),
    ...values.nGen.filter((n) => n > 0).map((n) => [0, n] as const),
    ...values.nPromptGen,
  ];
  const tests: Test[] = values.nDepth.flatMap((nDepth) =>
    lengths.map(([nPrompt, nGen]) => ({ kind: "single" as const, nPrompt, nGen, nDepth })),
  );
  for (const nPrompt of values.nParallelPrompt)
    for (const nGen of values.nParallelGen)
      for (const nParallel of values.nParallel.filter((n) => n > 0))
        tests.push({ kind: "parallel", nPrompt, nGen, nParallel, shared: values.sharedPrompt });
  return [...new Map(tests.map((test) => [nameOf(test), test])).values()];
}

/** Unique in a grid. */
export function nameOf(test: Test): string {
  return `${test.kind} ${rowOf(test, "both").test}`;
}

/** Those of a test, in the order in which they are reported. */
export function partsOf(test: Test): readonly Part[] {
  return test.kind === "single" ? ["both"] : ["prompt", "gen", "both"];
}

/** A part is described as the single test that it is: outputs side by side begin behind the prompt's KV. */
export function rowOf(test: Test, part: Part): Row {
  const parallel = test.kind === "parallel";
  const n_prompt = part === "gen" ? 0 : test.nPrompt;
  const n_gen = part === "prompt" ? 0 : test.nGen;
  const n_depth = parallel ? (part === "gen" ? test.nPrompt : 0) : test.nDepth;
  const n_parallel = parallel ? test.nParallel : 1;
  const shared_prompt = parallel && test.shared;
  const lengths = [n_prompt > 0 ? `pp${n_prompt}` : "", n_gen > 0 ? `tg${n_gen}` : ""];
  const name = [
    lengths.filter((length) => length !== "").join("+"),
    parallel ? ` x${n_parallel}${shared_prompt ? " shared" : ""}` : "",
    n_depth > 0 ? ` @ d${n_depth}` : "",
  ];
  return { test: name.join(""), n_prompt, n_gen, n_depth, n_parallel, shared_prompt };
}

/** Tokens that a part's time is divided into. A shared prompt is computed once. */
export function tokensOf(row: Row): number {
  return row.n_prompt * (row.shared_prompt ? 1 : row.n_parallel) + row.n_gen * row.n_parallel;
}

/** What the engine offers to tests. */
export interface GridLimits {
  readonly maxModelLen: number;
  readonly blockSize: number;
  /** Blocks that a sequence of this many tokens holds. */
  blocksOf(numTokens: number): number;
  readonly numBlocks: number;
  readonly enablePrefixCaching: boolean;
}

/** Throws `bad_config` for the first test that could not be measured: before any is. */
export function checkGrid(tests: readonly Test[], limits: GridLimits): void {
  for (const test of tests) {
    const length = test.nPrompt + test.nGen + 1 + (test.kind === "single" ? test.nDepth : 0);
    const name = rowOf(test, "both").test;
    if (length > limits.maxModelLen) {
      throw new KvEngineError(
        "bad_config",
        `${name} needs sequences of ${length} tokens; at most ${limits.maxModelLen} fit`,
        { subject: name, hint: "raise --max-model-len or --kv-cache-memory, or measure less" },
      );
    }
    if (test.kind === "single") checkDepth(test, name, limits);
    else checkParallel(test, name, length, limits);
  }
}

/** The KV in front of a prompt is found in the prefix cache, which has whole blocks. */
function checkDepth(test: SingleTest, name: string, limits: GridLimits): void {
  if (test.nDepth === 0 || test.nPrompt === 0) return;
  const { blockSize } = limits;
  if (!limits.enablePrefixCaching) throw needsPrefixCaching(name);
  if (test.nDepth % blockSize !== 0) {
    const below = Math.floor(test.nDepth / blockSize) * blockSize;
    throw new KvEngineError(
      "bad_config",
      `${name}: before a prompt the depth is counted in blocks of ${blockSize} tokens; allowed are multiples of that`,
      { subject: "--n-depth", hint: `use ${below} or ${below + blockSize}` },
    );
  }
}

function checkParallel(test: ParallelTest, name: string, length: number, limits: GridLimits): void {
  if (!limits.enablePrefixCaching) throw needsPrefixCaching(name);
  const needed = test.nParallel * limits.blocksOf(length);
  if (needed > limits.numBlocks) {
    throw new KvEngineError(
      "bad_config",
      `${name} needs ${needed} KV blocks; there are ${limits.numBlocks}`,
      { subject: name, hint: "raise --kv-cache-memory, or measure fewer or shorter sequences" },
    );
  }
}

function needsPrefixCaching(name: string): KvEngineError {
  return new KvEngineError(
    "bad_config",
    `${name} takes the KV before what is measured from the prefix cache, which is off`,
    { subject: name, hint: "leave out --no-enable-prefix-caching" },
  );
}
