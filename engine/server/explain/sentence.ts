/** An explanation in words. */

import type { PromptExplanation, TokenExplanation } from "./explanation.ts";

type Told = Omit<PromptExplanation, "sentence" | "hints">;

/** One sentence that says why the first computed token was computed. */
export function sentenceOf(told: Told, blockSize: number, isComplete: boolean): string {
  const { state, hit_tokens: hit, prompt_tokens: all } = told;
  if (state === "forgotten") return "The engine does not remember this request any more.";
  if (state === "waiting" || state === "running")
    return "Its first token has not come yet: what is cached of the prompt is known then.";
  if (state === "ended") return "The request ended before its first token came.";
  const head = hit === 0 ? "Nothing was cached" : `The first ${hit} of ${all} tokens were cached`;
  return `${head}: ${reasonOf(told, blockSize, isComplete)}.`;
}

function reasonOf(told: Told, blockSize: number, isComplete: boolean): string {
  const { closest, removed, token } = told;
  const earlier = closest === null ? "" : `request ${closest.request}`;
  const block = `the block at token ${told.hit_tokens}`;
  switch (told.cause) {
    case "none":
      return "the rest is behind the last full block, or the last token, which is always computed";
    case "short_prompt":
      return `no block of ${blockSize} tokens is full before the last token, which is always computed`;
    case "caching_off":
      return "the server was started with --no-enable-prefix-caching";
    case "prompt_logprobs":
      return "log-probabilities of the prompt were asked for, so that all of it is computed";
    case "differs":
      return `${placeOf(token)} is the first that differs from ${closest?.in_answer === true ? "the answer of " : ""}${earlier}, the closest one${remembered(isComplete)}${differenceOf(told)}`;
    case "new_tokens":
      return `${earlier} has the same first ${closest?.common_tokens} tokens; ${placeOf(token)} is the first new one${unfilled(told, blockSize)}`;
    case "not_computed":
      return `${earlier} has the same tokens, but had not computed and kept ${block} by then`;
    case "evicted":
      return `${block} was evicted at ${timeOf(removed?.at)}, when request ${removed?.by_request ?? "?"} needed room${droppedOf(told)}`;
    case "reset":
      return `the prefix cache was reset${removed === null ? " after the request with the same tokens had begun" : ` at ${timeOf(removed.at)}`}`;
    case "step_failed":
      return `the step that computed ${block} failed at ${timeOf(removed?.at)}, so it was withdrawn`;
    case "other_salt":
      return told.against?.same_salt === false
        ? `request ${told.against.request} has the same tokens under another cache_salt, and KV is shared under one salt only`
        : "this is the first request with its cache_salt, and KV is shared under one salt only";
    case "quicker_to_compute":
      return "a connector had more, and computing was estimated to be quicker than loading it";
    case "load_failed":
      return "a connector had promised more and did not bring it whole and in time, so it was computed";
    case "found_and_lost":
      return "more had been found, but the request had to begin again, and by then it was gone";
    case "in_progress":
      return `${earlier} has the same first ${closest?.common_tokens} tokens and was still being answered`;
    case "same_step":
      return `another request was computing ${block} in the very same step`;
    case "other_layers":
      return "layers with a window or a state had no KV at that place";
    case "never_stored":
      return told.request === 1
        ? "this is the first request since the engine started, and KV in memory does not outlive it"
        : `no request since the engine started has computed ${block}`;
    case "unknown":
      return `what is remembered does not tell why ${block} was not there`;
  }
}

function remembered(isComplete: boolean): string {
  return isComplete ? "" : " of those that are remembered";
}

/** `token 1540 ("10:42") in message 0 (system)` */
export function placeOf(token: TokenExplanation | null): string {
  if (token === null) return "a token";
  const { position, text, part, message, role } = token;
  const head = `token ${position} (${JSON.stringify(text)})`;
  switch (part) {
    case "message":
      return `${head} in message ${message} (${role})`;
    case "tools":
      return `${head} in the definitions of tools`;
    case "template":
      return `${head} in the template's own text${message === null ? "" : ` before message ${message} (${role})`}`;
    case "prompt":
    case "unknown":
      return head;
  }
}

function differenceOf({ difference }: Told): string {
  switch (difference) {
    case "time":
      return "; it stands in what looks like a date or a time";
    case "uuid":
      return "; it stands in what looks like a UUID";
    case "tool_order":
      return "; both have the same tools in another order";
    case "tools":
      return "; they have other tools";
    case "template_changed":
      return "; they were rendered with other templates";
    default:
      return "";
  }
}

/** A block that is not full is stored by nobody. */
function unfilled({ closest, hit_tokens: hit }: Told, blockSize: number): string {
  const lost = (closest?.common_tokens ?? hit) - hit;
  return lost === 0
    ? ""
    : ` (${lost} tokens before it were in a block of ${blockSize} not yet full)`;
}

function droppedOf({ removed }: Told): string {
  const at = removed?.tier_dropped_at ?? null;
  return at === null ? "" : `, and a tier had let go of its copy at ${timeOf(at)}`;
}

function timeOf(seconds: number | undefined): string {
  return seconds === undefined ? "?" : new Date(seconds * 1000).toISOString();
}
