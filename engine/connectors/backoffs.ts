/** Connectors that did not bring their blocks in time are not asked for a while: doubled each time, up to a minute. */

const LEAST_MS = 1_000;
const MOST_MS = 60_000;

export class Backoffs {
  readonly #all: { until: number; ms: number }[];

  constructor(numConnectors: number) {
    this.#all = Array.from({ length: numConnectors }, () => ({ until: -Infinity, ms: 0 }));
  }

  /** Whether the connector is not to be asked. */
  isWaiting(connector: number, now: number): boolean {
    return now < this.#at(connector).until;
  }

  /** It was late, and is not asked until the answered time. */
  late(connector: number, now: number): number {
    const backoff = this.#at(connector);
    if (now < backoff.until) return backoff.until;
    backoff.ms = Math.min(MOST_MS, Math.max(LEAST_MS, backoff.ms * 2));
    backoff.until = now + backoff.ms;
    return backoff.until;
  }

  /** It has brought what it was to bring: the next time counts as the first. */
  worked(connector: number): void {
    this.#at(connector).ms = 0;
  }

  #at(connector: number): { until: number; ms: number } {
    return this.#all[connector] as { until: number; ms: number };
  }
}
