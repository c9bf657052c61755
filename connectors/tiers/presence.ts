/** What is believed of a tier that answers later: its answers for a while, and what was stored in it or found missing since. */

import type { BlockKey } from "../connector.ts";

/** How long an answer is believed, in milliseconds. */
const BELIEVED_MS = 5_000;
/** Most keys; the oldest answers are forgotten first. */
const MOST_KEYS = 65_536;

interface Belief {
  readonly isThere: boolean;
  readonly until: number;
}

export class Presence {
  readonly #beliefs = new Map<BlockKey, Belief>();

  /** Undefined = nobody knows. */
  at(key: BlockKey, now: number): boolean | undefined {
    const belief = this.#beliefs.get(key);
    if (belief === undefined || belief.until < now) return undefined;
    return belief.isThere;
  }

  set(key: BlockKey, isThere: boolean, now: number): void {
    // At the end of the order.
    this.#beliefs.delete(key);
    this.#beliefs.set(key, { isThere, until: now + BELIEVED_MS });
    if (this.#beliefs.size <= MOST_KEYS) return;
    for (const oldest of this.#beliefs.keys()) {
      this.#beliefs.delete(oldest);
      break;
    }
  }

  clear(): void {
    this.#beliefs.clear();
  }
}
