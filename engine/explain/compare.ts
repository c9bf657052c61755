/** Which tokens two requests have in common. */

import type { Compared } from "./facts.ts";
import type { RecentRequest } from "./recent-requests.ts";

/**
 * The request with most leading tokens in common, the latest of several: of those that had begun before, have the same salt, and are
 * named by `among`, where that is given.
 */
export function closestOf(
  request: RecentRequest,
  others: Iterable<RecentRequest>,
  among: readonly string[] | undefined,
): Compared | undefined {
  const allowed = among === undefined ? undefined : new Set(among);
  let closest: Compared | undefined;
  for (const other of others) {
    if (!isBefore(other, request) || other.cacheSalt !== request.cacheSalt) continue;
    if (allowed?.has(other.id) === false) continue;
    const compared = compare(request, other);
    if (closest === undefined || compared.commonTokens >= closest.commonTokens) closest = compared;
  }
  return closest;
}

/** Whether `a` was let in before `b`, so that `b` could have used what `a` has. */
export function isBefore(a: RecentRequest, b: RecentRequest): boolean {
  return (a.admission?.order ?? Infinity) < (b.admission?.order ?? -1);
}

/** Whether `a` was still being answered when `b` was let in. */
export function isBeside(a: RecentRequest, b: RecentRequest): boolean {
  return a.endedOrder > (b.admission?.order ?? Infinity);
}

/** `other` counts as far as it was known for certain when `request` was let in: without what it was answered, if it had not ended. */
export function compare(request: RecentRequest, other: RecentRequest): Compared {
  const end = isBeside(other, request) ? other.numPromptTokens : other.numTokens;
  const most = Math.min(request.numPromptTokens, end);
  const [own, others] = [request.tokenIds, other.tokenIds];
  let common = 0;
  while (common < most && own[common] === others[common]) common++;
  return {
    id: other.id,
    number: other.number + 1,
    commonTokens: common,
    ...(common < request.numPromptTokens ? { tokenId: own[common] as number } : {}),
    ...(common < end ? { otherTokenId: others[common] as number } : {}),
    isInAnswer: common > other.numPromptTokens && common < end,
    sameSalt: other.cacheSalt === request.cacheSalt,
    arrivedAt: other.arrivedAt,
  };
}
