/** What the connectors hold of the pool, one ledger each, as pressure and deadlines see them. */

import type { GpuBlockPoolView } from "../../connectors/connector.ts";
import type { BlockKeys } from "../cache/block-keys.ts";
import { ConnectorBlocks } from "../cache/gpu-block-pool-view.ts";
import type { SchedulerSide } from "../scheduler/scheduler-connectors.ts";

export interface LedgerOptions {
  /** Most blocks of one connector; 0 = half the pool. */
  readonly maxHeld: number;
  /** How long a touch lasts. */
  readonly holdTtlMs: number;
  /** From a recall on, how long leases can still be renewed. */
  readonly recallMs: number;
}

export interface LedgerCounts {
  /** Blocks held, and leases open, now. */
  readonly numHeld: number;
  readonly numLeases: number;
  /** Holds that ended at their deadline, and recalls while anything was held. */
  readonly numExpired: number;
  readonly numRecalls: number;
  /** Blocks evicted of which it had no copy. */
  readonly numLost: number;
}

export class Ledgers {
  readonly #all: readonly ConnectorBlocks[];
  readonly #now: () => number;
  readonly #recallMs: number;
  /** Of each connector: recalls while it held anything. */
  readonly #numRecalls: number[];
  /** Of each connector: touches that ended at their deadline, as last seen. */
  readonly #numExpired: number[];
  /** The recall under way ends here. */
  #recallUntil = -Infinity;
  /** Whether a request lacks what is held: in this `schedule()`, and in the last one. */
  #isLacking = false;
  #wasLacking = false;

  constructor(numConnectors: number, side: SchedulerSide, keys: BlockKeys, options: LedgerOptions) {
    const { kv, now, committedStep } = side;
    const half = Math.max(1, Math.floor((kv.pool.numBlocks - 1) / 2));
    this.#now = now;
    this.#recallMs = options.recallMs;
    this.#numRecalls = Array.from({ length: numConnectors }, () => 0);
    this.#numExpired = Array.from({ length: numConnectors }, () => 0);
    this.#all = Array.from(
      { length: numConnectors },
      () =>
        new ConnectorBlocks({
          pool: kv.pool,
          keys,
          blockSize: kv.blockSize,
          committedStep,
          maxHeld: options.maxHeld === 0 ? half : options.maxHeld,
          holdTtlMs: options.holdTtlMs,
          isPressed: () => this.#isRecalling() || this.#isLacking || this.#wasLacking,
          numSpare: side.numSpareBlocks,
          now,
        }),
    );
  }

  viewOf(place: number): GpuBlockPoolView {
    return this.#at(place).view;
  }

  /** Blocks that connectors hold; one that several hold counts for each. */
  get numHeld(): number {
    return this.#all.reduce((sum, { ledger }) => sum + ledger.numHeld, 0);
  }

  /** Blocks that one connector holds. */
  numHeldBy(place: number): number {
    return this.#at(place).ledger.numHeld;
  }

  /** For metrics: what one connector holds, and what became of its holds since the start. */
  countsOf(place: number): LedgerCounts {
    const { ledger, numLost } = this.#at(place);
    const { numHeld, numLeases, numExpired } = ledger;
    const numRecalls = this.#numRecalls[place] as number;
    return { numHeld, numLeases, numExpired, numRecalls, numLost };
  }

  /** Ids that are held, once for each hold. */
  heldIds(): number[] {
    return this.#all.flatMap(({ ledger }) => [...ledger.heldIds()]);
  }

  /** When the next hold ends; Infinity = nothing is held. */
  nextDeadline(): number {
    return Math.min(...this.#all.map(({ ledger }) => ledger.nextDeadline ?? Infinity));
  }

  /** Ends what is due. `onExpired` hears of each connector whose touches ended so since the last call, and of how many. */
  expire(onExpired: (place: number, count: number) => void): void {
    for (const [place, { ledger }] of this.#all.entries()) {
      ledger.expire();
      const count = ledger.numExpiredTouches - (this.#numExpired[place] as number);
      if (count === 0) continue;
      this.#numExpired[place] = ledger.numExpiredTouches;
      onExpired(place, count);
    }
  }

  /**
   * A request lacks what is held: until a `schedule()` in which none does, nothing more can be held, and what is held now cannot be
   * renewed for much longer. Answers until when; undefined = a recall is under way already.
   */
  recall(): number | undefined {
    this.#isLacking = true;
    if (this.#isRecalling()) return undefined;
    this.#recallUntil = this.#now() + this.#recallMs;
    for (const [place, { ledger }] of this.#all.entries()) {
      if (ledger.numHeld > 0) this.#numRecalls[place] = (this.#numRecalls[place] as number) + 1;
      ledger.recall(this.#recallUntil);
    }
    return this.#recallUntil;
  }

  /** The end of a `schedule()`. */
  scheduled(): void {
    this.#wasLacking = this.#isLacking;
    this.#isLacking = false;
  }

  /** The blocks' content has a copy of the connector's. */
  markSafe(place: number, ids: readonly number[]): void {
    this.#at(place).markSafe(ids);
  }

  /** Whether any connector has a copy of the block's content. */
  isSafe(id: number): boolean {
    return this.#all.some((blocks) => blocks.isSafe(id));
  }

  disable(place: number): void {
    this.#at(place).disable();
  }

  checkIntegrity(): void {
    for (const { ledger } of this.#all) ledger.checkIntegrity();
  }

  #isRecalling(): boolean {
    return this.#now() < this.#recallUntil;
  }

  #at(place: number): ConnectorBlocks {
    return this.#all[place] as ConnectorBlocks;
  }
}
