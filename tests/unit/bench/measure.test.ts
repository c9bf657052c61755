import { describe, expect, test } from "bun:test";
import { type Test } from "../../../cli/bench/engine/grid.ts";
import { generationTime, Measurer } from "../../../cli/bench/engine/measure.ts";
import { ask, randomTokens } from "../../../cli/bench/engine/requests.ts";
import type { TokenEvent } from "../../../engine/request.ts";
import {
  FakeEngineClient,
  NO_TIMING,
  NO_USAGE,
  type Script,
} from "../../support/fake-engine-client.ts";
import { thrownBy } from "../../support/thrown.ts";

const BLOCK = 16;

/** Answers as many tokens as are asked for, and finds whole blocks of earlier prompts, as a prefix cache that holds all. */
function caching(): Script {
  const seen = new Set<string>();
  return ({ promptTokenIds, sampling }) => {
    const key = (blocks: number): string => promptTokenIds.slice(0, blocks * BLOCK).join();
    let hits = 0;
    while (hits < Math.floor((promptTokenIds.length - 1) / BLOCK) && seen.has(key(hits + 1)))
      hits++;
    for (let blocks = 1; blocks * BLOCK <= promptTokenIds.length; blocks++) seen.add(key(blocks));
    return answer(sampling.maxTokens, hits * BLOCK);
  };
}

function answer(numTokens: number, cachedTokens: number): TokenEvent[] {
  const events = Array.from({ length: numTokens }, (_, i) => ({ tokenIds: [i], logprobs: [0] }));
  const last = events.pop()!;
  const finish = {
    reason: "length",
    usage: { ...NO_USAGE, cachedTokens },
    timing: NO_TIMING,
  } as const;
  return [...events, { ...last, finish }];
}

function clientWith(script: Script): FakeEngineClient {
  const client = new FakeEngineClient();
  client.script = script;
  return client;
}

/** Length of the prompt and number of tokens of each request. */
function asked(client: FakeEngineClient): (readonly [number, number])[] {
  return client.sequences.map(({ request }) => [
    request.promptTokenIds.length,
    request.sampling.maxTokens,
  ]);
}

describe("a run", () => {
  const single = (nPrompt: number, nGen: number, nDepth: number): Test => {
    return { kind: "single", nPrompt, nGen, nDepth };
  };

  test.each([
    ["a prompt is computed and one token picked", single(20, 0, 0), [[20, 1]]],
    [
      "an output is a step for each token, the first with a prompt of one",
      single(0, 5, 0),
      [[1, 5]],
    ],
    ["a pair is a prompt, its pick and a step for each token", single(20, 5, 0), [[20, 6]]],
    [
      "a depth is computed before, and the prompt follows it",
      single(20, 0, 32),
      [
        [32, 1],
        [52, 1],
      ],
    ],
    [
      "a pair behind a depth",
      single(20, 5, 32),
      [
        [32, 1],
        [52, 6],
      ],
    ],
    ["an output behind a depth is timed from the first pick on", single(0, 5, 33), [[33, 6]]],
  ] as const)("%s", async (_, test, expected) => {
    const client = clientWith(caching());
    const times = await new Measurer(client).run(test);
    expect(asked(client)).toEqual(expected.map((one) => [...one] as const));
    expect([...times.keys()]).toEqual(["both"]);
    expect(times.get("both")).toBeGreaterThanOrEqual(0);
  });

  test("of sequences side by side asks for the prompts alone, then for outputs behind them", async () => {
    const client = clientWith(caching());
    const test = { kind: "parallel", nPrompt: 20, nGen: 4, nParallel: 3, shared: false } as const;
    const times = await new Measurer(client).run(test);
    expect(asked(client)).toEqual([
      ...([
        [20, 1],
        [20, 1],
        [20, 1],
      ] as const),
      ...([
        [20, 5],
        [20, 5],
        [20, 5],
      ] as const),
    ]);
    const both = (times.get("prompt") ?? 0) + (times.get("gen") ?? 0);
    expect(times.get("both")).toBe(both);
  });

  test("of sequences with a shared prompt computes it once", async () => {
    const client = clientWith(caching());
    const test = { kind: "parallel", nPrompt: 20, nGen: 4, nParallel: 3, shared: true } as const;
    await new Measurer(client).run(test);
    expect(asked(client)).toEqual([
      [20, 1],
      [20, 5],
      [20, 5],
      [20, 5],
    ]);
    expect(new Set(client.sequences.map(({ request }) => request.promptTokenIds.join())).size).toBe(
      1,
    );
  });

  test("never asks for a prompt again, so that the prefix cache falsifies none", async () => {
    const client = clientWith(caching());
    const measurer = new Measurer(client);
    for (let run = 0; run < 20; run++) await measurer.run(single(BLOCK, 0, 0));
    const prompts = client.sequences.map(({ request }) => request.promptTokenIds.join());
    expect(new Set(prompts).size).toBe(20);
  });

  test("is no result where other KV was there than its name says", async () => {
    const forgetful = new Measurer(clientWith(({ sampling }) => answer(sampling.maxTokens, 0)));
    const error = await thrownBy(() => forgetful.run(single(20, 0, 32)));
    expect(error.message).toBe("pp20 @ d32: the KV of 0 tokens was there when it began, not of 32");
    const psychic = new Measurer(clientWith(({ sampling }) => answer(sampling.maxTokens, 16)));
    expect((await thrownBy(() => psychic.run(single(20, 0, 0)))).message).toContain(
      "16 tokens was there",
    );
    const test = { kind: "parallel", nPrompt: 20, nGen: 4, nParallel: 2, shared: false } as const;
    expect((await thrownBy(() => forgetful.run(test))).message).toContain("0 tokens was there");
  });
});

describe("a request", () => {
  test("tells when each token came, in order", async () => {
    const client = clientWith(() => answer(3, 0));
    const answered = await ask(client, randomTokens(4, 50, 1), 3);
    expect(answered.tokenIds).toEqual([0, 1, 2]);
    expect(answered.times).toEqual(answered.times.toSorted((a, b) => a - b));
    expect(answered.firstTokenAt).toBe(answered.times[0]!);
    expect(answered.endedAt).toBe(answered.times[2]!);
    expect(answered.askedAt).toBeLessThanOrEqual(answered.firstTokenAt);
  });

  test("that fails throws what the engine said", async () => {
    const error = { code: "out_of_memory", message: "no block left" };
    const finish = { reason: "error", error, usage: NO_USAGE, timing: NO_TIMING } as const;
    const client = clientWith(() => [{ tokenIds: [], logprobs: [], finish }]);
    const thrown = await thrownBy(() => ask(client, randomTokens(4, 50, 1), 3));
    expect([thrown.code, thrown.message]).toEqual(["out_of_memory", "no block left"]);
  });
});

describe("made-up tokens", () => {
  test("are the same for the same seed, and lie in the vocabulary", () => {
    expect(randomTokens(100, 50, 7)).toEqual(randomTokens(100, 50, 7));
    expect(randomTokens(100, 50, 7)).not.toEqual(randomTokens(100, 50, 8));
    expect(randomTokens(100, 50, 7).every((token) => token >= 0 && token < 50)).toBe(true);
    expect([...randomTokens(4, 49_152, 0)]).toEqual([...randomTokens(8, 49_152, 0).slice(0, 4)]);
  });
});

describe("the time of outputs side by side", () => {
  const answered = (
    ...times: number[]
  ): { firstTokenAt: number; endedAt: number; times: number[] } => {
    return { firstTokenAt: times[0]!, endedAt: times.at(-1)!, times };
  };

  test("is from the first tokens to the last ones where all began in one step", () => {
    expect(generationTime([answered(10, 20, 30), answered(10, 20, 30)], 4)).toBe(20);
  });

  test("is at the rate from when all had begun: what came before is not counted", () => {
    // 5 of 6 tokens came in the 30 after the last first token.
    const late = [answered(10, 20, 30, 40), answered(20, 30, 40, 50)];
    expect(generationTime(late, 6)).toBe((30 * 6) / 5);
  });
});
