/**
 * Lets waiting requests in. A request is admitted when its whole prompt fits in what is free beside what prefilling sequences
 * still need, so that no two half-computed prompts wait for each other. The head of the queue waits until it fits; a request
 * that would compute what another is about to compute steps aside for it and shares the result.
 */

import { PICK, type ScheduledBatch } from "./batch.ts";
import type { StepBudget } from "./budget.ts";
import type { Match } from "../cache/kv-cache.ts";
import type { LiveSequences } from "./live-sequences.ts";
import { NONE, type Sequence } from "./sequence.ts";

/** Requests that may step aside in one step: each look costs time, and the rest of the queue can wait for the next step. */
const MOST_ASIDE = 64;
/** Words of a block hash. */
const HASH_WORDS = 8;

const NOTHING_LOADED: Readonly<Record<string, number>> = {};

/** What came of looking at the head of the queue: `aside` = not now, others may go first; `full` = nobody fits now. */
type Outcome = "admitted" | "aside" | "full";

export class Admission {
  readonly #live: LiveSequences;
  readonly #budget: StepBudget;
  readonly #maxInFlightTokens: number;
  numQueriedTokens = 0;
  numHitTokens = 0;

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
      this.#live.hasFreeSeat &&
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

  /** What connectors were to bring does not come: the sequence waits again, and its next admission is the one that counts. */
  computeInstead(sequence: Sequence): void {
    if (sequence.numCachedTokens !== NONE && sequence.firstTokenAt === 0) {
      this.numQueriedTokens -= sequence.numTokens;
      this.numHitTokens -= sequence.numCachedTokens - numLoaded(sequence);
      sequence.numCachedTokens = NONE;
      sequence.loadedByTier = NOTHING_LOADED;
    }
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
    if (isAhead(head)) return "aside";
    const { kv } = this.#live;
    const { numTokens, promptScores, blocks } = head;
    const readsCache = kv.prefixCaching && (promptScores === undefined || promptScores.complete);
    const maxBlocks = readsCache ? Math.floor((numTokens - 1) / kv.blockSize) : 0;
    const match = this.#find(head, maxBlocks);
    if (match === undefined) return "aside";
    // Its last blocks are filled by this very step: what reads them must run later.
    if (match.newestStep === batch.stepId) return "aside";
    if (readsCache && this.#stepsAside(head, match.numBlocks, maxBlocks)) return "aside";
    const missing = kv.blocksNeeded(match, numTokens, this.#maxInFlightTokens) - this.#room();
    // What was given back may be what was found: it is looked at again.
    if (missing > 0) return this.#relieve(missing) ? this.#tryHead(batch, head, addChunk) : "full";
    const numHitTokens = match.numBlocks * kv.blockSize;
    const numIslandTokens = match.numIslands * kv.blockSize;
    const { connectors } = this.#live;
    const loading = kv.take(blocks, match, connectors?.isLoading);
    this.#live.start(head);
    head.numSubmittedTokens = numHitTokens;
    head.numComputedTokens = numHitTokens;
    const loaded = connectors?.admitted(head, loading) ?? NOTHING_LOADED;
    this.#count(head, readsCache ? numTokens : 0, numHitTokens + numIslandTokens, loaded);
    this.#live.reserve(head, this.stillNeeded(head));
    addChunk(head);
    return "admitted";
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
    if (connectors === undefined || head.computesAll || numDeviceBlocks >= maxBlocks) return match;
    const found = connectors.lookUp(head, maxBlocks, numDeviceBlocks);
    if (found !== "some") return found === "none" ? match : undefined;
    const { coming } = connectors;
    const most = kv.match(blocks, maxBlocks, coming, numDeviceBlocks);
    const from = connectors.firstToLoad(numDeviceBlocks, most.numBlocks, most.numOffered);
    if (from === numDeviceBlocks) return most;
    return from < most.numBlocks
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
    // The step that completes the prompt must be an earlier one.
    if (leader.state !== "running" || leader.prefilling || leader.prefilledAt === batch.stepId)
      return "aside";
    const { kv } = this.#live;
    if (this.#room() < kv.groups.length) return "full";
    const { numPromptTokens } = head;
    if (!kv.fork(leader.blocks, head.blocks, numPromptTokens, batch.copies)) {
      head.leader = undefined;
      return undefined;
    }
    this.#live.start(head);
    this.#count(head, numPromptTokens, numPromptTokens - 1);
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
   * Whether a running sequence is about to compute the block that `head` would begin with; then `head` waits until their
   * common prefix is submitted.
   */
  #stepsAside(head: Sequence, numHits: number, maxBlocks: number): boolean {
    if (numHits >= maxBlocks) return false;
    const { kv, running } = this.#live;
    for (let one = running.first; one !== undefined; one = one.next) {
      if (!one.prefilling || one.blocks.generation !== kv.generation) continue;
      if (one.numSubmittedTokens >= (numHits + 1) * kv.blockSize) continue;
      const most = Math.min(maxBlocks, one.blocks.numHashes);
      let common = numHits;
      while (common < most && sameHash(head.blocks.hashes, one.blocks.hashes, common)) common++;
      if (common === numHits) continue;
      head.sharedPrefix = { of: one, numTokens: common * kv.blockSize };
      return true;
    }
    return false;
  }

  /** Free blocks that are promised to nobody. Each running sequence soon wants one more; a twentieth of the pool is enough. */
  #room(): number {
    const { kv, running, numReservedBlocks } = this.#live;
    const soon = Math.min(running.length * kv.groups.length, Math.floor(kv.pool.numBlocks / 20));
    return kv.pool.numFree - numReservedBlocks - soon;
  }

  #count(
    sequence: Sequence,
    queried: number,
    hits: number,
    loadedByTier: Readonly<Record<string, number>> = NOTHING_LOADED,
  ): void {
    if (sequence.numCachedTokens !== NONE) return;
    sequence.numCachedTokens = hits;
    sequence.loadedByTier = loadedByTier;
    sequence.loadingSince = this.#live.now();
    this.numQueriedTokens += queried;
    this.numHitTokens += hits - numLoaded(sequence);
  }
}

function numLoaded({ loadedByTier }: Sequence): number {
  let sum = 0;
  for (const tokens of Object.values(loadedByTier)) sum += tokens;
  return sum;
}

/** Whether what the sequence waits to share is still to be submitted. */
function isAhead({ sharedPrefix }: Sequence): boolean {
  if (sharedPrefix === undefined) return false;
  const { of, numTokens } = sharedPrefix;
  return of.state === "running" && of.prefilling && of.numSubmittedTokens < numTokens;
}

function sameHash(a: Int32Array, b: Int32Array, block: number): boolean {
  for (let word = block * HASH_WORDS; word < (block + 1) * HASH_WORDS; word++)
    if (a[word] !== b[word]) return false;
  return true;
}
