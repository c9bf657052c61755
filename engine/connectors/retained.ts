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

export class Retained implements RetainedContent {
  /** Most pages that all pins may keep together. */
  readonly budget: number;
  readonly #now: () => number;
  readonly #pins = new Map<string, Pin>();
  /** How many pins name each content. */
  readonly #counts = new Map<BlockKey, number>();
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
    return this.#counts.size;
  }

  has(key: BlockKey): boolean {
    if (this.#counts.size === 0) return false;
    this.#expire();
    return this.#counts.has(key);
  }

  /** Throws `invalid_request`, and changes nothing, where it would exceed the budget. */
  add(pin: Pin): void {
    const { size } = this;
    const numNew = new Set(pin.keys.filter((key) => !this.#counts.has(key))).size;
    if (size + numNew > this.budget) {
      throw new KvEngineError(
        "invalid_request",
        `the pin needs ${numNew} more pages; ${this.budget - size} of the ${this.budget} that pins may keep are left`,
        {
          subject: "id",
          hint: "end other pins (DELETE /kv/pin/{id}), pin fewer tokens, or start the server with a larger --kv-pin-budget",
        },
      );
    }
    this.#pins.set(pin.id, pin);
    for (const key of pin.keys) this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
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
      const count = (this.#counts.get(key) ?? 0) - 1;
      if (count > 0) this.#counts.set(key, count);
      else this.#counts.delete(key);
    }
  }
}
