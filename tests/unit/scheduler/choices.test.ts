/** `n` choices of one prompt. */

import { describe, expect, test } from "bun:test";
import {
  FULL,
  makeRequest,
  promptOf,
  requestId,
  windowOf,
  World,
} from "../../support/scheduler-world.ts";

const ROOMY = { maxNumSeqs: 8, maxNumBatchedTokens: 64, blockSize: 4, numBlocks: 100 };

function addChoices(world: World, n: number, promptTokens: number, maxTokens = 10): void {
  for (let choice = 0; choice < n; choice++) {
    const sampling = { temperature: 1, choice, maxTokens };
    const more = choice === 0 ? {} : { leader: requestId(0) };
    world.add(choice, makeRequest(choice, promptOf(promptTokens, 1, 50), sampling, more));
  }
}

describe("n choices", () => {
  test.each([13, 14, 15, 16, 17])("compute a prompt of %p tokens once", async (promptTokens) => {
    const world = await World.create(ROOMY);
    addChoices(world, 4, promptTokens);
    await world.drain();
    const [first, second] = world.runner.seen;
    expect(first!.counts).toEqual([promptTokens]);
    // The others compute its last token again, each in a block of its own, beside the first one's decode.
    expect(second!.counts).toEqual([1, 1, 1, 1]);
    expect(second!.starts).toEqual([promptTokens, ...Array(3).fill(promptTokens - 1)]);
    for (let choice = 0; choice < 4; choice++) {
      world.expectAsAlone(choice);
      expect(world.received.get(choice)!.finish?.usage.cachedTokens).toBe(
        choice === 0 ? 0 : promptTokens - 1,
      );
    }
    const answers = new Set([...world.received.values()].map(({ tokens }) => tokens.join()));
    expect(answers.size).toBe(4);
    await world.runner.stop();
  });

  test("share whole blocks and copy the last one", async () => {
    const world = await World.create(ROOMY);
    addChoices(world, 3, 14);
    world.submit(2);
    // Three whole blocks are shared; each choice has its own fourth.
    expect(world.scheduler.pool.numUsed).toBe(3 + 3);
    expect(world.runner.seen[1]!.copies.length).toBe(2 * 2);
    await world.end();
    for (let choice = 0; choice < 3; choice++) world.expectAsAlone(choice);
  });

  test("copy nothing when the last token begins a block", async () => {
    const world = await World.create(ROOMY);
    addChoices(world, 3, 13);
    world.submit(2);
    expect(world.runner.seen[1]!.copies.length).toBe(0);
    await world.end();
    for (let choice = 0; choice < 3; choice++) world.expectAsAlone(choice);
  });

  test("go on when the first is aborted before, while and after they share", async () => {
    for (const when of [0, 1, 2, 3]) {
      const world = await World.create({ ...ROOMY, maxNumBatchedTokens: 8 });
      addChoices(world, 3, 15);
      for (let step = 0; step < when; step++) {
        world.submit();
        await world.commit();
      }
      world.abort(0);
      await world.end();
      for (const choice of [1, 2]) world.expectAsAlone(choice);
    }
  });

  test("more of them than seats, in a pool that holds only some, get the same answers", async () => {
    const world = await World.create({ ...ROOMY, maxNumSeqs: 3, numBlocks: 9 });
    addChoices(world, 7, 14, 12);
    await world.end();
    for (let choice = 0; choice < 7; choice++) world.expectAsAlone(choice);
  });

  test("without a prefix cache, and with windows, the answers are the same", async () => {
    for (const groups of [[FULL], [FULL, windowOf(5)]]) {
      const world = await World.create({ ...ROOMY, groups, enablePrefixCaching: false });
      addChoices(world, 4, 22);
      await world.end();
      for (let choice = 0; choice < 4; choice++) world.expectAsAlone(choice);
    }
  });

  test("when the step that computes the prompt fails, the others compute it themselves", async () => {
    const world = await World.create({ ...ROOMY, enablePrefixCaching: false });
    addChoices(world, 3, 14);
    world.runner.failNextStep("chance");
    world.submit(2);
    await world.end();
    expect(world.received.get(0)!.finish?.reason).toBe("error");
    for (const choice of [1, 2]) world.expectAsAlone(choice);
  });
});
