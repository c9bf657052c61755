/** Milliseconds since the epoch with their fractions, comparable between threads: each thread's `performance.now()` has an origin of its own. */
export function epochMs(): number {
  return performance.timeOrigin + performance.now();
}
