/** Why the first block that was computed for a prompt was not cached. Each claim is one that the facts at hand prove. */

import type { KvCache } from "../cache/kv-cache.ts";
import type { Removal, Removals } from "../cache/removals.ts";
import { isBefore, isBeside } from "./compare.ts";
import type { Compared, MissCause } from "./facts.ts";
import type { Admission, Outcome, RecentRequest, RecentRequests } from "./recent-requests.ts";

export interface Evidence {
  readonly kv: KvCache;
  readonly removals: Removals;
  readonly recent: RecentRequests;
  readonly closest: Compared | undefined;
  readonly against: Compared | undefined;
}

export interface Miss {
  readonly cause: MissCause;
  /** The first computed block, where it could have been cached. */
  readonly block?: number;
  readonly removal?: Removal;
}

export function missOf(request: RecentRequest, evidence: Evidence): Miss {
  const { admission, outcome, numPromptTokens } = request;
  const { blockSize, prefixCaching } = evidence.kv;
  if (!prefixCaching) return { cause: "caching_off" };
  if (request.wantsPromptLogprobs) return { cause: "prompt_logprobs" };
  const maxBlocks = Math.floor((numPromptTokens - 1) / blockSize);
  if (maxBlocks === 0) return { cause: "short_prompt" };
  if (admission === undefined || outcome === undefined) return { cause: "unknown" };
  const block = Math.floor((outcome.computed[0] ?? numPromptTokens) / blockSize);
  if (block >= maxBlocks) return { cause: "none" };
  const atAdmission = foundFirst(block, admission, outcome);
  if (atAdmission !== undefined) return { cause: atAdmission, block };
  const [group] = admission.lackingGroups;
  if (group === undefined)
    return { cause: evidence.kv.groups.length > 1 ? "other_layers" : "same_step", block };
  const range = { from: block, to: block + 1, before: admission.removals };
  const removal = evidence.removals.lastOf(request.hashes, group, range).get(block);
  if (removal !== undefined) return { cause: causeOf(removal), block, removal };
  return { cause: neverThere(request, admission, block, evidence), block };
}

/** What the first admission says; undefined = the block was not there for the taking. */
function foundFirst(
  block: number,
  { numDeviceBlocks, numBlocks, numOfferedBlocks }: Admission,
  { loadFailed }: Outcome,
): MissCause | undefined {
  if (block < numDeviceBlocks) return "found_and_lost";
  if (block < numBlocks) return loadFailed ? "load_failed" : "found_and_lost";
  if (block < numOfferedBlocks) return "quicker_to_compute";
  // It was let in again, and found more.
  return block > numBlocks ? "unknown" : undefined;
}

function causeOf({ cause }: Removal): MissCause {
  if (cause === "evicted" || cause === "reset") return cause;
  return cause === "withdrawn" ? "step_failed" : "unknown";
}

/** No removal of the block is known: who has computed its tokens, if anybody. */
function neverThere(
  request: RecentRequest,
  admission: Admission,
  block: number,
  { kv, removals, recent, closest, against }: Evidence,
): MissCause {
  const knowsAllRemovals = removals.oldest === 0;
  const start = block * kv.blockSize;
  const end = start + kv.blockSize;
  if (closest !== undefined && closest.commonTokens >= end) {
    const other = recent.get(closest.id);
    if (other?.admission === undefined) return "unknown";
    // Had it been stored since the other one was let in, its removal would be known.
    const isKnown = knowsAllRemovals || other.admission.removals >= removals.oldest;
    if (!isKnown) return "unknown";
    return other.admission.generation < admission.generation ? "reset" : "not_computed";
  }
  const isOthers =
    against !== undefined && !against.sameSalt && against.commonTokens >= end && knowsAllRemovals;
  const other = isOthers ? recent.get(against.id) : undefined;
  if (other !== undefined && isBefore(other, request)) return "other_salt";
  if (closest !== undefined && closest.commonTokens > 0 && closest.commonTokens >= start)
    return goesOn(request, closest, recent);
  if (!knowsAllRemovals) return "unknown";
  return isFirstOfSalt(request, recent) ? "other_salt" : "never_stored";
}

/** The closest request has some of the block's tokens, or ends where it begins. */
function goesOn(request: RecentRequest, closest: Compared, recent: RecentRequests): MissCause {
  const other = recent.get(closest.id);
  if (other === undefined) return "unknown";
  // What follows the prompt is an answer: to go on otherwise behind it is to say something new.
  const isAtItsEnd = closest.commonTokens === other.numPromptTokens;
  if (closest.otherTokenId !== undefined && !isAtItsEnd) return "differs";
  return isBeside(other, request) ? "in_progress" : "new_tokens";
}

/** Whether it has a salt, and no request before it had the same. */
function isFirstOfSalt(request: RecentRequest, recent: RecentRequests): boolean {
  if (request.cacheSalt === undefined || recent.numForgotten > 0) return false;
  for (const other of recent.all())
    if (other.cacheSalt === request.cacheSalt && isBefore(other, request)) return false;
  return true;
}
