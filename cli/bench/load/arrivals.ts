/** When conversations are due, by vLLM's definitions (`vllm/benchmarks/serve.py`, get_request). */

import { randomGamma } from "d3-random";
import type { Conversation, LoadPlan } from "../types.ts";
import { rampValue } from "./ramp.ts";
import { seededRandom } from "./random.ts";

export interface Arrival {
  readonly conversation: Conversation;
  /** Milliseconds from the start of the run. */
  readonly due: number;
}

/**
 * All conversations in the order in which they are due: at their own times where the workload is a timed trace, at once
 * where there is no rate, else after gaps of a gamma distribution with the mean `1 / rate` and the shape `burstiness`.
 * Without a ramp the gaps are scaled so that the last one ends at `count / rate`: seeds differ in the pattern, not in the rate.
 */
export function arrivals(conversations: readonly Conversation[], plan: LoadPlan): Arrival[] {
  if (conversations.some(({ at }) => at !== undefined)) {
    return conversations
      .map((conversation) => ({ conversation, due: conversation.at ?? 0 }))
      .toSorted((a, b) => a.due - b.due);
  }
  const times = Number.isFinite(plan.requestRate) ? ratedTimes(conversations.length, plan) : [];
  return conversations.map((conversation, i) => ({ conversation, due: times[i] ?? 0 }));
}

function ratedTimes(count: number, plan: LoadPlan): number[] {
  const { requestRate, ramp, durationMs, seed } = plan;
  const gap = gaps(plan.burstiness, seed);
  const times: number[] = [];
  let time = 0;
  for (let i = 0; i < count; i++) {
    const progress = Number.isFinite(durationMs) ? time / durationMs : i / Math.max(1, count - 1);
    const rate = ramp === undefined ? requestRate : rampValue(ramp, progress);
    time += (gap() / rate) * 1000;
    times.push(time);
  }
  if (ramp !== undefined) return times;
  const scale = time === 0 ? 1 : ((count / requestRate) * 1000) / time;
  return times.map((one) => one * scale);
}

/** Gaps with the mean 1. */
function gaps(burstiness: number, seed: number): () => number {
  if (burstiness === Number.POSITIVE_INFINITY) return () => 1;
  return randomGamma.source(seededRandom(seed))(burstiness, 1 / burstiness);
}
