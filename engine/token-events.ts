/** The events of a message from the engine, request by request. */

import type { ErrorData } from "./errors.ts";
import type { Finish, GenerateRequest, TokenEvent } from "./request.ts";
import type { StepEvents } from "./scheduler/step-events.ts";

/** Calls `push` with the event of each request that the step had news of. */
export function eachEvent(
  events: StepEvents,
  push: (handle: number, event: TokenEvent) => void,
): void {
  const { handles, tokenStart, tokenIds, logprobs, tops, cached, prompts, finishes } = events;
  let [nextTop, nextCached, nextPrompt, nextFinish] = [0, 0, 0, 0];
  for (let i = 0; i < handles.length; i++) {
    const from = tokenStart[i] as number;
    const to = tokenStart[i + 1] as number;
    const firstTop = nextTop;
    while (nextTop < tops.length && tops[nextTop]!.index < to) nextTop++;
    const hit = cached[nextCached]?.index === i ? cached[nextCached++] : undefined;
    const prompt = prompts[nextPrompt]?.index === i ? prompts[nextPrompt++] : undefined;
    const finish = finishes[nextFinish]?.index === i ? finishes[nextFinish++] : undefined;
    const tokens = { tokenIds: slice(tokenIds, from, to), logprobs: slice(logprobs, from, to) };
    const isPlain = firstTop === nextTop && !hit && !prompt && !finish;
    if (isPlain) {
      push(handles[i] as number, tokens);
      continue;
    }
    push(handles[i] as number, {
      ...tokens,
      ...(firstTop === nextTop
        ? {}
        : { tops: tops.slice(firstTop, nextTop).map(({ top }) => top) }),
      ...(hit === undefined ? {} : { cachedTokens: hit.numTokens, cacheReceipt: hit.receipt }),
      ...(prompt === undefined ? {} : { promptLogprobs: prompt.logprobs }),
      ...(finish === undefined ? {} : { finish: finish.finish }),
    });
  }
}

/** The end of a request that the engine did not take, or cannot go on with. */
export function failureOf(request: GenerateRequest | undefined, error: ErrorData): TokenEvent {
  const promptTokens = request?.promptTokenIds.length ?? 0;
  const usage = { promptTokens, completionTokens: 0, cachedTokens: 0 };
  const timing = { queued: 0, prefill: 0, decode: 0 };
  const finish: Finish = { reason: "error", error, usage, timing };
  return { tokenIds: [], logprobs: [], finish };
}

/** Most are of one token: cheaper than `Array.from(values.subarray(from, to))`. */
function slice(values: Int32Array | Float32Array, from: number, to: number): number[] {
  const numbers: number[] = [];
  for (let i = from; i < to; i++) numbers.push(values[i] as number);
  return numbers;
}
