/**
 * Whether a tier is asked at all. After a few failures in a row it is left alone (the circuit is open), for a second and then for twice as
 * long each time; afterwards one call tries whether it works again.
 */

const LEAST_MS = 1_000;
const MOST_MS = 60_000;

export interface CircuitOptions {
  /** What is switched off, for the log: "loads from tier disk". */
  readonly what: string;
  /** Failures in a row that open it. */
  readonly failures: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  readonly warn: (message: string) => void;
  readonly info: (message: string) => void;
}

export class Circuit {
  readonly #options: CircuitOptions;
  #inARow = 0;
  #ms = 0;
  /** It is open until then, and half open from then on; undefined = it is closed. */
  #until: number | undefined;
  #isTrying = false;

  constructor(options: CircuitOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#until !== undefined;
  }

  /** Whether no call may be begun for a while; otherwise one may, or one is trying. */
  get isShut(): boolean {
    return this.opensAt !== undefined;
  }

  /** When a call may be tried that may not be now; undefined = now, or when the one that tries has ended. */
  get opensAt(): number | undefined {
    return this.#until !== undefined && this.#options.now() < this.#until ? this.#until : undefined;
  }

  /** How many of `count` calls may be begun now. */
  allows(count: number): number {
    if (this.#until === undefined) return count;
    return this.#isTrying || this.#options.now() < this.#until ? 0 : Math.min(count, 1);
  }

  /** Calls are begun, no more than are allowed. */
  begun(): void {
    this.#isTrying = this.#until !== undefined;
  }

  /** A call told nothing about the tier. */
  passed(): void {
    this.#isTrying = false;
  }

  worked(): void {
    this.#inARow = 0;
    this.#isTrying = false;
    if (this.#until === undefined) return;
    this.#until = undefined;
    this.#ms = 0;
    this.#options.info(`${this.#options.what} work again`);
  }

  /** A call has failed; `reason` follows a colon. */
  failed(reason: string): void {
    this.#inARow++;
    this.#isTrying = false;
    const { what, failures, now, warn } = this.#options;
    // Those that were under way when it opened tell nothing new.
    if (this.#until === undefined ? this.#inARow < failures : now() < this.#until) return;
    this.#ms = Math.min(MOST_MS, Math.max(LEAST_MS, this.#ms * 2));
    this.#until = now() + this.#ms;
    // Once: while it stays open, nothing is new.
    if (this.#ms === LEAST_MS)
      warn(`${what} are switched off after ${failures} failures in a row, the last one: ${reason}`);
  }
}
