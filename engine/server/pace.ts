/** How fast requests have been passing of late, and so how long one that is refused would have had to wait. */

/** Requests that are remembered. */
const MOST = 64;
/** Seconds; whoever is told to come back later than that asks elsewhere. */
const MOST_SECONDS = 60;

export class Pace {
  readonly #now: () => number;
  /** Milliseconds, ascending: when the first began to wait, or passed, of those that are remembered, and when each one after it passed. */
  readonly #times: number[] = [];

  /** `now`: milliseconds that never go back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** From here on somebody waits: what passed before says nothing of how fast that goes. */
  begin(): void {
    this.#times.length = 0;
    this.#times.push(this.#now());
  }

  passed(): void {
    this.#times.push(this.#now());
    if (this.#times.length > MOST) this.#times.shift();
  }

  /** In how many seconds `count` requests pass, 1 to 60, rounded up. The time without one counts as if one passed now. */
  secondsFor(count: number): number {
    const [since] = this.#times;
    if (since === undefined) return 1;
    const seconds = (this.#now() - since) / 1000;
    const wait = Math.ceil((count * seconds) / this.#times.length);
    return Math.min(MOST_SECONDS, Math.max(1, wait));
  }
}
