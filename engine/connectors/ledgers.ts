/** What the connectors hold of the pool, one ledger each, as pressure and deadlines see them. */

import type { GpuBlockPoolView } from "../../connectors/connector.ts";
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

export class Ledgers {
  readonly #all: readonly ConnectorBlocks[];
  readonly #now: () => number;
  readonly #recallMs: number;
  /** The recall under way ends here. */
  #recallUntil = -Infinity;

  constructor(numConnectors: number, side: SchedulerSide, options: LedgerOptions) {
    const { kv, now, committedStep } = side;
    const half = Math.max(1, Math.floor((kv.pool.numBlocks - 1) / 2));
    this.#now = now;
    this.#recallMs = options.recallMs;
    this.#all = Array.from(
      { length: numConnectors },
      () =>
        new ConnectorBlocks({
          pool: kv.pool,
          blockSize: kv.blockSize,
          committedStep,
          maxHeld: options.maxHeld === 0 ? half : options.maxHeld,
          holdTtlMs: options.holdTtlMs,
          isPressed: () => this.#isRecalling(),
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

  /** Ids that are held, once for each hold. */
  heldIds(): number[] {
    return this.#all.flatMap(({ ledger }) => [...ledger.heldIds()]);
  }

  /** When the next hold ends; Infinity = nothing is held. */
  nextDeadline(): number {
    return Math.min(...this.#all.map(({ ledger }) => ledger.nextDeadline ?? Infinity));
  }

  /** Ends what is due. */
  expire(): void {
    for (const { ledger } of this.#all) ledger.expire();
  }

  /** What is held now cannot be renewed for much longer. Answers until when; undefined = a recall is under way already. */
  recall(): number | undefined {
    if (this.#isRecalling()) return undefined;
    this.#recallUntil = this.#now() + this.#recallMs;
    for (const { ledger } of this.#all) ledger.recall(this.#recallUntil);
    return this.#recallUntil;
  }

  /** The blocks' content has a copy of the connector's. */
  markSafe(place: number, ids: readonly number[]): void {
    this.#at(place).markSafe(ids);
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
