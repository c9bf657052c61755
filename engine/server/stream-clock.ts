/** Notices when a stream has been quiet for a time, and when its reader takes nothing of what there is. */

import type { StreamTimes } from "./deps.ts";

export interface StreamEvents {
  /** Nothing was written for `keepAlive` seconds. */
  isQuiet(): void;
  /** Nothing moved for `slowReader` seconds. */
  isStill(): void;
}

/** Two timers for a whole stream: what moves on it only leaves the time at which it did. */
export class StreamClock {
  readonly #timers: (NodeJS.Timeout | undefined)[] = [];
  #movedAt: number = performance.now();
  #stopped = false;

  constructor({ keepAlive, slowReader }: StreamTimes, events: StreamEvents) {
    this.#watch(0, keepAlive * 1000, () => events.isQuiet());
    this.#watch(1, slowReader * 1000, () => events.isStill());
  }

  /** Something was written, or asked for. */
  moved(): void {
    this.#movedAt = performance.now();
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** Calls back each time that nothing has moved for `ms`; 0 = never. */
  #watch(index: number, ms: number, onStill: () => void, since: number = this.#movedAt): void {
    if (ms === 0 || this.#stopped) return;
    const wait = Math.max(0, since + ms - performance.now());
    this.#timers[index] = setTimeout(() => {
      if (this.#movedAt > since) return this.#watch(index, ms, onStill);
      onStill();
      this.#watch(index, ms, onStill, performance.now());
    }, wait);
  }
}
