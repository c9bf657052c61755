/**
 * Says of a request that is remembered what of its prompt was cached, and why its first computed block was not. It claims only what
 * follows from what is remembered; where that is not enough the cause is `unknown`.
 */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { isBlockKey } from "../cache/block-key.ts";
import type { KvCache } from "../cache/kv-cache.ts";
import { NOBODY, type Removal, Removals } from "../cache/removals.ts";
import { closestOf, compare } from "./compare.ts";
import type {
  Compared,
  ConnectorState,
  ExplainQuery,
  MissCause,
  PromptFacts,
  RemovalFacts,
} from "./facts.ts";
import { missOf } from "./miss.ts";
import { runsOf } from "./prompt-runs.ts";
import { type RecentRequest, RecentRequests } from "./recent-requests.ts";

/** Removals that are remembered, of the device and of tiers each. */
export const MAX_REMOVALS = 65_536;
/** Requests that are remembered, and tokens of theirs: 32 MiB. */
export const MAX_REQUESTS = 256;
export const MAX_TOKENS: number = 8 * 2 ** 20;

export interface ExplainerOptions {
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Their states now; left out = there are none. */
  readonly connectors?: () => readonly ConnectorState[];
  readonly maxRemovals?: number;
  readonly maxRequests?: number;
  readonly maxTokens?: number;
}

export class Explainer {
  readonly log: RecentRequests;
  readonly #kv: KvCache;
  readonly #removals: Removals;
  /** Of tiers, where there are connectors. */
  readonly #drops: Removals | undefined;
  readonly #options: ExplainerOptions;
  readonly #startedAt: number;

  constructor(kv: KvCache, options: ExplainerOptions) {
    const { now, maxRemovals = MAX_REMOVALS } = options;
    const bounds = {
      requests: options.maxRequests ?? MAX_REQUESTS,
      tokens: options.maxTokens ?? MAX_TOKENS,
    };
    this.#kv = kv;
    this.#options = options;
    this.#startedAt = now();
    const removals = new Removals(maxRemovals);
    this.#removals = removals;
    if (options.connectors !== undefined) this.#drops = new Removals(maxRemovals);
    const log = new RecentRequests(kv, removals, this.#drops, bounds, now);
    this.log = log;
    const { pool } = kv;
    pool.onEvicted((id) => removals.add(pool, id, "evicted", log.time, kv.taker));
    pool.onUnhashed((id, why) => removals.add(pool, id, why, now(), NOBODY));
  }

  /** A tier let go of its copies of this content. What is no key is passed over: connectors may say anything. */
  dropped(keys: readonly BlockKey[]): void {
    const at = this.#options.now();
    for (const key of keys) if (isBlockKey(key)) this.#drops?.addKey(key, "dropped", at);
  }

  /** Undefined = the request is not remembered. */
  explain({ id, among, against }: ExplainQuery): PromptFacts | undefined {
    const request = this.log.get(id);
    if (request === undefined) return undefined;
    const closest = closestOf(request, this.log.all(), among);
    const other = against === undefined ? undefined : this.log.get(against);
    const compared = other === undefined ? undefined : compare(request, other);
    const isComplete = this.#removals.oldest === 0 && this.log.numForgotten === 0;
    const { outcome, numPromptTokens } = request;
    const { computed = [], cachedTokens = 0, receipt } = outcome ?? {};
    return {
      number: request.number + 1,
      state: stateOf(request),
      tokenIds: request.tokenIds.slice(0, numPromptTokens),
      blockSize: this.#kv.blockSize,
      cachedTokens,
      hitTokens: outcome === undefined ? 0 : (computed[0] ?? numPromptTokens),
      ...(receipt === undefined ? {} : { receipt }),
      runs: runsOf(request, this.#kv, this.#removals),
      ...this.#causeOf(request, closest, compared),
      ...(closest === undefined ? {} : { closest }),
      ...(compared === undefined ? {} : { against: compared }),
      hasSalt: request.cacheSalt !== undefined,
      engineStartedAt: this.#startedAt,
      isComplete,
      connectors: this.#options.connectors?.() ?? [],
    };
  }

  #causeOf(
    request: RecentRequest,
    closest: Compared | undefined,
    against: Compared | undefined,
  ): { readonly cause: MissCause; readonly removal?: RemovalFacts; readonly droppedAt?: number } {
    const miss = missOf(request, {
      kv: this.#kv,
      removals: this.#removals,
      recent: this.log,
      closest,
      against,
    });
    const { cause, block, removal } = miss;
    const dropped =
      cause === "evicted" && block !== undefined ? this.#dropOf(request, block) : undefined;
    return {
      cause,
      ...(removal === undefined ? {} : { removal: factsOf(removal) }),
      ...(dropped === undefined ? {} : { droppedAt: dropped.at }),
    };
  }

  #dropOf({ hashes, admission }: RecentRequest, block: number): Removal | undefined {
    const group = admission?.lackingGroups[0];
    if (admission === undefined || group === undefined) return undefined;
    const range = { from: block, to: block + 1, before: admission.drops };
    return this.#drops?.lastOf(hashes, group, range).get(block);
  }
}

function stateOf({ admission, isAlive, outcome }: RecentRequest): PromptFacts["state"] {
  if (outcome !== undefined) return "answered";
  if (!isAlive) return "ended";
  return admission === undefined ? "waiting" : "running";
}

function factsOf({ at, by }: Removal): RemovalFacts {
  return by === NOBODY ? { at } : { at, byRequest: by + 1 };
}
