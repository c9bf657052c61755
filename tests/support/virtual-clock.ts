/** A clock that stands still until the test, or a wait for a promise, moves it on. */

import type { Clock } from "../../cli/bench/types.ts";

interface Timer {
  readonly at: number;
  /** Timers of the same moment end in the order in which they began. */
  readonly order: number;
  readonly end: () => void;
}

export class VirtualClock implements Clock {
  #now = 0;
  #order = 0;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#now;
  }

  /** Sleeps that have not ended. */
  get sleeping(): number {
    return this.#timers.size;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (!(ms > 0) || signal?.aborted === true) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = (): void => {
      this.#timers.delete(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer: Timer = { at: this.#now + ms, order: this.#order++, end };
    this.#timers.add(timer);
    signal?.addEventListener("abort", end, { once: true });
    return promise;
  }

  /** Moves on by `ms`, ending the sleeps on the way in order; what they set off runs before the next one ends. */
  async advance(ms: number): Promise<void> {
    const to = this.#now + ms;
    await settle();
    for (let next = this.#next(); next !== undefined && next.at <= to; next = this.#next()) {
      this.#now = next.at;
      next.end();
      await settle();
    }
    this.#now = to;
  }

  /** Moves on from sleep to sleep until the promise is settled. Throws when it waits and nothing sleeps. */
  async run<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    for (;;) {
      await settle();
      if (settled) return promise;
      const next = this.#next();
      if (next === undefined || next.at === Number.POSITIVE_INFINITY)
        throw new Error("a promise waits, and no sleep will end");
      this.#now = next.at;
      next.end();
    }
  }

  #next(): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (
        next === undefined ||
        timer.at < next.at ||
        (timer.at === next.at && timer.order < next.order)
      )
        next = timer;
    }
    return next;
  }
}

/** All that promises have set off has run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
