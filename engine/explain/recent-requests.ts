/** The last requests, as far as explanations need them: their tokens, what was found of them, and what was computed. In memory only. */

import { HASH_WORDS } from "../cache/block-hash.ts";
import { NULL_BLOCK } from "../cache/block-pool.ts";
import type { KvCache, LoadingEntry } from "../cache/kv-cache.ts";
import type { Removals } from "../cache/removals.ts";
import type { CacheReceipt } from "../request.ts";
import type { Found, RequestLog } from "../scheduler/request-log.ts";
import type { Sequence } from "../scheduler/sequence.ts";

export interface RequestBounds {
  /** Most requests that are remembered, the running ones among them. */
  readonly requests: number;
  /** Most tokens of theirs, together; the last request is remembered whatever its length. */
  readonly tokens: number;
}

/** At its first admission. */
export interface Admission extends Found {
  /** Its place among all first admissions. */
  readonly order: number;
  /** Removals from the device, and from tiers, that came before. */
  readonly removals: number;
  readonly drops: number;
  /** The cache's. */
  readonly generation: number;
  /** Groups that lacked block `numBlocks`. */
  readonly lackingGroups: readonly number[];
}

/** Known with the first token. */
export interface Outcome {
  readonly cachedTokens: number;
  readonly receipt: CacheReceipt | undefined;
  /** Start and end of each run of computed prompt tokens. */
  readonly computed: readonly number[];
  /** What connectors promised did not come. */
  readonly loadFailed: boolean;
}

export class RecentRequest {
  readonly id: string;
  readonly number: number;
  readonly cacheSalt: string | undefined;
  readonly numPromptTokens: number;
  readonly wantsPromptLogprobs: boolean;
  /** Milliseconds since the epoch. */
  readonly arrivedAt: number;
  admission: Admission | undefined;
  numAdmissions = 0;
  /** Blocks that connectors were to bring. */
  readonly loading: Set<number> = new Set();
  /** First admissions of others before it ended; Infinity while it lives. */
  endedOrder: number = Infinity;
  /** While it lives. */
  #sequence: Sequence | undefined;
  #tokenIds: Int32Array;
  #numTokens: number;
  #numComputedTokens = 0;
  #hashes: Int32Array;
  #outcome: Outcome | undefined;

  constructor(sequence: Sequence, wantsPromptLogprobs: boolean, arrivedAt: number) {
    this.id = sequence.id;
    this.number = sequence.number;
    this.cacheSalt = sequence.request.cacheSalt;
    this.numPromptTokens = sequence.numPromptTokens;
    this.wantsPromptLogprobs = wantsPromptLogprobs;
    this.arrivedAt = arrivedAt;
    this.#sequence = sequence;
    this.#tokenIds = sequence.tokenIds;
    this.#numTokens = sequence.numTokens;
    this.#hashes = sequence.blocks.hashes;
  }

  /** Prompt and output as far as it is known; the first `numTokens` count. */
  get tokenIds(): Int32Array {
    return this.#sequence?.tokenIds ?? this.#tokenIds;
  }

  get numTokens(): number {
    return this.#sequence?.numTokens ?? this.#numTokens;
  }

  /** Leading tokens whose KV was computed or found. */
  get numComputedTokens(): number {
    return this.#sequence?.numComputedTokens ?? this.#numComputedTokens;
  }

  /** 8 words for each full block of the prompt. */
  get hashes(): Int32Array {
    return this.#sequence?.blocks.hashes ?? this.#hashes;
  }

  /** Undefined before the first token, and for good when it ends without one. */
  get outcome(): Outcome | undefined {
    return this.#sequence === undefined ? this.#outcome : outcomeOf(this.#sequence);
  }

  get isAlive(): boolean {
    return this.#sequence !== undefined;
  }

  /** Lets go of the sequence, which holds much more. */
  end(order: number): void {
    const sequence = this.#sequence;
    if (sequence === undefined) return;
    this.#tokenIds = sequence.tokenIds;
    this.#numTokens = sequence.numTokens;
    this.#numComputedTokens = sequence.numComputedTokens;
    this.#hashes = sequence.blocks.hashes;
    this.#outcome = outcomeOf(sequence);
    this.#sequence = undefined;
    this.endedOrder = order;
  }
}

function outcomeOf(sequence: Sequence): Outcome | undefined {
  if (sequence.firstTokenAt === 0) return undefined;
  return {
    cachedTokens: sequence.numCachedTokens,
    receipt: sequence.cacheReceipt,
    computed: sequence.computed.ends(),
    loadFailed: sequence.computesAll,
  };
}

export class RecentRequests implements RequestLog {
  readonly #kv: KvCache;
  readonly #removals: Removals;
  readonly #drops: Removals | undefined;
  readonly #bounds: RequestBounds;
  readonly #now: () => number;
  /** In the order of their arrival. */
  readonly #byId = new Map<string, RecentRequest>();
  #numTokens = 0;
  #numAdmitted = 0;
  /** 0 = not looked at the clock since. */
  #plannedAt = 0;
  /** Requests that were remembered once. */
  numForgotten = 0;

  /** `now`: milliseconds since the epoch. `drops`: what tiers let go of. */
  constructor(
    kv: KvCache,
    removals: Removals,
    drops: Removals | undefined,
    bounds: RequestBounds,
    now: () => number,
  ) {
    this.#kv = kv;
    this.#removals = removals;
    this.#drops = drops;
    this.#bounds = bounds;
    this.#now = now;
  }

  get(id: string): RecentRequest | undefined {
    return this.#byId.get(id);
  }

  all(): IterableIterator<RecentRequest> {
    return this.#byId.values();
  }

  planning(): void {
    this.#plannedAt = 0;
  }

  /** Milliseconds since the epoch, the same for all that a step's plan does: clocks cost more than what is noted with them. */
  get time(): number {
    if (this.#plannedAt === 0) this.#plannedAt = this.#now();
    return this.#plannedAt;
  }

  added(sequence: Sequence): void {
    const request = new RecentRequest(sequence, sequence.promptScores !== undefined, this.#now());
    this.#byId.delete(sequence.id);
    this.#byId.set(sequence.id, request);
    this.#numTokens += sequence.numPromptTokens;
    const { requests, tokens } = this.#bounds;
    for (const oldest of this.#byId.values()) {
      const fits = this.#byId.size <= requests && this.#numTokens <= tokens;
      if (fits || oldest === request) break;
      this.#forget(oldest);
    }
  }

  admitted(sequence: Sequence, found: Found): void {
    const request = this.#byId.get(sequence.id);
    if (request === undefined) return;
    request.numAdmissions++;
    request.admission ??= {
      ...found,
      order: this.#numAdmitted++,
      removals: this.#removals.total,
      drops: this.#drops?.total ?? 0,
      generation: this.#kv.generation,
      lackingGroups: this.#lacking(sequence, found),
    };
  }

  loading(sequence: Sequence, entries: readonly LoadingEntry[]): void {
    const request = this.#byId.get(sequence.id);
    for (const { block } of entries) request?.loading.add(block);
  }

  ended(sequence: Sequence): void {
    const request = this.#byId.get(sequence.id);
    if (request === undefined) return;
    this.#numTokens += sequence.numTokens - sequence.numPromptTokens;
    request.end(this.#numAdmitted);
  }

  #forget(request: RecentRequest): void {
    this.#byId.delete(request.id);
    this.#numTokens -= request.isAlive ? request.numPromptTokens : request.numTokens;
    this.numForgotten++;
  }

  /** Groups without the first block that was not found: of a block that all have, the reason lies elsewhere. */
  #lacking({ blocks }: Sequence, { numBlocks, maxBlocks }: Found): readonly number[] {
    if (numBlocks >= maxBlocks) return [];
    const { pool, groups } = this.#kv;
    const lacking: number[] = [];
    for (let group = 0; group < groups.length; group++)
      if (pool.find(blocks.hashes, numBlocks * HASH_WORDS, group) === NULL_BLOCK)
        lacking.push(group);
    return lacking;
  }
}
