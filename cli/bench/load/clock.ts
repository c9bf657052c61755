/** The clock of real runs. */

import type { Clock } from "../types.ts";

/** A longer `setTimeout` would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const REAL_CLOCK: Clock = {
  now: () => performance.now(),
  async sleep(ms, signal): Promise<void> {
    if (!(ms > 0)) return immediate();
    const end = performance.now() + ms;
    for (let left = ms; left > 0; left = end - performance.now()) {
      if (signal?.aborted === true) return;
      await timer(Math.min(left, MAX_TIMER_MS), signal);
    }
  },
};

/** What has come meanwhile is read first. */
function immediate(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function timer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => {
    clearTimeout(handle);
    signal?.removeEventListener("abort", end);
    resolve();
  };
  const handle = setTimeout(end, ms);
  signal?.addEventListener("abort", end, { once: true });
  return promise;
}
