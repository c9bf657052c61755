/** What the bench's own process costs while it measures. */

import type { ClientCost } from "./types.ts";

/** How often the event loop is looked at, in milliseconds. */
const PERIOD_MS = 10;

/** Starts to watch; the function that it answers ends that. Other work in this process counts as the client's. */
export function watchClientCost(): () => ClientCost {
  const start = process.cpuUsage();
  const late: number[] = [];
  let due = performance.now() + PERIOD_MS;
  const tick = (): void => {
    const now = performance.now();
    late.push(Math.max(0, now - due));
    due = now + PERIOD_MS;
    timer = setTimeout(tick, PERIOD_MS);
  };
  let timer = setTimeout(tick, PERIOD_MS);
  return () => {
    clearTimeout(timer);
    const { user, system } = process.cpuUsage(start);
    const sorted = late.toSorted((a, b) => a - b);
    return {
      cpuSeconds: (user + system) / 1e6,
      lagP99Ms: sorted[Math.floor((sorted.length - 1) * 0.99)] ?? 0,
      lagMaxMs: sorted.at(-1) ?? 0,
    };
  };
}
