/** Constructed misses: for each one the cause, and how far the prompt was cached. */

import { describe, expect, test } from "bun:test";
import { ExplainWorld } from "../../support/explain-world.ts";
import {
  checkMiss,
  evictAll,
  type Miss,
  removedBy,
  text,
  TIGHT,
} from "../../support/miss-cases.ts";
import { EPOCH, FULL, STATE, windowOf } from "../../support/scheduler-world.ts";

const MISSES: readonly Miss[] = [
  {
    name: "the first request since the engine started, as after a restart without a disk",
    play: async (explained) => [await explained.send(text(100))],
    told: { cause: "never_stored", hit_tokens: 0, request: 1 },
    says: "the first request since the engine started",
  },
  {
    name: "the same prompt again: nothing is missed but the block that is not full",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100))];
    },
    told: { cause: "none", hit_tokens: 96, cached_tokens: 96, tiers: { device: 96 } },
  },
  {
    name: "the same prompt of whole blocks again: the last token is always computed",
    play: async (explained) => {
      await explained.send(text(96));
      return [await explained.send(text(96))];
    },
    told: { cause: "none", hit_tokens: 88 },
    says: "always computed",
  },
  {
    name: "a prompt shorter than a block",
    play: async (explained) => {
      await explained.send(text(8));
      return [await explained.send(text(8))];
    },
    told: { cause: "short_prompt", hit_tokens: 0 },
  },
  {
    name: "another word in the first block",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100, "Then "))];
    },
    told: { cause: "differs", difference: "prompt", hit_tokens: 0 },
    says: 'token 3 ("n") is the first that differs from request 1',
  },
  {
    name: "another first token than any request before",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100, "Now "))];
    },
    told: { cause: "never_stored", hit_tokens: 0, request: 2 },
    says: "no request since the engine started has computed",
  },
  {
    name: "a longer prompt: what is behind the earlier one is new",
    play: async (explained) => {
      await explained.send(text(60), { maxTokens: 1 });
      return [await explained.send(`${text(60)}!!! And a new question, longer than a block.`)];
    },
    told: { cause: "new_tokens", hit_tokens: 56 },
    says: "in a block of 8 not yet full",
  },
  {
    name: "the next turn, with the answer as it was",
    play: async (explained) => {
      const first = await explained.send(text(60), { maxTokens: 11 });
      const turn = [...explained.tokenizer.encode(text(60), { parseSpecial: true })];
      const next = [...turn, ...explained.answerOf(first), ...turn];
      return [await explained.send(next)];
    },
    told: { cause: "new_tokens", hit_tokens: 64 },
  },
  {
    name: "the next turn, with the answer in other tokens",
    play: async (explained) => {
      const first = await explained.send(text(60), { maxTokens: 40 });
      const turn = [...explained.tokenizer.encode(text(60), { parseSpecial: true })];
      const answer = explained.answerOf(first).with(20, 256);
      return [await explained.send([...turn, ...answer, ...turn])];
    },
    told: { cause: "differs", hit_tokens: 80 },
    says: "is the first that differs from the answer of request 1",
  },
  {
    name: "the block that the last token of an answer completes: its KV was never computed",
    play: async (explained) => {
      const first = await explained.send(text(60), { maxTokens: 4 });
      const turn = [...explained.tokenizer.encode(text(60), { parseSpecial: true })];
      return [await explained.send([...turn, ...explained.answerOf(first), ...turn])];
    },
    told: { cause: "not_computed", hit_tokens: 56 },
  },
  {
    name: "the first request with a salt",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100), { cacheSalt: "a" })];
    },
    told: { cause: "other_salt", hit_tokens: 0, closest: null, against: null },
    says: "the first request with its cache_salt",
  },
  {
    name: "the same tokens under another salt",
    play: async (explained) => {
      const first = await explained.send(text(100), { cacheSalt: "a" });
      await explained.send(text(50, "Yes. "), { cacheSalt: "b" });
      return [await explained.send(text(100), { cacheSalt: "b" }), first];
    },
    told: { cause: "other_salt", hit_tokens: 0 },
    says: "request 1 has the same tokens under another cache_salt",
  },
  {
    name: "the same tokens without the salt that they were computed under",
    play: async (explained) => {
      const first = await explained.send(text(100), { cacheSalt: "a" });
      return [await explained.send(text(100)), first];
    },
    told: { cause: "other_salt", hit_tokens: 0 },
  },
  {
    name: "eviction of everything",
    options: TIGHT,
    play: async (explained) => {
      await evictAll(explained);
      return [await explained.send(text(100))];
    },
    told: {
      cause: "evicted",
      hit_tokens: 0,
      removed: removedBy(2),
      runs: [
        { start: 0, end: 96, state: "evicted", tier: null },
        { start: 96, end: 100, state: "last", tier: null },
      ],
    },
    says: "when request 2 needed room",
  },
  {
    name: "eviction of the tail, while the head is still there",
    options: TIGHT,
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(120, "Other. "));
      return [await explained.send(text(100))];
    },
    told: {
      cause: "evicted",
      hit_tokens: 64,
      removed: removedBy(2),
    },
  },
  {
    name: "eviction that is no longer remembered",
    options: { ...TIGHT, explains: { maxRemovals: 4 } },
    play: async (explained) => {
      await evictAll(explained);
      await explained.send(text(190, "Third. "));
      return [await explained.send(text(100))];
    },
    told: { cause: "unknown", hit_tokens: 0, removed: null },
  },
  {
    name: "an earlier prompt that is no longer remembered",
    options: { explains: { maxRequests: 2 } },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(40, "Other. "));
      return [await explained.send(`${text(80)}${text(40, "Else. ")}`)];
    },
    told: {
      cause: "never_stored",
      hit_tokens: 80,
      token: expect.objectContaining({ position: 80 }),
    },
  },
  {
    name: "a reset of the prefix cache",
    play: async (explained) => {
      await explained.send(text(100));
      explained.world.scheduler.resetPrefixCache();
      return [await explained.send(text(100))];
    },
    told: {
      cause: "reset",
      hit_tokens: 0,
      removed: removedBy(null),
    },
  },
  {
    name: "a reset while the earlier request was being computed",
    options: { maxPrefillTokens: 16 },
    play: async (explained) => {
      explained.add(text(100));
      explained.world.submit(1);
      explained.world.scheduler.resetPrefixCache();
      await explained.world.drain();
      // Of the new generation: the first blocks are shared again.
      await explained.send(text(30));
      return [await explained.send(text(100))];
    },
    told: { cause: "reset", hit_tokens: 24, removed: null },
  },
  {
    name: "a step that failed",
    play: async (explained) => {
      explained.world.runner.failNextStep("chance");
      await explained.send(text(100));
      return [await explained.send(text(100))];
    },
    told: {
      cause: "step_failed",
      hit_tokens: 0,
      removed: removedBy(null),
    },
  },
  {
    name: "an earlier request that was aborted half way",
    options: { maxPrefillTokens: 32 },
    play: async (explained) => {
      const first = explained.add(text(100));
      explained.world.submit(2);
      explained.world.abort(first);
      await explained.world.drain();
      return [await explained.send(text(100))];
    },
    told: { cause: "not_computed", hit_tokens: 64 },
  },
  {
    name: "an earlier request that was still being answered",
    play: async (explained) => {
      explained.add(text(61), { maxTokens: 20 });
      explained.world.submit(1);
      await explained.world.commit();
      return [await explained.send(text(100))];
    },
    told: { cause: "in_progress", hit_tokens: 56 },
  },
  {
    name: "prefix caching that is off",
    options: { enablePrefixCaching: false },
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100))];
    },
    told: { cause: "caching_off", hit_tokens: 0 },
    says: "--no-enable-prefix-caching",
  },
  {
    name: "log-probabilities of the prompt",
    play: async (explained) => {
      await explained.send(text(100));
      return [await explained.send(text(100), { promptLogprobs: 0 })];
    },
    told: { cause: "prompt_logprobs", hit_tokens: 0 },
  },
  {
    name: "layers with a window",
    options: { numBlocks: 40, groups: [FULL, windowOf(20)] },
    play: async (explained) => {
      await explained.send(text(100));
      await explained.send(text(60, "Other. "));
      await explained.send(text(40, "Third. "));
      return [await explained.send(text(100))];
    },
    told: { cause: "evicted" },
  },
  {
    name: "layers with a state: eviction of the last states",
    options: { numBlocks: 80, groups: [FULL, STATE] },
    play: async (explained) => {
      for (const start of ["", "Other. ", "Third. "]) await explained.send(text(90, start));
      await explained.send(text(90, "Fourth. "));
      return [await explained.send(text(90))];
    },
    told: { cause: "evicted" },
  },
];

describe("a miss by", () => {
  test.each(MISSES)("$name", checkMiss);

  test("times are those of the world's clock", async () => {
    const explained = await ExplainWorld.create(TIGHT);
    await explained.send(text(100));
    const before = explained.world.now;
    await explained.send(text(190, "Other. "));
    const after = explained.world.now;
    const { removed } = explained.why(await explained.send(text(100)));
    const at = (removed?.at ?? 0) * 1000 - EPOCH;
    expect(at).toBeGreaterThanOrEqual(before);
    expect(at).toBeLessThanOrEqual(after);
    await explained.world.stop();
  });
});
