/** Speculative decoding over a run, from the server's counters (vLLM's names, which kvengine has too). */

import type { Run } from "../types.ts";
import { counterByLabel, counterTotal } from "./counters.ts";

export interface Speculation {
  readonly drafts: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
  /** Accepted by drafted tokens, in percent as vLLM has it. */
  readonly acceptanceRate: number;
  /** Tokens a step brings, the one that is always right among them. */
  readonly acceptanceLength: number;
  /** By position in the draft; empty where the server does not tell. */
  readonly byPosition: readonly number[];
}

/** Undefined where nothing was drafted or the server does not tell. */
export function speculation(counters: Run["counters"]): Speculation | undefined {
  const drafts = counterTotal(counters, "vllm:spec_decode_num_drafts_total") ?? 0;
  const draftTokens = counterTotal(counters, "vllm:spec_decode_num_draft_tokens_total") ?? 0;
  const acceptedTokens = counterTotal(counters, "vllm:spec_decode_num_accepted_tokens_total") ?? 0;
  if (drafts === 0 || draftTokens === 0) return undefined;
  const positions =
    counterByLabel(counters, "vllm:spec_decode_num_accepted_tokens_per_pos_total", "position") ??
    {};
  return {
    drafts,
    draftTokens,
    acceptedTokens,
    acceptanceRate: (acceptedTokens / draftTokens) * 100,
    acceptanceLength: 1 + acceptedTokens / drafts,
    byPosition: Object.entries(positions)
      .sort(([a], [b]) => Number(a) - Number(b))
      .map(([, accepted]) => accepted / drafts),
  };
}
