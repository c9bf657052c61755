/** Requests whose look-up is not answered. Each waits for a time; then it is a miss, and stays one. */

import type { Sequence } from "../scheduler/sequence.ts";

export class PendingLookUps {
  readonly #timeoutMs: number;
  /** Since when. */
  readonly #since = new Map<Sequence, number>();
  readonly #overdue = new WeakSet<Sequence>();

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  get size(): number {
    return this.#since.size;
  }

  /** When the next one is a miss; Infinity = none waits. */
  get nextDeadline(): number {
    let next = Infinity;
    for (const since of this.#since.values()) next = Math.min(next, since + this.#timeoutMs);
    return next;
  }

  /** A look-up was not answered: whether the request waits on. `onOverdue` hears once for each request how long it has waited. */
  mayWait(sequence: Sequence, now: number, onOverdue: (ms: number) => void): boolean {
    if (this.#overdue.has(sequence)) return false;
    const since = this.#since.get(sequence) ?? now;
    this.#since.set(sequence, since);
    if (now - since < this.#timeoutMs) return true;
    this.#overdue.add(sequence);
    onOverdue(now - since);
    return false;
  }

  /** It waits no more. */
  end(sequence: Sequence): void {
    this.#since.delete(sequence);
  }
}
