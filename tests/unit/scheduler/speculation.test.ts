/** Drafts that are looked up in the text so far: faster, never different. */

import { describe, expect, test } from "bun:test";
import { makeRequest, promptOf, World } from "../../support/scheduler-world.ts";

/** With three tokens in the vocabulary a guess is right one time in three. */
const GUESSABLE = {
  maxNumSeqs: 4,
  maxNumBatchedTokens: 32,
  blockSize: 4,
  numBlocks: 100,
  vocabSize: 3,
};
const NGRAM = { ...GUESSABLE, speculative: "ngram", speculativeNgram: [1, 2] } as const;

describe("speculation", () => {
  test("tokens are the same with it and without", async () => {
    const answers: (readonly number[])[][] = [];
    for (const options of [GUESSABLE, NGRAM]) {
      const world = await World.create(options);
      for (let handle = 0; handle < 6; handle++)
        world.add(handle, makeRequest(handle, promptOf(5 + handle, handle, 3), { maxTokens: 40 }));
      await world.end();
      answers.push([...world.received.values()].map(({ tokens }) => tokens));
      for (let handle = 0; handle < 6; handle++) world.expectAsAlone(handle);
    }
    expect(answers[1]).toEqual(answers[0]!);
  });

  test("drafts that are right save steps; the counters say how many", async () => {
    const world = await World.create(NGRAM);
    world.add(1, makeRequest(1, promptOf(9, 1, 3), { maxTokens: 60 }));
    await world.end();
    const { drafts, draftTokens, acceptedTokens } = world.scheduler.takeStats();
    expect(acceptedTokens).toBeGreaterThan(0);
    expect(draftTokens).toBeGreaterThan(acceptedTokens);
    expect(drafts).toBeGreaterThan(0);
    expect(world.commits).toBe(60 - acceptedTokens);
  });

  test("a request with drafts in flight is scheduled again after they have committed; others are not held up", async () => {
    const world = await World.create(NGRAM);
    world.add(1, makeRequest(1, [1, 2, 1, 2, 1, 2], { maxTokens: 30 }));
    await world.drain();
    for (const [i, step] of world.runner.seen.entries()) {
      const next = world.runner.seen[i + 1];
      if (step.counts[0]! > 1 && i > 0 && next !== undefined)
        expect(next.starts[0]!).toBeLessThanOrEqual(step.starts[0]! + step.counts[0]!);
    }
    world.expectAsAlone(1);
    await world.runner.stop();
  });

  test("drafts never go past max_tokens, a stop id or the pool", async () => {
    for (const maxTokens of [1, 2, 3, 7]) {
      const world = await World.create({ ...NGRAM, numBlocks: 5 });
      world.add(
        1,
        makeRequest(1, promptOf(12, 2, 3), { maxTokens, stopTokenIds: maxTokens > 3 ? [2] : [] }),
      );
      await world.end();
      world.expectAsAlone(1);
    }
  });

  test("drafts leave the budget that other requests' next tokens need", async () => {
    const world = await World.create({ ...NGRAM, maxNumBatchedTokens: 4 });
    for (let handle = 0; handle < 4; handle++)
      world.add(handle, makeRequest(handle, promptOf(4, handle, 3), { maxTokens: 20 }));
    await world.end();
    for (let handle = 0; handle < 4; handle++) world.expectAsAlone(handle);
  });
});
