/** I28: what needs no transfer between tiers changes no token: each variant is made to happen, and compared with the plain run. */

import { describe, expect, test } from "bun:test";
import type { EngineStats } from "../../../engine/request.ts";
import {
  FULL,
  makeRequest,
  promptOf,
  STATE,
  windowOf,
  World,
  type WorldOptions,
} from "../../support/scheduler-world.ts";

const PLAIN: WorldOptions = {
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  blockSize: 4,
  numBlocks: 300,
  vocabSize: 6,
  enablePrefixCaching: false,
};

/** Greedy and seeded ones with stop ids, prompts that share beginnings and whole prompts. */
function addAll(world: World, first: number): void {
  for (let i = 0; i < 10; i++) {
    const prompt = [...promptOf(4 + 5 * (i % 4), i % 2, 6), ...(i < 5 ? [] : [i % 6, 2])];
    const sampling = {
      maxTokens: 6 + i,
      temperature: i % 2,
      seed: [i, 3] as const,
      stopTokenIds: i === 4 ? [1] : [],
    };
    world.add(first + i, makeRequest(first + i, prompt, sampling));
  }
}

interface Play {
  readonly tokens: (readonly number[])[];
  readonly stats: EngineStats;
  readonly steps: number;
}

/** `rounds`: how often the same requests are served, one round after the other; the last one's tokens count. */
async function play(
  options: WorldOptions,
  { rounds = 1, resetEvery = 0, ahead = 2 } = {},
): Promise<Play> {
  const world = await World.create(options);
  for (let round = 0; round < rounds; round++) {
    addAll(world, 100 * round);
    for (let step = 1; world.submit(ahead) || world.runner.queued > 0; step++) {
      if (resetEvery > 0 && step % resetEvery === 0) world.scheduler.resetPrefixCache();
      await world.commit();
    }
  }
  const tokens = Array.from(
    { length: 10 },
    (_, i) => world.received.get(100 * (rounds - 1) + i)!.tokens,
  );
  const stats = world.scheduler.takeStats();
  await world.end();
  return { tokens, stats, steps: world.commits };
}

describe.each([
  ["full attention", [FULL]],
  ["a window beside it", [FULL, windowOf(6)]],
  ["a state beside it", [FULL, STATE]],
] as const)(
  "I28: tokens with %s are the same as without cache, company and chunks",
  (_, groups) => {
    const plain = { ...PLAIN, groups };
    const cached = { ...plain, enablePrefixCaching: true };
    const base = play({ ...plain, maxNumSeqs: 1 }, { ahead: 1 });

    test.each([
      ["in one batch", plain, {}, () => true],
      ["with a cache that is empty", cached, {}, () => true],
      ["found in the cache", cached, { rounds: 2 }, ({ stats }: Play) => stats.prefixHits > 100],
      [
        "preempted",
        { ...plain, numBlocks: 9 * groups.length },
        {},
        ({ stats }: Play) => stats.preemptions > 2,
      ],
      [
        "preempted and found again",
        { ...cached, numBlocks: 9 * groups.length },
        { rounds: 2 },
        ({ stats }: Play) => stats.preemptions > 2 && stats.prefixHits > 0,
      ],
      ["in chunks of 1", { ...plain, maxPrefillTokens: 1 }, {}, ({ steps }: Play) => steps > 100],
      [
        "in chunks of 3, found in the cache",
        { ...cached, maxPrefillTokens: 3 },
        { rounds: 2 },
        ({ stats, steps }: Play) => steps > 40 && stats.prefixHits > 100,
      ],
      [
        "in steps of 2 tokens",
        { ...cached, maxNumBatchedTokens: 2 },
        {},
        ({ steps }: Play) => steps > 60,
      ],
      [
        "in blocks of 1",
        { ...cached, blockSize: 1 },
        { rounds: 2 },
        ({ stats }: Play) => stats.prefixHits > 100,
      ],
      ["in blocks of 16", { ...cached, blockSize: 16 }, {}, () => true],
      ["reset at every step", cached, { rounds: 2, resetEvery: 1 }, () => true],
      [
        "reset at every third step, preempted",
        { ...cached, numBlocks: 9 * groups.length },
        { rounds: 2, resetEvery: 3 },
        ({ stats }: Play) => stats.preemptions > 2,
      ],
      ["one step at a time", cached, { ahead: 1 }, () => true],
      ["four steps ahead", cached, { ahead: 4, rounds: 2 }, () => true],
      [
        "with drafts",
        { ...cached, speculative: "ngram", speculativeNgram: [1, 2] } as const,
        { rounds: 2 },
        ({ stats }: Play) =>
          stats.acceptedTokens > 0 || groups.some(({ kind }) => kind === "state"),
      ],
    ] as const)("%s", async (_, options, how, happened) => {
      const found = await play(options, how);
      expect(found.tokens).toEqual((await base).tokens);
      expect(happened(found)).toBe(true);
    });
  },
);
