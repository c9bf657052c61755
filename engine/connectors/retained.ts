/**
 * Content that is to stay in the host's pages and below, once it is there: pins, each with an end, and a budget for all. It holds no
 * block and no page: whoever forgets copies asks it which ones to pass over.
 */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { KvEngineError } from "../errors.ts";

export interface Pin {
  readonly id: string;
  /** Who may see and end it. */
  readonly owner: string;
  readonly keys: readonly BlockKey[];
  /** Leading tokens of a prompt whose content that is. */
  readonly numTokens: number;
  /** Milliseconds of the clock. */
  readonly endsAt: number;
}

/** What is retained, for those who forget copies. */
export interface RetainedContent {
  has(key: BlockKey): boolean;
  /** Contents of which `has` is true. */
  readonly size: number;
}

interface Kept {
  /** Pins that name it. */
  count: number;
  /** Of the last of them, as far as any was known. */
  endsAt: number;
}

export class Retained implements RetainedContent {
  /** Most pages that all pins may keep together. */
  readonly budget: number;
  readonly #now: () => number;
  readonly #pins = new Map<string, Pin>();
  readonly #kept = new Map<BlockKey, Kept>();
  /** When the next pin ends; Infinity = there is none. */
  #nextEnd = Infinity;

  /** `now`: milliseconds, monotonic. */
  constructor(budget: number, now: () => number) {
    this.budget = budget;
    this.#now = now;
  }

  /** Pages that the pins keep: what several name counts once. */
  get size(): number {
    this.#expire();
    return this.#kept.size;
  }

  has(key: BlockKey): boolean {
    return this.endOf(key) !== undefined;
  }

  /** Until when content is kept at most, in milliseconds of the clock; undefined = it is not. */
  endOf(key: BlockKey): number | undefined {
    if (this.#kept.size === 0) return undefined;
    this.#expire();
    return this.#kept.get(key)?.endsAt;
  }

  get(id: string): Pin | undefined {
    this.#expire();
    return this.#pins.get(id);
  }

  /** In the place of one with the same id. Throws `invalid_request`, and changes nothing, where it would exceed the budget. */
  add(pin: Pin): void {
    const { size } = this;
    const before = this.#pins.get(pin.id);
    const own = new Set(pin.keys);
    const numNew = [...own].filter((key) => !this.#kept.has(key)).length;
    const freed = before?.keys.filter((key) => this.#kept.get(key)?.count === 1 && !own.has(key));
    const left = this.budget - size + (freed?.length ?? 0);
    if (numNew > left) {
      throw new KvEngineError(
        "invalid_request",
        `the pin needs ${numNew} more pages; ${left} of the ${this.budget} that pins may keep are left`,
        {
          subject: "id",
          hint: "end other pins (DELETE /kv/pin/{id}), pin fewer tokens, or start the server with a larger --kv-pin-budget",
        },
      );
    }
    if (before !== undefined) this.#end(before);
    this.#pins.set(pin.id, pin);
    for (const key of pin.keys) {
      const kept = this.#kept.get(key);
      if (kept === undefined) this.#kept.set(key, { count: 1, endsAt: pin.endsAt });
      else {
        kept.count++;
        kept.endsAt = Math.max(kept.endsAt, pin.endsAt);
      }
    }
    this.#nextEnd = Math.min(this.#nextEnd, pin.endsAt);
  }

  /** Ends a pin of this owner. Answers it; undefined where there is none. */
  remove(id: string, owner: string): Pin | undefined {
    this.#expire();
    const pin = this.#pins.get(id);
    if (pin === undefined || pin.owner !== owner) return undefined;
    this.#end(pin);
    return pin;
  }

  /** The pins of this owner, in the order in which they were made. */
  list(owner: string): Pin[] {
    this.#expire();
    return [...this.#pins.values()].filter((pin) => pin.owner === owner);
  }

  #expire(): void {
    if (this.#nextEnd === Infinity || this.#now() < this.#nextEnd) return;
    const now = this.#now();
    for (const pin of this.#pins.values()) if (pin.endsAt <= now) this.#end(pin);
    this.#nextEnd = Math.min(...[...this.#pins.values()].map(({ endsAt }) => endsAt));
  }

  #end(pin: Pin): void {
    this.#pins.delete(pin.id);
    for (const key of pin.keys) {
      const kept = this.#kept.get(key);
      if (kept !== undefined && --kept.count === 0) this.#kept.delete(key);
    }
  }
}
