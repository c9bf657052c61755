/** What a request must get, from the definition of the witness alone. */

import type { GroupSpec } from "../../engine/cache/kv-cache.ts";
import type { Finish, GenerateRequest } from "../../engine/request.ts";
import type { StopChecker } from "../../engine/scheduler/sequence.ts";
import { witnessTokens } from "./witness.ts";

/** The text of a token: one character. */
function textOf(token: number): string {
  return String.fromCodePoint(0x100 + token);
}

/** A stop string that tokens spell. */
export function spell(tokens: readonly number[]): string {
  return tokens.map(textOf).join("");
}

export function createStopChecker(stops: readonly string[]): StopChecker {
  let text = "";
  return (token) => {
    text += textOf(token);
    return stops.find((stop) => text.endsWith(stop));
  };
}

/** What decides a request's answer beside the request itself. */
export interface Definition {
  readonly vocabSize: number;
  readonly groups: readonly GroupSpec[];
}

/** Tokens and end of a request, without what depends on company: time and cached tokens. */
export interface Answer {
  readonly tokens: readonly number[];
  readonly reason: Finish["reason"] | undefined;
  readonly stopReason: string | number | undefined;
  readonly promptTokens: number | undefined;
  readonly completionTokens: number | undefined;
}

/** What a request must get when nothing goes wrong, from the definition alone. */
export function expectedOf(request: GenerateRequest, definition: Definition): Answer {
  const { sampling, promptTokenIds } = request;
  const check = createStopChecker(sampling.stop);
  const tokens: number[] = [];
  const promptTokens = promptTokenIds.length;
  for (const [index, token] of witnessTokens(promptTokenIds, sampling, definition).entries()) {
    const end = { promptTokens, completionTokens: index + 1 };
    if (sampling.stopTokenIds.includes(token))
      return { tokens, reason: "stop", stopReason: token, ...end };
    tokens.push(token);
    const stop = sampling.stop.length === 0 ? undefined : check(token);
    if (stop !== undefined) return { tokens, reason: "stop", stopReason: stop, ...end };
    if (tokens.length === sampling.maxTokens)
      return { tokens, reason: "length", stopReason: undefined, ...end };
  }
  throw new Error("a sequence without an end");
}

export function answerOf({
  tokens,
  finish,
}: {
  readonly tokens: number[];
  readonly finish: Finish | undefined;
}): Answer {
  return {
    tokens,
    reason: finish?.reason,
    stopReason: finish?.stopReason,
    promptTokens: finish?.usage.promptTokens,
    completionTokens: finish?.usage.completionTokens,
  };
}
