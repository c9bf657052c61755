/** What is asked of a seat, through N-API: penalties, bad words, bias, drafts, targets, and what comes back as arrays. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { loadModel } from "../../engine/models/registry.ts";
import { Runner, type SeatParams } from "../../engine/runner/native.ts";
import type { StepResult } from "../../engine/scheduler/batch.ts";
import { specOf } from "../support/logits.ts";
import { PICK, stepWords, type StepRow } from "../support/step-words.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { thrownBy } from "../support/thrown.ts";
import { TINY, writeTinyModel } from "../support/tiny-model.ts";

const PROMPT: readonly number[] = [60, 61, 62, 60, 90];
const GREEDY: SeatParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seedLow: 1,
  seedHigh: 2,
  choice: 0,
  outputIndex: 0,
  stopIds: [],
  maxTokens: 100,
  minTokens: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBiasIds: [],
  logitBiases: [],
  allowedIds: [],
  badWords: [],
  topLogprobs: -1,
  promptLogprobs: -1,
  promptLength: 0,
};

let runner: Runner;
const results: ((result: StepResult) => void)[] = [];
let stepId = 0;

beforeAll(async () => {
  const path = join(temporaryFolder(), "sampling.gguf");
  await writeTinyModel(path, { seed: 9 });
  const spec = specOf(await loadModel(path), {
    backend: "cpu",
    isa: "auto",
    threads: 2,
    maxTokens: 64,
    numBlocks: 40,
  });
  runner = await Runner.create({ ...spec, maxRows: 4 }, (result) => results.shift()!(result));
});

afterAll(() => runner.stop());

/** Blocks of a seat: room for 128 tokens. */
function tables(seat: number, end: number): number[][] {
  return [Array.from({ length: Math.ceil(end / 16) }, (_, i) => 1 + seat * 8 + i)];
}

function row(
  seat: number,
  start: number,
  tokens: readonly number[],
  samples?: StepRow["samples"],
): StepRow {
  const each = { seat, start, tokens, tables: tables(seat, start + tokens.length) };
  return samples === undefined ? each : { ...each, samples };
}

function run(
  rows: readonly StepRow[],
  copies: readonly (readonly [number, number])[] = [],
): Promise<StepResult> {
  const { promise, resolve } = Promise.withResolvers<StepResult>();
  results.push(resolve);
  runner.submit(stepWords(stepId++, rows, copies));
  return promise;
}

function open(seat: number, params: Partial<SeatParams>, history: readonly number[] = []): void {
  runner.openSeat(seat, { ...GREEDY, ...params }, Int32Array.from(history));
}

/** `count` tokens behind the prompt and what was generated before. */
async function generate(
  params: Partial<SeatParams>,
  count: number,
  before: readonly number[] = [],
): Promise<number[]> {
  const known = [...PROMPT, ...before];
  open(0, { ...params, promptLength: PROMPT.length, outputIndex: before.length }, known);
  const tokens = [(await run([row(0, 0, known)])).tokens[0]!];
  while (tokens.length < count) {
    const start = known.length + tokens.length - 1;
    tokens.push((await run([row(0, start, [tokens.at(-1)!])])).tokens[0]!);
  }
  return tokens;
}

async function logitsAt(tokens: readonly number[]): Promise<Float32Array> {
  const samples = [[tokens.length - 1, 0]] as const;
  return await runner.logits(stepWords(0, [row(3, 0, tokens, samples)]));
}

/** Ids by logit, the highest first. */
function ranking(logits: Float32Array): number[] {
  return Array.from(logits.keys()).toSorted((a, b) => logits[b]! - logits[a]! || a - b);
}

function logprobs(logits: Float32Array): number[] {
  const max = logits.reduce((a, b) => Math.max(a, b));
  const total = max + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return Array.from(logits, (x) => x - total);
}

describe("what acts on a pick:", () => {
  test("bias, allowed ids, bad words and stop ids of a sequence that is too short move the choice", async () => {
    const order = ranking(await logitsAt(PROMPT));
    const [first, second] = order as [number, number];
    const last = order.at(-1)!;
    expect(await generate({}, 1)).toEqual([first]);
    expect(await generate({ logitBiasIds: [last], logitBiases: [100] }, 1)).toEqual([last]);
    expect(await generate({ allowedIds: [last, order[9]!] }, 1)).toEqual([order[9]!]);
    expect(await generate({ badWords: [[first]] }, 1)).toEqual([second]);
    expect(await generate({ stopIds: [first], minTokens: 1 }, 1)).toEqual([second]);
    expect(await generate({ stopIds: [first] }, 1)).toEqual([first]);
  });

  test("a bad word of several tokens is never completed", async () => {
    const free = await generate({}, 6);
    const bad = await generate({ badWords: [free.slice(0, 3)] }, 6);
    expect(bad.slice(0, 2)).toEqual(free.slice(0, 2));
    expect(bad[2]).not.toBe(free[2]!);
  });

  test("penalties keep tokens from coming again", async () => {
    const free = await generate({}, 40);
    const penalised = await generate({ frequencyPenalty: 2, presencePenalty: 2 }, 40);
    expect(new Set(penalised).size).toBeGreaterThan(new Set(free).size);
    const never = await generate({ repetitionPenalty: 1e9 }, 40);
    expect(new Set([...never, ...PROMPT]).size).toBe(40 + new Set(PROMPT).size);
  });

  test("a seat opened again with what it has generated goes on as before", async () => {
    const params = {
      temperature: 0.9,
      repetitionPenalty: 1.3,
      frequencyPenalty: 0.5,
      badWords: [[10, 11], [12]],
      minTokens: 20,
      stopIds: [30],
    };
    const whole = await generate(params, 20);
    for (const cut of [1, 7, 19]) {
      expect(await generate(params, 20 - cut, whole.slice(0, cut))).toEqual(whole.slice(cut));
    }
  });
});

describe("what comes back:", () => {
  test("nothing about ranks and lists when no seat asks", async () => {
    open(0, {});
    const result = await run([row(0, 0, PROMPT)]);
    for (const array of [result.ranks, result.topIds, result.topStart])
      expect(array).toEqual(new Int32Array(0));
    expect(result.topLogprobs).toEqual(new Float32Array(0));
    expect([result.tokens.length, result.finish.length, result.logprobs.length]).toEqual([1, 1, 1]);
  });

  test("ranks and lists of raw logits, whatever acts on the pick, beside seats that did not ask", async () => {
    const logits = await logitsAt(PROMPT);
    const order = ranking(logits);
    const expected = logprobs(logits);
    open(0, { topLogprobs: 3, badWords: [[order[0]!]], repetitionPenalty: 1 });
    open(1, {});
    open(2, { topLogprobs: 0 });
    const result = await run([row(0, 0, PROMPT), row(1, 0, PROMPT), row(2, 0, PROMPT)]);
    expect([...result.tokens]).toEqual([order[1]!, order[0]!, order[0]!]);
    expect([...result.ranks]).toEqual([2, 0, 1]);
    expect([...result.topStart]).toEqual([0, 3, 3, 3]);
    expect([...result.topIds]).toEqual(order.slice(0, 3));
    for (const [i, id] of order.slice(0, 3).entries())
      expect(result.topLogprobs[i]).toBeCloseTo(expected[id]!, 4);
    expect(result.logprobs[0]).toBe(result.topLogprobs[1]!);
  });

  test("targets are scored without a pick, beside one", async () => {
    open(0, { promptLogprobs: 2 });
    const samples = [
      [0, PROMPT[1]!],
      [2, PROMPT[3]!],
      [4, PICK],
    ] as const;
    const result = await run([row(0, 0, PROMPT, samples)]);
    expect(result.tokens.subarray(0, 2)).toEqual(Int32Array.of(-1, -1));
    for (const [i, [offset, target]] of samples.slice(0, 2).entries()) {
      const logits = await logitsAt(PROMPT.slice(0, offset + 1));
      expect(result.logprobs[i]).toBeCloseTo(logprobs(logits)[target]!, 4);
      expect(result.ranks[i]).toBe(ranking(logits).indexOf(target) + 1);
      const ids = result.topIds.subarray(result.topStart[i], result.topStart[i + 1]);
      expect([...ids]).toEqual(ranking(logits).slice(0, 2));
    }
    expect(result.tokens[2]).toBe(ranking(await logitsAt(PROMPT))[0]!);
    expect([...result.ranks.subarray(2)]).toEqual([0]);
  });

  test("right drafts are picked at once; the first wrong one ends the row", async () => {
    const params = { temperature: 0.8, frequencyPenalty: 0.3 };
    const wanted = await generate(params, 6);
    const open0 = (): void =>
      open(0, { ...params, promptLength: PROMPT.length, outputIndex: 1 }, [...PROMPT, wanted[0]!]);
    const picks = [0, 1, 2, 3].map((offset) => [offset, PICK] as const);
    open0();
    const right = await run([row(0, PROMPT.length, wanted.slice(0, 4), picks)]);
    expect([...right.tokens]).toEqual(wanted.slice(1, 5));
    open0();
    const drafts = [wanted[0]!, wanted[1]!, (wanted[2]! + 1) % TINY.vocabSize, wanted[3]!];
    const wrong = await run([row(0, PROMPT.length, drafts, picks)]);
    expect([...wrong.tokens]).toEqual([wanted[1]!, wanted[2]!, -1, -1]);
    // The seat went on behind the last right one.
    const after = await run([row(0, PROMPT.length + 2, [wanted[2]!])]);
    expect([...after.tokens]).toEqual([wanted[3]!]);
  });

  test("a page is copied before the step computes", async () => {
    const wanted = await generate({}, 2);
    open(1, { outputIndex: 1 });
    const forked = await run([row(1, PROMPT.length, [wanted[0]!])], [[1, 9]]);
    expect([...forked.tokens]).toEqual([wanted[1]!]);
  });
});

test("what a seat cannot be is refused by name", async () => {
  for (const [params, message] of [
    [{ repetitionPenalty: 0 }, "repetitionPenalty is 0, allowed is above 0"],
    [{ topLogprobs: 301 }, "topLogprobs is 301, allowed is -1 to 300"],
    [{ allowedIds: [300] }, "allowedIds is 300, allowed is 0 to 299"],
    [{ presencePenalty: 1, promptLength: 3 }, "length of history is 0"],
  ] as const) {
    const error = await thrownBy(() => open(0, params as Partial<SeatParams>));
    expect([error.code, error.message]).toEqual(["internal", expect.stringContaining(message)]);
  }
});
