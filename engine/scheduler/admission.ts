/**
 * Lets waiting requests in. A request is admitted when its whole prompt fits in what is free beside what prefilling sequences
 * still need, so that no two half-computed prompts wait for each other. The head of the queue waits until it fits; a request
 * that would compute what another is about to compute leaves the queue until it can share that.
 */

import { NULL_BLOCK } from "../cache/block-pool.ts";
import { PICK, type ScheduledBatch } from "./batch.ts";
import type { StepBudget } from "./budget.ts";
import type { Match } from "../cache/kv-cache.ts";
import type { LiveSequences } from "./live-sequences.ts";
import type { Sequence } from "./sequence.ts";

/** Requests that may be put off in one step: each look costs time, and the rest of the queue can wait for the next step. */
const MOST_ASIDE = 64;
/** Words of a block hash. */
const HASH_WORDS = 8;

const NOTHING_LOADED: Readonly<Record<string, number>> = {};

/**
 * What came of looking at the head of the queue: `aside` = not in this step, others may go first; `parked` = it left the queue until
 * another sequence has got further; `full` = nobody fits now.
 */
type Outcome = "admitted" | "aside" | "parked" | "full";

/** A head that did not fit, and what could have made it fit since. */
interface Refusal {
  readonly head: Sequence;
  readonly generation: number;
  /** Blocks that it lacked, and those that there were. */
  readonly missing: number;
  readonly room: number;
  /** `BlockPool.numGains` then. */
  readonly gains: number;
}

export class Admission {
  readonly #live: LiveSequences;
  readonly #budget: StepBudget;
  readonly #maxInFlightTokens: number;
  #refusal: Refusal | undefined;
  /** Of the last look-up, in leading blocks: what the device has, and the same with all that connectors offer. */
  #numDeviceBlocks = 0;
  #numOfferedBlocks = 0;

  /** `maxInFlightTokens`: most tokens of one sequence in steps that have not committed. */
  constructor(live: LiveSequences, budget: StepBudget, maxInFlightTokens: number) {
    this.#live = live;
    this.#budget = budget;
    this.#maxInFlightTokens = maxInFlightTokens;
  }

  /** `addChunk` adds the first chunk of a sequence that was admitted. */
  admit(batch: ScheduledBatch, addChunk: (sequence: Sequence) => void): void {
    const { waiting } = this.#live;
    const aside: Sequence[] = [];
    // Two samples: a first chunk may score a prompt token and pick behind the last one.
    while (
      this.#budget.prefillLeft > 0 &&
      this.#budget.samplesLeft > 1 &&
      this.#live.numFreeSeats > 0 &&
      aside.length < MOST_ASIDE
    ) {
      const head = waiting.first;
      if (head === undefined) break;
      const outcome = this.#tryHead(batch, head, addChunk);
      if (outcome === "full") break;
      if (outcome === "aside") {
        waiting.remove(head);
        aside.push(head);
      }
    }
    for (const sequence of aside) waiting.push(sequence);
  }

  /** What connectors were to bring does not come: the sequence waits again, and computes it. */
  computeInstead(sequence: Sequence): void {
    sequence.computesAll = true;
    if (sequence.state === "running") this.#live.giveUp(sequence);
  }

  /** Blocks that a sequence has still to take until its known tokens are computed. */
  stillNeeded(sequence: Sequence): number {
    if (!sequence.prefilling) return 0;
    const { kv } = this.#live;
    return Math.min(
      kv.growth(sequence.blocks, sequence.prefillEnd),
      kv.peak(sequence.prefillEnd, this.#maxInFlightTokens),
    );
  }

  #tryHead(batch: ScheduledBatch, head: Sequence, addChunk: (sequence: Sequence) => void): Outcome {
    const forked = head.leader === undefined ? undefined : this.#tryFork(batch, head, head.leader);
    if (forked !== undefined) return forked;
    const { kv } = this.#live;
    const { numTokens, promptScores, blocks } = head;
    const lacks = this.#stillLacks(head);
    if (lacks > 0) return this.#relieve(lacks) ? this.#tryHead(batch, head, addChunk) : "full";
    const readsCache = kv.prefixCaching && (promptScores === undefined || promptScores.complete);
    const maxBlocks = readsCache ? Math.floor((numTokens - 1) / kv.blockSize) : 0;
    let match = this.#find(head, maxBlocks);
    if (match === undefined) return "aside";
    if (readsCache && this.#park(head, match.numBlocks, maxBlocks)) return "parked";
    while (match.newestStep === batch.stepId) {
      // Some of its blocks are filled by this very step: what reads them must run later.
      const numOlder = this.#numOlder(match, batch.stepId);
      if (!this.#isScored(match, numOlder)) return "aside";
      match = kv.match(blocks, numOlder);
    }
    const room = this.#room();
    const { numIslands } = match;
    const missing = kv.blocksNeeded(match, numTokens, this.#maxInFlightTokens) - room;
    if (missing > 0) {
      const { generation, pool } = kv;
      this.#refusal = { head, generation, missing, room, gains: pool.numGains };
      // What is given back may be what was found: it is looked at again.
      return this.#relieve(missing) ? this.#tryHead(batch, head, addChunk) : "full";
    }
    const numHitTokens = match.numBlocks * kv.blockSize;
    const numIslandTokens = match.numIslands * kv.blockSize;
    const { connectors, log } = this.#live;
    log?.admitted(head, {
      maxBlocks,
      numDeviceBlocks: this.#numDeviceBlocks,
      numBlocks: match.numBlocks,
      numOfferedBlocks: this.#numOfferedBlocks,
      usesAll: match.numIslands === numIslands,
    });
    const loading = kv.take(blocks, match, connectors?.isLoading);
    this.#live.start(head);
    head.numSubmittedTokens = numHitTokens;
    head.numComputedTokens = numHitTokens;
    const loaded = connectors?.admitted(head, loading) ?? NOTHING_LOADED;
    if (loading.length > 0) log?.loading(head, loading);
    this.#found(head, readsCache ? numTokens : 0, numHitTokens + numIslandTokens, loaded);
    this.#live.reserve(head, this.stillNeeded(head));
    addChunk(head);
    return "admitted";
  }

  /**
   * Blocks that a head lacks still, by what is known without looking for its prompt again: a long one that waits for room would cost
   * that in every step. 0 = it is to be looked at. A block that became free, got a hash or left the free ones makes up for one block in
   * each group. (Behind windows one may complete a longer prefix; that is seen a little later, at the latest when nobody runs.)
   */
  #stillLacks(head: Sequence): number {
    const { kv, running, leaving } = this.#live;
    const refusal = this.#refusal;
    if (refusal?.head !== head || refusal.generation !== kv.generation) return 0;
    if (running.length === 0 && leaving.size === 0) return 0;
    const gained = (kv.pool.numGains - refusal.gains) * kv.groups.length;
    return Math.max(0, refusal.missing - gained - (this.#room() - refusal.room));
  }

  /**
   * What the cache has of a request's beginning, and what connectors bring of the rest where that is quicker than to compute it.
   * Undefined = a connector does not know yet.
   */
  #find(head: Sequence, maxBlocks: number): Match | undefined {
    const { kv, connectors } = this.#live;
    const { blocks } = head;
    const match = kv.match(blocks, maxBlocks);
    const numDeviceBlocks = match.numBlocks;
    this.#numDeviceBlocks = numDeviceBlocks;
    this.#numOfferedBlocks = numDeviceBlocks;
    if (connectors === undefined || head.computesAll || numDeviceBlocks >= maxBlocks) return match;
    const found = connectors.lookUp(head, maxBlocks, numDeviceBlocks);
    if (found !== "some") return found === "none" ? match : undefined;
    const { coming } = connectors;
    const most = kv.match(blocks, maxBlocks, coming, numDeviceBlocks);
    const { numBlocks, numOffered, numLoading } = most;
    this.#numOfferedBlocks = numBlocks;
    const from = connectors.firstToLoad(numDeviceBlocks, numBlocks, numOffered, numLoading);
    if (from === numDeviceBlocks) return most;
    return from < numBlocks
      ? kv.match(blocks, maxBlocks, coming, from)
      : kv.match(blocks, maxBlocks);
  }

  /** Whether connectors gave back any of the missing blocks. What they hold is asked for when nobody else can go on. */
  #relieve(missing: number): boolean {
    const { kv, connectors, running, leaving } = this.#live;
    if (connectors === undefined) return false;
    const before = kv.pool.numFree;
    connectors.relieve(missing, running.length === 0 && leaving.size === 0);
    return kv.pool.numFree > before;
  }

  /**
   * Shares the prompt of the first choice: all of its blocks but the last one, which is copied, because each choice writes on
   * in its own. The last prompt token is computed again, for the logits to pick from. Undefined = go the way of any request.
   */
  #tryFork(batch: ScheduledBatch, head: Sequence, leader: Sequence): Outcome | undefined {
    if (leader.state === "finished" || head.numOutputTokens > 0) {
      head.leader = undefined;
      return undefined;
    }
    if (leader.state !== "running" || leader.prefilling) {
      this.#live.park(head, leader, leader.numPromptTokens);
      return "parked";
    }
    // The step that completes the prompt must be an earlier one.
    if (leader.prefilledAt === batch.stepId) return "aside";
    const { kv } = this.#live;
    if (this.#room() < kv.groups.length) return "full";
    const { numPromptTokens } = head;
    if (!kv.fork(leader.blocks, head.blocks, numPromptTokens, batch.copies)) {
      head.leader = undefined;
      return undefined;
    }
    const numShared = Math.floor((numPromptTokens - 1) / kv.blockSize);
    this.#live.log?.admitted(head, {
      maxBlocks: numShared,
      numDeviceBlocks: numShared,
      numBlocks: numShared,
      numOfferedBlocks: numShared,
      usesAll: true,
    });
    this.#live.start(head);
    this.#found(head, numPromptTokens, numPromptTokens - 1, NOTHING_LOADED);
    head.computed.add(numPromptTokens - 1, numPromptTokens);
    batch.addRow(head, numPromptTokens - 1, 1);
    batch.addSample(0, PICK);
    this.#budget.takePrefill(1, 1);
    head.numComputedTokens = numPromptTokens - 1;
    head.numSubmittedTokens = numPromptTokens;
    head.numSubmittedSamples++;
    head.prefilledAt = batch.stepId;
    head.lastStepId = batch.stepId;
    kv.markPresent(head.blocks, numPromptTokens);
    kv.publish(head.blocks, numPromptTokens, batch.stepId);
    return "admitted";
  }

  /**
   * Whether a running sequence is about to compute the block that `head` would begin with; then `head` is parked until their
   * common prefix is submitted. A prompt that is scored takes a few tokens a step: nobody waits for it.
   */
  #park(head: Sequence, numHits: number, maxBlocks: number): boolean {
    if (numHits >= maxBlocks) return false;
    const { kv, running } = this.#live;
    for (let one = running.first; one !== undefined; one = one.next) {
      if (!one.prefilling || one.blocks.generation !== kv.generation || isScoring(one)) continue;
      if (one.numSubmittedTokens >= (numHits + 1) * kv.blockSize) continue;
      const most = Math.min(maxBlocks, one.blocks.numHashes);
      let common = numHits;
      while (common < most && sameHash(head.blocks.hashes, one.blocks.hashes, common)) common++;
      if (common === numHits) continue;
      this.#live.park(head, one, common * kv.blockSize);
      return true;
    }
    return false;
  }

  /** Leading blocks of a prefix before the first needed one that this step fills. */
  #numOlder({ numBlocks, found }: Match, stepId: number): number {
    const { pool } = this.#live.kv;
    for (let block = 0; block < numBlocks; block++) {
      for (const ids of found) {
        const id = ids[block] as number;
        if (id > NULL_BLOCK && pool.publishedStep(id) === stepId) return block;
      }
    }
    return numBlocks;
  }

  /** Whether a prompt that is scored fills block `block` of a match. */
  #isScored({ found }: Match, block: number): boolean {
    const { running } = this.#live;
    for (let one = running.first; one !== undefined; one = one.next) {
      if (!isScoring(one)) continue;
      const { tables } = one.blocks;
      const isIts = (ids: Int32Array, group: number): boolean =>
        (ids[block] as number) > NULL_BLOCK && ids[block] === tables[group]?.entries[block];
      if (found.some(isIts)) return true;
    }
    return false;
  }

  /** Free blocks that are promised to nobody. Each running sequence soon wants one more; a twentieth of the pool is enough. */
  #room(): number {
    const { kv, running, numReservedBlocks } = this.#live;
    const soon = Math.min(running.length * kv.groups.length, Math.floor(kv.pool.numBlocks / 20));
    return kv.pool.numFree - numReservedBlocks - soon;
  }

  /** Notes what an admission has found; what comes of it is known with the first token. */
  #found(
    sequence: Sequence,
    queried: number,
    hits: number,
    loadedByTier: Readonly<Record<string, number>>,
  ): void {
    if (sequence.firstTokenAt !== 0) return;
    sequence.numQueriedTokens = queried;
    sequence.numCachedTokens = hits;
    sequence.loadedByTier = loadedByTier;
    sequence.loadingSince = this.#live.now();
  }
}

/** Whether tokens of its prompt are still to be scored. */
function isScoring({ promptScores }: Sequence): boolean {
  return promptScores !== undefined && !promptScores.complete;
}

function sameHash(a: Int32Array, b: Int32Array, block: number): boolean {
  for (let word = block * HASH_WORDS; word < (block + 1) * HASH_WORDS; word++)
    if (a[word] !== b[word]) return false;
  return true;
}
