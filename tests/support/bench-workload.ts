/** Workloads of known shape for the bench's client. */

import type { Conversation, LoadPlan, Turn, Workload } from "../../cli/bench/types.ts";

export interface WorkloadShape {
  /** Turns of each conversation. */
  readonly turns: readonly number[];
  readonly thinkTimeMs?: number;
  readonly promptTokens?: number;
  readonly maxTokens?: number;
}

/** Prompts of token ids that no other turn has: conversation, turn, then the number of answers before. */
export function shapedWorkload({
  turns,
  thinkTimeMs = 0,
  promptTokens = 8,
  maxTokens = 4,
}: WorkloadShape): Workload {
  const conversations = turns.map((numTurns, c): Conversation => {
    const all = Array.from({ length: numTurns }, (_, t): Turn => ({
      thinkTimeMs: t === 0 ? 0 : thinkTimeMs,
      maxTokens,
      ignoreEos: true,
      numPromptTokens: promptTokens,
      prompt: (before) => ({
        kind: "tokens",
        tokenIds: Array.from({ length: promptTokens }, (_, i) => [c, t, before.length][i] ?? i),
      }),
    }));
    return { id: `c${c}`, turns: all };
  });
  return { name: "shaped", seed: 0, parameters: {}, conversations };
}

/** Conversations of one turn. */
export function singleTurns(count: number): Workload {
  return shapedWorkload({ turns: Array.from({ length: count }, () => 1) });
}

/** As fast as it goes, to the end; but for what is given. */
export function planWith(changes: Partial<LoadPlan> = {}): LoadPlan {
  return {
    requestRate: Number.POSITIVE_INFINITY,
    burstiness: 1,
    maxConcurrency: Number.POSITIVE_INFINITY,
    durationMs: Number.POSITIVE_INFINITY,
    seed: 0,
    ...changes,
  };
}
