/**
 * One run of a test through the whole engine: worker, scheduler, messages. What a test's name says is computed while the
 * clock runs, and nothing else: `pp` a prompt and one token picked behind it; `tg` one token for each step; both in turn. What
 * has to be there before is computed before, and whether it was there, and nothing else was, is checked afterwards.
 */

import type { EngineClient } from "../../../engine/engine-client.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import { type ParallelTest, type Part, rowOf, type SingleTest, type Test } from "./grid.ts";
import { type Answered, ask, randomTokens } from "./requests.ts";

/** Nanoseconds of the parts of a test. */
export type Times = ReadonlyMap<Part, number>;

/** Seeds of prompts that are measured are above those of the KV before them. */
const FIRST_FRESH_SEED = 2 ** 21;

export class Measurer {
  readonly #client: EngineClient;
  #nextSeed = FIRST_FRESH_SEED;

  constructor(client: EngineClient) {
    this.#client = client;
  }

  /** `afterPart` is called behind the prompts of parallel tests and behind the end of each test, outside of what is timed. */
  async run(test: Test, afterPart?: (part: Part) => Promise<void>): Promise<Times> {
    const times = await this.#run(test, afterPart);
    await afterPart?.(test.kind === "parallel" ? "gen" : "both");
    return times;
  }

  async #run(test: Test, afterPart?: (part: Part) => Promise<void>): Promise<Times> {
    if (test.kind === "parallel") return this.#parallel(test, afterPart);
    const both = test.nPrompt > 0 ? await this.#prompt(test) : await this.#generation(test);
    return new Map([["both", both]]);
  }

  /** A prompt behind the KV of `nDepth` tokens, and what is generated behind it. */
  async #prompt(test: SingleTest): Promise<number> {
    const depth = this.#depth(test.nDepth);
    if (depth.length > 0) await ask(this.#client, depth, 1);
    const prompt = new Int32Array(test.nDepth + test.nPrompt);
    prompt.set(depth);
    prompt.set(this.#fresh(test.nPrompt), test.nDepth);
    const answer = await ask(this.#client, prompt, test.nGen + 1);
    checkCached(answer.cachedTokens, test.nDepth, test);
    return answer.endedAt - answer.askedAt;
  }

  /**
   * `nGen` steps of one token. At depth 0 the first of them computes a prompt of one token; else the prompt is the depth, its
   * pick starts the clock, and each token after that was a step.
   */
  async #generation(test: SingleTest): Promise<number> {
    if (test.nDepth === 0) {
      const { askedAt, endedAt } = await ask(this.#client, this.#fresh(1), test.nGen);
      return endedAt - askedAt;
    }
    const answer = await ask(this.#client, this.#depth(test.nDepth), test.nGen + 1);
    return answer.endedAt - answer.firstTokenAt;
  }

  /**
   * First the prompts alone, from asking to the last of their picks; then the same prompts again, from the prefix cache, with
   * outputs: the clock starts when the last of them has its first token.
   */
  async #parallel(
    test: ParallelTest,
    afterPart: ((part: Part) => Promise<void>) | undefined,
  ): Promise<Times> {
    const { nParallel, nPrompt, nGen, shared } = test;
    const distinct = Array.from({ length: shared ? 1 : nParallel }, () => this.#fresh(nPrompt));
    const prefilled = await this.#askAll(distinct, 1);
    for (const { cachedTokens } of prefilled) checkCached(cachedTokens, 0, test);
    const prompt = lastOf(prefilled, "endedAt") - firstOf(prefilled, "askedAt");
    await afterPart?.("prompt");

    const all = Array.from({ length: nParallel }, (_, i) => distinct[shared ? 0 : i]!);
    const generated = await this.#askAll(all, nGen + 1);
    const { blockSize } = this.#client.info;
    // The last token of a prompt is always computed, for its logits.
    const cached = Math.floor((nPrompt - 1) / blockSize) * blockSize;
    for (const { cachedTokens } of generated) checkCached(cachedTokens, cached, test);
    const gen = generationTime(generated, nParallel * nGen);
    return new Map([
      ["prompt", prompt],
      ["gen", gen],
      ["both", prompt + gen],
    ]);
  }

  #askAll(prompts: readonly Int32Array[], numTokens: number): Promise<Answered[]> {
    return Promise.all(prompts.map((prompt) => ask(this.#client, prompt, numTokens)));
  }

  /** Tokens that no request had before, so that none of their KV is cached. */
  #fresh(length: number): Int32Array {
    return randomTokens(length, this.#client.info.vocabSize, this.#nextSeed++);
  }

  /** The same for each test of this depth: after the first time it is cached. */
  #depth(length: number): Int32Array {
    return randomTokens(length, this.#client.info.vocabSize, length);
  }
}

/**
 * Nanoseconds for `numTokens` tokens at the rate at which they came from the moment when all sequences had begun. Where all
 * began in one step these are all of them; else the first ones of sequences that began early are left out.
 */
export function generationTime(
  answers: readonly Pick<Answered, "firstTokenAt" | "endedAt" | "times">[],
  numTokens: number,
): number {
  const from = lastOf(answers, "firstTokenAt");
  const came = answers.reduce((sum, { times }) => sum + times.filter((at) => at > from).length, 0);
  return ((lastOf(answers, "endedAt") - from) * numTokens) / came;
}

function firstOf<K extends string>(
  answers: readonly Readonly<Record<K, number>>[],
  key: K,
): number {
  return Math.min(...answers.map((answer) => answer[key]));
}

function lastOf<K extends string>(answers: readonly Readonly<Record<K, number>>[], key: K): number {
  return Math.max(...answers.map((answer) => answer[key]));
}

/** A rate with other KV in the cache than the name says would be another test's. */
function checkCached(found: number, expected: number, test: Test): void {
  if (found === expected) return;
  const { test: name } = rowOf(test, "both");
  throw new KvEngineError(
    "unsupported",
    `${name}: the KV of ${found} tokens was there when it began, not of ${expected}`,
    { subject: name, hint: "give the KV cache more memory with --kv-cache-memory" },
  );
}
