/** The native witness answers as its definition says, however a sequence is cut, batched, drafted and laid out in blocks. */

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fc from "fast-check";
import { DEFAULT_SAMPLING, type SamplingParams } from "../../engine/request.ts";
import { type KvGroup, Runner } from "../../engine/runner/native.ts";
import { seatHistory, seatParams } from "../../engine/runner/native-runner.ts";
import { FROM_SEAT, PICK, type StepResult } from "../../engine/scheduler/batch.ts";
import { PROPERTY_LIMIT_MS, propertyRuns } from "../support/property-runs.ts";
import { type WitnessDefinition, witnessPicks, witnessScores } from "../support/witness.ts";

setDefaultTimeout(PROPERTY_LIMIT_MS);

const MAX_POSITIONS = 48;

type Groups = WitnessDefinition["groups"];
type Draw = (below: number) => number;

/** One row of a step; a sample's target is `PICK` or a token to report on. */
interface Row {
  readonly seat: number;
  readonly start: number;
  readonly tokens: readonly number[];
  readonly samples: readonly { readonly offset: number; readonly target: number }[];
  /** One a group. */
  readonly tables: readonly (readonly number[])[];
}

function stepWords(stepId: number, rows: readonly Row[], copies: readonly number[]): Int32Array {
  const tokens = rows.flatMap((row) => row.tokens);
  const first = [0];
  const samples: number[] = [];
  const targets: number[] = [];
  for (const row of rows) {
    const begin = first.at(-1)!;
    for (const { offset, target } of row.samples) {
      samples.push(begin + offset);
      targets.push(target);
    }
    first.push(begin + row.tokens.length);
  }
  const numGroups = rows[0]!.tables.length;
  const tableStart = [0];
  const blocks: number[] = [];
  for (let group = 0; group < numGroups; group++) {
    for (const { tables } of rows) {
      blocks.push(...tables[group]!);
      tableStart.push(blocks.length);
    }
  }
  return Int32Array.from([
    ...[2, stepId, tokens.length, rows.length],
    ...[numGroups, samples.length, blocks.length, copies.length / 2],
    ...tokens,
    ...rows.map(({ seat }) => seat),
    ...first,
    ...rows.map(({ start }) => start),
    ...samples,
    ...targets,
    ...tableStart,
    ...blocks,
    ...copies,
  ]);
}

/** A sequence that is served, and what it has answered so far. */
class Served {
  readonly seat: number;
  readonly prompt: readonly number[];
  readonly sampling: SamplingParams;
  readonly expected: ReturnType<typeof witnessPicks>;
  /** Block of each entry and group, all that it will need. */
  readonly tables: number[][];
  readonly tokens: number[] = [];
  readonly logprobs: number[] = [];
  readonly scores: number[] = [];
  numComputed = 0;
  ended = false;

  constructor(
    seat: number,
    request: Pick<Served, "prompt" | "sampling">,
    definition: WitnessDefinition,
    tables: number[][],
  ) {
    this.seat = seat;
    this.prompt = request.prompt;
    this.sampling = request.sampling;
    this.expected = witnessPicks(Int32Array.from(this.prompt), this.sampling, definition);
    this.tables = tables;
  }

  /** A row of random length: part of the prompt, or the newest token with drafts of which any may be wrong. */
  row(groups: Groups, blockSize: number, vocabSize: number, draw: Draw): Row {
    const start = this.numComputed;
    const known = [...this.prompt, ...this.tokens];
    const tokens: number[] = [];
    const samples: { offset: number; target: number }[] = [];
    if (start < this.prompt.length) {
      tokens.push(...this.prompt.slice(start, start + 1 + draw(this.prompt.length - start)));
      const end = start + tokens.length;
      for (
        let offset = 0;
        offset < tokens.length && start + offset + 1 < this.prompt.length;
        offset++
      )
        samples.push({ offset, target: this.prompt[start + offset + 1]! });
      if (end === this.prompt.length) samples.push({ offset: tokens.length - 1, target: PICK });
    } else {
      tokens.push(draw(2) === 0 ? FROM_SEAT : known[start]!);
      const numDrafts = Math.min(draw(4), MAX_POSITIONS - start - 1);
      // What was computed on a wrong draft stays in a state.
      const mayErr = groups.every(({ kind }) => kind !== "state");
      for (let i = 0; i < numDrafts; i++) {
        const next = this.expected[this.tokens.length + i]?.token;
        if (next === undefined && !mayErr) break;
        tokens.push(mayErr && draw(4) === 0 ? draw(vocabSize) : (next ?? draw(vocabSize)));
      }
      samples.push(...tokens.map((_, offset) => ({ offset, target: PICK })));
    }
    const entries = Math.ceil((start + tokens.length) / blockSize);
    const tables = groups.map(({ kind, window }, group) => {
      const seen = { full: 0, window: start - window + 1, state: start - 1 }[kind];
      const firstSeen = Math.floor(Math.max(0, seen) / blockSize);
      return this.tables[group]!.slice(0, entries).map((block, i) => (i < firstSeen ? 0 : block));
    });
    return { seat: this.seat, start, tokens, samples, tables };
  }

  /** Takes the answers to its row's samples, which begin at `at` in the result. */
  take(row: Row, result: StepResult, at: number): void {
    this.numComputed = row.start + row.tokens.length;
    for (const [i, { target }] of row.samples.entries()) {
      const [token, logprob] = [result.tokens[at + i]!, result.logprobs[at + i]!];
      if (target !== PICK) {
        expect(token).toBe(-1);
        this.scores.push(logprob);
      } else if (token >= 0) {
        expect(this.ended).toBe(false);
        this.tokens.push(token);
        this.logprobs.push(logprob);
        this.ended = result.finish[at + i] !== 0;
      }
    }
    // The newest token has still to be computed.
    if (this.tokens.length > 0) this.numComputed = this.prompt.length + this.tokens.length - 1;
  }
}

function samplingOf(sampling: Partial<SamplingParams>): SamplingParams {
  return { ...DEFAULT_SAMPLING, topLogprobs: 0, ...sampling };
}

interface Laboratory {
  readonly definition: WitnessDefinition;
  readonly blockSize: number;
  readonly requests: readonly Pick<Served, "prompt" | "sampling">[];
  readonly seed: number;
}

/** Serves the requests beside each other; each must answer as its definition says. */
async function serve({ definition, blockSize, requests, seed }: Laboratory): Promise<void> {
  const { groups, vocabSize } = definition;
  let state = seed;
  const draw: Draw = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const entries = Math.ceil(MAX_POSITIONS / blockSize);
  const numTables = requests.length * groups.length;
  // One table more, for blocks to move to.
  const free = Array.from({ length: (numTables + 1) * entries }, (_, i) => i + 1);
  const takeBlock = (): number => free.splice(draw(free.length), 1)[0]!;
  const results: ((result: StepResult) => void)[] = [];
  const runner = await Runner.create(
    {
      backend: "witness",
      isa: "auto",
      threads: 1,
      values: [],
      ops: [],
      files: [],
      tensors: [],
      groups: groups.map((group): KvGroup => ({ layers: 1, numKvHeads: 1, headDim: 1, ...group })),
      blockSize,
      numBlocks: 1 + free.length,
      maxTokens: requests.length * MAX_POSITIONS,
      maxRows: requests.length,
      maxSamples: requests.length * MAX_POSITIONS,
      maxModelLen: MAX_POSITIONS,
      vocabSize,
    },
    (result) => results.shift()!(result),
  );
  const served = requests.map((request, seat) => {
    const tables = groups.map(() => Array.from({ length: entries }, takeBlock));
    return new Served(seat, request, definition, tables);
  });
  for (const { seat, sampling, prompt } of served) {
    const sequence = {
      sampling,
      tokenIds: Int32Array.from(prompt),
      numTokens: prompt.length,
      numPromptTokens: prompt.length,
      numOutputTokens: 0,
    };
    runner.openSeat(seat, seatParams(sequence), seatHistory(sequence));
  }
  for (let stepId = 0; served.some(({ ended }) => !ended); stepId++) {
    if (stepId > 1000) throw new Error("a sequence without an end");
    const some = served.filter(({ ended }) => !ended || draw(4) === 0).filter(() => draw(3) > 0);
    if (some.length === 0) continue;
    const copies: number[] = [];
    for (const { tables } of some) {
      if (draw(3) > 0) continue;
      const table = tables[draw(tables.length)]!;
      const entry = draw(table.length);
      const to = takeBlock();
      copies.push(table[entry]!, to);
      free.push(table[entry]!);
      table[entry] = to;
    }
    const rows = some
      .filter(({ numComputed }) => numComputed < MAX_POSITIONS)
      .map((one) => ({ one, row: one.row(groups, blockSize, vocabSize, draw) }))
      .toSorted(() => draw(3) - 1);
    const { promise, resolve } = Promise.withResolvers<StepResult>();
    results.push(resolve);
    runner.submit(
      stepWords(
        stepId,
        rows.map(({ row }) => row),
        copies,
      ),
    );
    const result = await promise;
    expect(result.error).toBeUndefined();
    let at = 0;
    for (const { one, row } of rows) {
      one.take(row, result, at);
      at += row.samples.length;
    }
  }
  await runner.stop();
  for (const { prompt, tokens, logprobs, scores, expected } of served) {
    expect(tokens).toEqual(expected.map(({ token }) => token));
    expect(logprobs).toEqual(expected.map(({ logprob }) => logprob));
    expect(scores).toEqual(witnessScores(Int32Array.from(prompt), definition));
  }
}

const groups = fc.array(
  fc.oneof(
    fc.constant({ kind: "full" as const, window: 0 }),
    fc.integer({ min: 1, max: 9 }).map((window) => ({ kind: "window" as const, window })),
    fc.constant({ kind: "state" as const, window: 0 }),
  ),
  { minLength: 1, maxLength: 4 },
);

const laboratories: fc.Arbitrary<Laboratory> = fc
  .constantFrom(2, 7, 1000, 150_000)
  .chain((vocabSize) => {
    const token = fc.nat(vocabSize - 1);
    const request = fc.record({
      prompt: fc.array(token, { minLength: 1, maxLength: 20 }),
      sampling: fc
        .record({
          temperature: fc.constantFrom(0, 0.7),
          seed: fc.tuple(fc.nat(2 ** 32 - 1), fc.nat(2 ** 32 - 1)),
          choice: fc.nat(3),
          maxTokens: fc.integer({ min: 1, max: 24 }),
          stopTokenIds: fc.array(token, { maxLength: 1 }),
        })
        .map(samplingOf),
    });
    return fc.record({
      definition: fc.record({ vocabSize: fc.constant(vocabSize), groups }),
      blockSize: fc.integer({ min: 1, max: 6 }),
      requests: fc.array(request, { minLength: 1, maxLength: 3 }),
      seed: fc.nat(),
    });
  });

describe("the witness", () => {
  test("answers as defined, whatever the chunks, drafts, batches, blocks and copies", async () => {
    await fc.assert(fc.asyncProperty(laboratories, serve), propertyRuns(300));
  });
});
