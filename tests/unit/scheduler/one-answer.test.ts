/** Whatever else runs, a request gets the tokens it gets alone, and nothing is left behind. */

import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { blocksNeeded } from "../../../engine/request-limits.ts";
import { expectedOf, makeRequest, promptOf, spell, World } from "../../support/scheduler-world.ts";

const VOCABULARY = 24;

const arrival = fc.record({
  kind: fc.constant("arrive" as const),
  promptTokens: fc.integer({ min: 1, max: 30 }),
  salt: fc.nat(20),
  maxTokens: fc.integer({ min: 1, max: 14 }),
  temperature: fc.constantFrom(0, 1),
  seed: fc.nat(1000),
  choice: fc.nat(3),
  stopTokenIds: fc.uniqueArray(fc.nat(VOCABULARY - 1), { maxLength: 3 }),
  /** Output index at which a stop string of two tokens ends, if it is reached. */
  stopStringAt: fc.option(fc.integer({ min: 1, max: 10 }), { freq: 4, nil: undefined }),
});

const command = fc.oneof(
  { weight: 4, arbitrary: arrival },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      most: fc.integer({ min: 1, max: 2 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("commit" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("abort" as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const) }) },
);

const pool = fc.record({
  maxNumSeqs: fc.integer({ min: 1, max: 6 }),
  maxNumBatchedTokens: fc.integer({ min: 1, max: 40 }),
  maxPrefillTokens: fc.integer({ min: 1, max: 40 }),
  blockSize: fc.integer({ min: 1, max: 5 }),
  numGroups: fc.integer({ min: 1, max: 2 }),
  /** Blocks beyond what the largest request needs. */
  spareBlocks: fc.nat(30),
});

test("every finished request has exactly the tokens it has alone; first tokens come in order; nothing is left", async () => {
  await fc.assert(
    fc.asyncProperty(
      pool,
      fc.array(command, { maxLength: 60, size: "max" }),
      async (options, commands) => {
        const limits = { ...options, maxModelLen: 1000, vocabSize: VOCABULARY, numBlocks: 0 };
        const requests = commands
          .filter((step) => step.kind === "arrive")
          .map((step, handle) => {
            const prompt = promptOf(step.promptTokens, step.salt, VOCABULARY);
            const { maxTokens, temperature, choice, stopTokenIds } = step;
            const sampling = {
              maxTokens,
              temperature,
              choice,
              stopTokenIds,
              seed: [step.seed, 9] as const,
            };
            const plain = makeRequest(handle, prompt, sampling);
            if (step.stopStringAt === undefined) return plain;
            const tokens = expectedOf(plain, {
              vocabSize: VOCABULARY,
              numGroups: options.numGroups,
            }).tokens;
            const end = tokens.slice(step.stopStringAt - 1, step.stopStringAt + 1);
            return end.length < 2
              ? plain
              : makeRequest(handle, prompt, { ...sampling, stop: [spell(end)] });
          });
        const largest = Math.max(
          1,
          ...requests.map((r) =>
            blocksNeeded(r.promptTokenIds.length, r.sampling.maxTokens, limits),
          ),
        );
        const world = new World({
          ...options,
          vocabSize: VOCABULARY,
          numBlocks: largest + options.spareBlocks,
        });
        const aborted = new Set<number>();
        let arrived = 0;
        for (const step of commands) {
          if (step.kind === "arrive") {
            world.add(arrived, requests[arrived]!);
            arrived++;
          } else if (step.kind === "submit") {
            world.submit(step.most);
          } else if (step.kind === "commit") {
            if (world.runner.queued > 0) await world.commit();
          } else if (step.kind === "fail") {
            world.runner.failNextStep("chance");
          } else if (arrived > 0) {
            const handle = step.pick % arrived;
            if (world.received.get(handle)!.finish === undefined) aborted.add(handle);
            world.abort(handle);
          }
        }
        await world.drain();

        let firstTokenAt = -1;
        for (const [handle, received] of world.received) {
          if (aborted.has(handle) || received.finish?.reason === "error") {
            expect(received.finish?.reason).toBe(aborted.has(handle) ? "abort" : "error");
            if (received.finish?.error !== undefined)
              expect(received.finish.error.message).toBe("chance");
            const alone = expectedOf(received.request, world).tokens;
            expect(received.tokens).toEqual(alone.slice(0, received.tokens.length));
            continue;
          }
          world.expectAsAlone(handle);
          if (received.firstTokenAt < 0) continue;
          expect(received.firstTokenAt).toBeGreaterThanOrEqual(firstTokenAt);
          firstTokenAt = received.firstTokenAt;
        }
        expect(world.scheduler.pool.freeIds().toSorted((a, b) => a - b)).toEqual(
          Array.from({ length: largest + options.spareBlocks }, (_, i) => i + 1),
        );
      },
    ),
    { numRuns: 1500, seed: 7 },
  );
}, 120_000);
