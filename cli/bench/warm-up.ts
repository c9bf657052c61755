/** Requests before a run that count for nothing. */

import type { Conversation, LoadPlan, Prompt, Workload } from "./types.ts";

/**
 * As many single requests like the workload's first one, with the prompt turned round: they cost what it costs, and the run finds
 * nothing of them in a prefix cache.
 */
export function warmUpConversations(workload: Workload, count: number): Conversation[] {
  const first = workload.conversations[0]?.turns[0];
  if (first === undefined) return [];
  const prompt = turnedRound(first.prompt([]));
  const turn = { ...first, thinkTimeMs: 0, prompt: () => prompt };
  return Array.from({ length: count }, (_, i) => ({ id: `warm-up-${i}`, turns: [turn] }));
}

/** The same concurrency, at once, to the end. */
export function warmUpPlan({ burstiness, maxConcurrency, seed }: LoadPlan): LoadPlan {
  return {
    requestRate: Number.POSITIVE_INFINITY,
    burstiness,
    maxConcurrency,
    durationMs: Number.POSITIVE_INFINITY,
    seed,
  };
}

function turnedRound(prompt: Prompt): Prompt {
  switch (prompt.kind) {
    case "tokens":
      return { kind: "tokens", tokenIds: prompt.tokenIds.toReversed() };
    case "text":
      return { kind: "text", text: wordsTurnedRound(prompt.text) };
    case "chat":
      return {
        kind: "chat",
        messages: prompt.messages.map(({ role, content }) => ({
          role,
          content: wordsTurnedRound(content),
        })),
      };
  }
}

function wordsTurnedRound(text: string): string {
  return text.split(" ").toReversed().join(" ");
}
