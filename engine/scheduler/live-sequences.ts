/**
 * The requests that have not ended, and what they hold: where each stands (waiting, running, leaving), how it moves from one
 * place to the next, and when its blocks and seat go back. It decides nothing about steps.
 *
 * What a sequence holds is given back once its last submitted step has committed, because until then the device may read
 * and write it.
 */

import { NULL_BLOCK } from "../cache/block-pool.ts";
import type { KvCache } from "../cache/kv-cache.ts";
import { type ErrorData, KvEngineError } from "../errors.ts";
import type { Finish, FinishReason } from "../request.ts";
import type { ScheduledBatch } from "./batch.ts";
import type { RequestLog } from "./request-log.ts";
import { RunningList } from "./running-list.ts";
import type { SchedulerConnectors } from "./scheduler-connectors.ts";
import { NONE, type Sequence } from "./sequence.ts";
import { StepEventsBuilder } from "./step-events.ts";
import { WaitingQueue } from "./waiting-queue.ts";

export class LiveSequences {
  readonly kv: KvCache;
  /** In scheduling order, but for those that are parked. */
  readonly waiting: WaitingQueue<Sequence> = new WaitingQueue();
  /** In scheduling order. */
  readonly running: RunningList<Sequence> = new RunningList();
  /** Preempted or ended while a submitted step has them. */
  readonly leaving: Set<Sequence> = new Set();
  /** Submitted and not committed, in order; the one that commits stays until it is settled. */
  readonly inFlight: ScheduledBatch[] = [];
  readonly events: StepEventsBuilder = new StepEventsBuilder();
  readonly now: () => number;
  connectors: SchedulerConnectors | undefined;
  log: RequestLog | undefined;
  numPreemptions = 0;
  /** Blocks that prefilling sequences have still to take. */
  numReservedBlocks = 0;
  readonly #byHandle = new Map<number, Sequence>();
  readonly #byId = new Map<string, Sequence>();
  readonly #maxNumSeqs: number;
  readonly #freeSeats: number[] = [];
  /** Waiting ones that left the queue until another sequence has got further, by that one. */
  readonly #parked = new Map<Sequence, Set<Sequence>>();

  constructor(kv: KvCache, maxNumSeqs: number, now: () => number) {
    this.kv = kv;
    this.now = now;
    this.#maxNumSeqs = maxNumSeqs;
    for (let seat = maxNumSeqs - 1; seat >= 0; seat--) this.#freeSeats.push(seat);
  }

  get length(): number {
    return this.#byHandle.size;
  }

  get numFreeSeats(): number {
    return this.#freeSeats.length;
  }

  byHandle(handle: number): Sequence | undefined {
    return this.#byHandle.get(handle);
  }

  byId(id: string): Sequence | undefined {
    return this.#byId.get(id);
  }

  all(): IterableIterator<Sequence> {
    return this.#byHandle.values();
  }

  /** A new request joins the queue. */
  add(sequence: Sequence): void {
    this.#byHandle.set(sequence.handle, sequence);
    this.#byId.set(sequence.id, sequence);
    this.waiting.push(sequence);
    this.connectors?.added(sequence);
    this.log?.added(sequence);
  }

  /** From the queue to the running ones, with a seat. The caller gives it blocks. */
  start(sequence: Sequence): void {
    this.waiting.remove(sequence);
    this.running.insert(sequence);
    sequence.state = "running";
    sequence.seat = this.#freeSeats.pop() as number;
    sequence.isSeated = false;
    sequence.prefillEnd = sequence.numTokens;
    sequence.numSubmittedSamples = sequence.numOutputTokens;
    if (sequence.startedAt === 0) sequence.startedAt = this.now();
  }

  /** A waiting sequence leaves the queue until `of` has submitted its first `numTokens` tokens, waits or ends. */
  park(sequence: Sequence, of: Sequence, numTokens: number): void {
    this.waiting.remove(sequence);
    sequence.parkedFor = { of, numTokens };
    const parked = this.#parked.get(of);
    if (parked === undefined) this.#parked.set(of, new Set([sequence]));
    else parked.add(sequence);
  }

  /** Those that are parked for what `of` has submitted by now join the queue again; all of them when it is not running. */
  unpark(of: Sequence): void {
    const parked = this.#parked.get(of);
    if (parked === undefined) return;
    for (const sequence of parked) {
      const { numTokens } = sequence.parkedFor!;
      if (of.state === "running" && of.prefilling && of.numSubmittedTokens < numTokens) continue;
      this.#leavePark(sequence);
      this.waiting.push(sequence);
    }
  }

  /** Sets what a sequence's prefill has still to take from the pool. */
  reserve(sequence: Sequence, numBlocks: number): void {
    this.numReservedBlocks += numBlocks - sequence.numReservedBlocks;
    sequence.numReservedBlocks = numBlocks;
  }

  /** A running sequence gives up what it holds and is computed again later, from its prompt and output. */
  preempt(sequence: Sequence): void {
    this.numPreemptions++;
    this.connectors?.preempted(sequence);
    this.giveUp(sequence);
  }

  /** A running sequence leaves its seat and its blocks, and waits. */
  giveUp(sequence: Sequence): void {
    this.running.remove(sequence);
    this.reserve(sequence, 0);
    if (this.isInFlight(sequence)) {
      sequence.state = "leaving";
      this.leaving.add(sequence);
    } else {
      this.#waitAgain(sequence);
    }
    this.unpark(sequence);
  }

  /** Blocks that a sequence waits for have come. */
  resume(sequence: Sequence): void {
    sequence.loadedAt = this.now();
    if (sequence.state !== "running" || !sequence.prefilling) return;
    sequence.numSubmittedTokens = this.kv.presentEnd(sequence.blocks, sequence.numSubmittedTokens);
    this.unpark(sequence);
  }

  /** Prompt tokens of running sequences that are in no submitted step. */
  numQueuedPromptTokens(): number {
    let count = 0;
    for (let one = this.running.first; one !== undefined; one = one.next)
      if (one.prefilling) count += one.prefillEnd - one.numSubmittedTokens;
    return count;
  }

  /** See `SchedulerSide`. */
  numBlocksToFirstEnd(except: Sequence): number {
    let least = Infinity;
    for (let one = this.running.first; one !== undefined; one = one.next)
      if (one !== except) least = Math.min(least, lengthOf(one) - one.numSubmittedTokens);
    let count = 0;
    for (let one = this.running.first; one !== undefined; one = one.next)
      if (one !== except) count += this.kv.growth(one.blocks, one.numSubmittedTokens + least);
    return count;
  }

  /** Ends a live sequence, within the event that was begun for it. */
  finish(
    sequence: Sequence,
    reason: FinishReason,
    details: Pick<Finish, "stopReason" | "error"> = {},
  ): void {
    if (sequence.state === "running") this.running.remove(sequence);
    else if (sequence.parkedFor !== undefined) this.#leavePark(sequence);
    else if (sequence.state === "waiting") this.waiting.remove(sequence);
    sequence.state = "finished";
    this.unpark(sequence);
    this.reserve(sequence, 0);
    this.log?.ended(sequence);
    const transferParams = this.connectors?.finished(sequence);
    this.#byHandle.delete(sequence.handle);
    this.#byId.delete(sequence.id);
    this.events.finish({
      reason,
      ...details,
      ...(transferParams === undefined ? {} : { transferParams }),
      usage: {
        promptTokens: sequence.numPromptTokens,
        completionTokens: sequence.numOutputTokens,
        cachedTokens: sequence.numCachedTokens,
        ...(sequence.cacheReceipt === undefined ? {} : { cacheReceipt: sequence.cacheReceipt }),
      },
      timing: timingOf(sequence, this.now()),
    });
    if (sequence.seat === NONE) return;
    if (this.isInFlight(sequence)) this.leaving.add(sequence);
    else this.#giveBack(sequence);
  }

  /** Ends every request, whatever state it is in. */
  finishAll(reason: "abort" | "error", error?: ErrorData): void {
    for (const sequence of [...this.#byHandle.values()]) {
      this.events.begin(sequence.handle);
      this.finish(sequence, reason, error === undefined ? {} : { error });
    }
  }

  /** Whether a submitted step has a row of the sequence. */
  isInFlight(sequence: Sequence): boolean {
    return this.inFlight.some((batch) => batch.stepId === sequence.lastStepId);
  }

  /** The oldest step has committed: what left with it gives back what it held. */
  settle(batch: ScheduledBatch): void {
    this.inFlight.shift();
    if (batch.copies.length > 0) this.#freeCopied(batch);
    if (this.leaving.size === 0) return;
    for (const sequence of batch.sequences) {
      if (sequence.lastStepId !== batch.stepId || !this.leaving.has(sequence)) continue;
      if (sequence.state === "finished") this.#giveBack(sequence);
      else this.#waitAgain(sequence);
    }
  }

  /**
   * Blocks that become free when the leaving sequences have left and what is copied of them has been: all their references are those of
   * leaving ones.
   */
  numLeavingBlocks(): number {
    const { pool } = this.kv;
    const held = new Map<number, number>();
    let count = 0;
    for (const { blocks } of this.leaving) {
      for (const { entries } of blocks.tables) {
        for (const id of entries) {
          if (id === NULL_BLOCK) continue;
          const times = (held.get(id) ?? 0) + 1;
          held.set(id, times);
          if (pool.references(id) === times) count++;
        }
      }
    }
    return count;
  }

  /** Throws `internal` unless pool, seats, reservations and places agree. */
  checkIntegrity(): void {
    const holders = new Set<Sequence>(this.leaving);
    let reserved = 0;
    for (let one = this.running.first; one !== undefined; one = one.next) {
      holders.add(one);
      reserved += one.numReservedBlocks;
    }
    const copied = this.inFlight.flatMap(({ copies }) => copies.filter((_, i) => i % 2 === 0));
    const { connectors } = this;
    connectors?.checkIntegrity();
    this.kv.checkIntegrity(
      [...holders].map(({ blocks }) => blocks),
      connectors === undefined ? copied : [...copied, ...connectors.heldIds()],
    );
    const unfinished = [...this.leaving].filter(({ state }) => state === "leaving").length;
    let numParked = 0;
    for (const parked of this.#parked.values()) numParked += parked.size;
    const expected: [string, number, number][] = [
      ["taken seats", holders.size, this.#maxNumSeqs - this.#freeSeats.length],
      ["reserved blocks", reserved, this.numReservedBlocks],
      [
        "live requests",
        this.running.length + this.waiting.length + numParked + unfinished,
        this.#byHandle.size,
      ],
    ];
    for (const [what, found, counted] of expected) {
      if (found !== counted)
        throw new KvEngineError("internal", `scheduler: ${what}: ${found}, counted ${counted}`);
    }
  }

  #waitAgain(sequence: Sequence): void {
    this.#giveBack(sequence);
    sequence.state = "waiting";
    sequence.numComputedTokens = 0;
    sequence.numToldBlocks = 0;
    sequence.numSubmittedTokens = 0;
    sequence.prefillEnd = 0;
    sequence.verifying = false;
    this.waiting.push(sequence);
  }

  #leavePark(sequence: Sequence): void {
    const { of } = sequence.parkedFor!;
    const parked = this.#parked.get(of)!;
    sequence.parkedFor = undefined;
    parked.delete(sequence);
    if (parked.size === 0) this.#parked.delete(of);
  }

  #giveBack(sequence: Sequence): void {
    this.leaving.delete(sequence);
    this.connectors?.letGo(sequence);
    this.kv.release(sequence.blocks);
    this.#freeSeats.push(sequence.seat);
    sequence.seat = NONE;
  }

  #freeCopied({ copies }: ScheduledBatch): void {
    const sources = Int32Array.from({ length: copies.length / 2 }, (_, i) => copies[2 * i]!);
    this.kv.pool.free(sources, sources.length);
  }
}

/** Tokens of a sequence that generates all that it may, less the last one, which needs no place. */
function lengthOf({ numPromptTokens, sampling }: Sequence): number {
  return numPromptTokens + sampling.maxTokens - 1;
}

function timingOf(sequence: Sequence, now: number): Finish["timing"] {
  const { arrivedAt, startedAt, firstTokenAt, lastTokenAt } = sequence;
  if (startedAt === 0) return { queued: now - arrivedAt, prefill: 0, decode: 0 };
  if (firstTokenAt === 0)
    return { queued: startedAt - arrivedAt, prefill: now - startedAt, decode: 0 };
  return {
    queued: startedAt - arrivedAt,
    prefill: firstTokenAt - startedAt,
    decode: lastTokenAt - firstTokenAt,
  };
}
