/** Constructed misses: what came before, the request that is asked about, and what is said of it. */

import { expect } from "bun:test";
import type { PromptExplanation } from "../../engine/server/explain/explanation.ts";
import { ExplainWorld } from "./explain-world.ts";
import type { WorldOptions } from "./scheduler-world.ts";

/** What came before, and the request that is asked about. */
export interface Miss {
  readonly name: string;
  readonly options?: Partial<WorldOptions>;
  /** Answers the request, and one that it is to be compared with. */
  readonly play: (explained: ExplainWorld) => Promise<readonly [number, number?]>;
  readonly told: Partial<PromptExplanation>;
  readonly says?: string;
}

const LONG = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while. ";
export const text = (length: number, start = ""): string =>
  (start + LONG.repeat(20)).slice(0, length);
/** 24 blocks of eight tokens. */
export const TIGHT: Pick<WorldOptions, "numBlocks"> = { numBlocks: 24 };

export const removedBy = (by: number | null): PromptExplanation["removed"] => ({
  at: expect.any(Number),
  by_request: by,
  tier_dropped_at: null,
});

/** A prompt, and another that takes all blocks. */
export async function evictAll(explained: ExplainWorld): Promise<void> {
  await explained.send(text(100));
  await explained.send(text(190, "Other. "));
}

/** Plays a case and holds what is said against it. */
export async function checkMiss({ options, play, told, says }: Miss): Promise<void> {
  const explained = await ExplainWorld.create(options);
  const [handle, against] = await play(explained);
  const explanation = explained.why(handle, against);
  expect(explanation).toMatchObject(told);
  if (says !== undefined) expect(explanation.sentence).toContain(says);
  const { runs } = explanation;
  expect(runs[0]?.start).toBe(0);
  expect(runs.at(-1)?.end).toBe(explanation.prompt_tokens);
  for (const [i, run] of runs.entries()) expect(run.start).toBe(runs[i - 1]?.end ?? 0);
  const cached = runs.filter(({ state }) => state === "cached");
  const numCached = cached.reduce((sum, { start, end }) => sum + end - start, 0);
  expect(numCached).toBe(explanation.cached_tokens);
  await explained.world.drain();
  await explained.world.stop();
}
