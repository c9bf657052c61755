/**
 * What one connector holds of the pool, and until when. Each hold is a reference of its own on each block, so the pool sees
 * connectors and requests alike. A call takes effect whole or not at all.
 */

import type { BlockLease } from "../../connectors/block-pool-view.ts";
import { RefusedError } from "../../connectors/errors.ts";
import { readBlockIds } from "./block-ids.ts";
import type { BlockPool } from "./block-pool.ts";
import type { CommittedContent } from "./committed-content.ts";
import { DeadlineQueue, type Timed } from "./deadline-queue.ts";
import { Holdings } from "./holdings.ts";
import { Touches } from "./touches.ts";

/** The longest time that a lease may be opened or renewed for: a day. */
const MAX_TTL_MS = 86_400_000;

export interface LeaseLedgerOptions {
  readonly pool: BlockPool;
  readonly content: CommittedContent;
  /** Blocks that the connector may hold at a time; one that it holds several times counts once. */
  readonly maxHeld: number;
  /** How long a touch lasts, in ms. */
  readonly holdTtlMs: number;
  /** Whether requests wait for blocks, so that nothing more may be held, not even what is held already. */
  readonly isPressed: () => boolean;
  /** Free blocks that requests can do without now. */
  readonly numSpare: () => number;
  /** Milliseconds, never going back. */
  readonly now: () => number;
}

interface Lease extends Timed {
  readonly ids: Int32Array;
  readonly ttlMs: number;
  /** From when on it cannot be renewed. */
  recalledAt: number;
}

export class LeaseLedger {
  readonly #options: LeaseLedgerOptions;
  readonly #holdings: Holdings;
  readonly #leases = new DeadlineQueue<Lease>();
  readonly #touches: Touches;
  #nextNumber = 0;
  #isClosed = false;
  #numExpired = 0;
  #numExpiredTouches = 0;
  /** Blocks that became free by expiry since `expire` was called. */
  #numFreed = 0;

  constructor(options: LeaseLedgerOptions) {
    this.#options = options;
    this.#holdings = new Holdings(options.pool, options.maxHeld);
    this.#touches = new Touches(options.pool.numBlocks);
  }

  /** Blocks that the connector holds; one that it holds several times counts once. */
  get numHeld(): number {
    return this.#holdings.numBlocks;
  }

  /** Leases that are live; touches are none of them. */
  get numLeases(): number {
    return this.#leases.items.length;
  }

  /** References that ended at their deadline since the start. */
  get numExpired(): number {
    return this.#numExpired;
  }

  /** Touches among them: a lease may end by itself, a touch is to be freed. */
  get numExpiredTouches(): number {
    return this.#numExpiredTouches;
  }

  /** When the next hold ends, in ms of the clock; undefined = nothing is held. */
  get nextDeadline(): number | undefined {
    const lease = this.#leases.first?.expiresAt;
    const touch = this.#touches.nextDeadline;
    return lease !== undefined && touch !== undefined ? Math.min(lease, touch) : (lease ?? touch);
  }

  /** Throws `closed` when the connector was disabled. */
  checkOpen(): void {
    if (this.#isClosed) throw new RefusedError("closed", "the connector was disabled or shut down");
  }

  /** See `GpuBlockPoolView.lease`. */
  lease(ids: unknown, ttlMs: unknown): BlockLease {
    this.checkOpen();
    const own = this.#readIds(ids);
    const ttl = checkTtl(ttlMs);
    const now = this.#settle();
    this.#take(own);
    const lease: Lease = {
      ids: own,
      ttlMs: ttl,
      expiresAt: now + ttl,
      recalledAt: Infinity,
      number: this.#nextNumber++,
      place: -1,
    };
    // One of no blocks is over from the start, so it takes no room here.
    if (own.length > 0) this.#leases.push(lease);
    return this.#handleOf(lease);
  }

  /** See `GpuBlockPoolView.touchBlocks`. */
  touch(ids: unknown): void {
    this.checkOpen();
    const own = this.#readIds(ids);
    const now = this.#settle();
    this.#take(own);
    this.#touches.open(own, now + this.#options.holdTtlMs);
  }

  /** See `GpuBlockPoolView.freeBlocks`. */
  free(ids: unknown): void {
    this.checkOpen();
    const own = this.#readIds(ids);
    this.#settle();
    const outcome = this.#touches.close(own);
    if (outcome.kind === "notHeld") {
      throw new RefusedError(
        "notHeld",
        `block ${outcome.id} is named more often than the connector has touched it`,
      );
    }
    if (outcome.kind === "expired") {
      throw new RefusedError(
        "lease_expired",
        `the touch of block ${outcome.ids.join(", ")} ended after ${this.#options.holdTtlMs} ms; nothing was freed`,
      );
    }
    this.#holdings.drop(own);
  }

  /**
   * Ends what is due. Answers how many blocks became free by expiry since the last call, those included that a call of the connector
   * found to be due.
   */
  expire(): number {
    this.#settle();
    const numFreed = this.#numFreed;
    this.#numFreed = 0;
    return numFreed;
  }

  /**
   * Leases that are live now cannot be renewed from `deadline` on, or from that of an earlier recall on, and end the time of a touch
   * later at the latest, however long they were opened for.
   */
  recall(deadline: number): void {
    for (const lease of Array.from(this.#leases.items)) {
      lease.recalledAt = Math.min(lease.recalledAt, deadline);
      this.#leases.move(lease, this.#endOf(lease, lease.expiresAt));
    }
  }

  /** Ends all holds. Calls that the connector makes from here on are refused, and its leases are over. */
  disable(): void {
    this.#isClosed = true;
    for (let lease = this.#leases.first; lease !== undefined; lease = this.#leases.first)
      this.#end(lease);
    this.#holdings.drop(Int32Array.from(this.#touches.clear()));
  }

  /** The blocks that are held, one for each reference. */
  *heldIds(): IterableIterator<number> {
    for (const { ids } of this.#leases.items) yield* ids;
    yield* this.#touches;
  }

  /** Throws `internal` unless leases, touches, counts and the pool's references agree. */
  checkIntegrity(): void {
    this.#holdings.checkIntegrity(this.heldIds());
  }

  #readIds(ids: unknown): Int32Array {
    return readBlockIds(ids, this.#options.pool.numBlocks);
  }

  #take(ids: Int32Array): void {
    const { content, isPressed, numSpare } = this.#options;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      if (content.has(id)) continue;
      throw new RefusedError(
        "stale",
        `block ${id} has no content to hold: it was handed out again, or its step has not committed`,
      );
    }
    if (ids.length > 0 && isPressed())
      throw new RefusedError("pressure", "requests wait for blocks; nothing more can be held", 0);
    this.#holdings.take(ids, numSpare());
  }

  /** Ends what is due: leases, then touches. Answers the time. */
  #settle(): number {
    const now = this.#options.now();
    let lease = this.#leases.first;
    for (; lease !== undefined && lease.expiresAt <= now; lease = this.#leases.first) {
      this.#numExpired += lease.ids.length;
      this.#numFreed += this.#end(lease);
    }
    const touched = this.#touches.nextDeadline;
    if (touched === undefined || touched > now) return now;
    const ids = Int32Array.from(this.#touches.expire(now));
    this.#numExpired += ids.length;
    this.#numExpiredTouches += ids.length;
    this.#numFreed += this.#holdings.drop(ids);
    return now;
  }

  /** Answers how many blocks are held by nobody now. */
  #end(lease: Lease): number {
    this.#leases.remove(lease);
    return this.#holdings.drop(lease.ids);
  }

  #isLive(lease: Lease): boolean {
    return lease.place >= 0 && lease.expiresAt > this.#options.now();
  }

  #renew(lease: Lease, ttlMs: unknown): boolean {
    const ttl = ttlMs === undefined ? lease.ttlMs : checkTtl(ttlMs);
    const now = this.#settle();
    if (lease.place < 0 || now >= lease.recalledAt) return false;
    this.#leases.move(lease, this.#endOf(lease, now + ttl));
    return true;
  }

  /** `expiresAt`, as far as a recall lets it. */
  #endOf({ recalledAt }: Lease, expiresAt: number): number {
    return Math.min(expiresAt, recalledAt + this.#options.holdTtlMs);
  }

  #release(lease: Lease): void {
    this.#settle();
    if (lease.place >= 0) this.#end(lease);
  }

  /** What the connector gets of a lease: an object from which there is no way to the ledger. */
  #handleOf(lease: Lease): BlockLease {
    const isLive = (): boolean => this.#isLive(lease);
    const release = (): void => this.#release(lease);
    let ids: readonly number[] | undefined;
    return Object.freeze({
      get ids(): readonly number[] {
        ids ??= Object.freeze(Array.from(lease.ids));
        return ids;
      },
      get expiresAt(): number {
        return lease.expiresAt;
      },
      get live(): boolean {
        return isLive();
      },
      renew: (ttlMs?: number): boolean => this.#renew(lease, ttlMs),
      release,
      [Symbol.dispose]: release,
    });
  }
}

/** The time to live. Throws `invalid` unless it is from 1 ms to a day. */
function checkTtl(ttlMs: unknown): number {
  if (typeof ttlMs === "number" && ttlMs >= 1 && ttlMs <= MAX_TTL_MS) return ttlMs;
  const shown = typeof ttlMs === "number" ? ttlMs : `of type ${typeof ttlMs}`;
  throw new RefusedError("invalid", `ttlMs is ${shown}; allowed is 1 to ${MAX_TTL_MS}`);
}
