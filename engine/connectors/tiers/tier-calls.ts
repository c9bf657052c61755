/**
 * Calls of a tier that is written in JavaScript, each behind a wall: what it throws, answers and how long it takes ends here. A call that
 * does not answer in time has failed, and yet stays open until it settles: what was lent to it may still be in use.
 */

import { showThrown } from "../../../connectors/safe-text.ts";

export type CallOutcome<T> =
  | { readonly kind: "answered"; readonly answer: T }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "late" };

/** A call that has not answered at once. Neither promise rejects. */
export interface OpenCall<T> {
  /** Comes in time. */
  readonly outcome: Promise<CallOutcome<T>>;
  /** Comes when the tier is through with it, which may be never. */
  readonly settled: Promise<void>;
}

export interface TierCallsOptions {
  readonly timeoutMs: number;
  /** Milliseconds of one call on the engine's thread, from which on the tier is called no more. */
  readonly slowMs: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** It held up the engine for so long. */
  readonly onSlow: (ms: number) => void;
}

interface Awaited {
  readonly deadline: number;
  readonly giveUp: () => void;
}

export class TierCalls {
  readonly #options: TierCallsOptions;
  /** In order of their deadlines: all calls have the same time. */
  readonly #open = new Set<Awaited>();

  constructor(options: TierCallsOptions) {
    this.#options = options;
  }

  /** When the next open call is late; Infinity = none is open. */
  get nextDeadline(): number {
    for (const { deadline } of this.#open) return deadline;
    return Infinity;
  }

  /** Calls that have not answered and are not late. */
  get numOpen(): number {
    return this.#open.size;
  }

  /** Calls whose time is over are late. */
  expire(now: number): void {
    for (const call of this.#open) {
      if (call.deadline > now) return;
      this.#open.delete(call);
      call.giveUp();
    }
  }

  /** `read` checks an answer: it throws a `TypeError` that says what is allowed. */
  call<T>(invoke: () => unknown, read: (answer: unknown) => T): CallOutcome<T> | OpenCall<T> {
    const { now, slowMs, onSlow } = this.#options;
    const start = now();
    try {
      const answer = invoke();
      if (!(answer instanceof Promise)) return answered(answer, read);
      return this.#await(answer, read);
    } catch (thrown) {
      return { kind: "failed", reason: `threw ${showThrown(thrown)}` };
    } finally {
      const ms = now() - start;
      if (ms > slowMs) onSlow(ms);
    }
  }

  #await<T>(promise: Promise<unknown>, read: (answer: unknown) => T): OpenCall<T> {
    const { promise: outcome, resolve } = Promise.withResolvers<CallOutcome<T>>();
    const call: Awaited = {
      deadline: this.#options.now() + this.#options.timeoutMs,
      giveUp: () => resolve({ kind: "late" }),
    };
    this.#open.add(call);
    const end = (result: CallOutcome<T>): void => {
      this.#open.delete(call);
      resolve(result);
    };
    const settled = promise.then(
      (answer) => end(answered(answer, read)),
      (thrown: unknown) => end({ kind: "failed", reason: `rejected with ${showThrown(thrown)}` }),
    );
    return { outcome, settled };
  }
}

function answered<T>(answer: unknown, read: (answer: unknown) => T): CallOutcome<T> {
  try {
    return { kind: "answered", answer: read(answer) };
  } catch (thrown) {
    const reason = thrown instanceof TypeError ? thrown.message : showThrown(thrown);
    return { kind: "failed", reason };
  }
}
