/** What loads from one tier have cost lately: the time to the first page, and how quickly others follow. */

const WEIGHT = 0.2;
/** Pages after which a busy time counts although it goes on. */
const SPAN = 64;
/** Until something was measured, and again when that is long ago: so that a tier that was slow is tried again. */
const FIRST_BYTES_PER_SECOND = 5e8;
const FIRST_LATENCY_MS = 1;
const FORGOTTEN_MS = 60_000;
/** What a clock does not see took this long. */
const LEAST_MS = 0.001;

export class TierRates {
  readonly #pageBytes: number;
  readonly #now: () => number;
  #bytesPerMs = 0;
  #latencyMs = 0;
  #measuredAt = -Infinity;
  /** Pages on their way. */
  #numLoading = 0;
  /** Of the busy time under way: its start, the end of its first page, and pages since then. */
  #busySince = 0;
  #firstAt: number | undefined;
  #numSince = 0;

  constructor(pageBytes: number, now: () => number) {
    this.#pageBytes = pageBytes;
    this.#now = now;
  }

  get #isKnown(): boolean {
    return this.#now() - this.#measuredAt < FORGOTTEN_MS;
  }

  get bytesPerSecond(): number {
    return this.#isKnown && this.#bytesPerMs > 0 ? this.#bytesPerMs * 1000 : FIRST_BYTES_PER_SECOND;
  }

  get latencyMs(): number {
    return this.#isKnown ? this.#latencyMs : FIRST_LATENCY_MS;
  }

  get queuedBytes(): number {
    return this.#numLoading * this.#pageBytes;
  }

  begun(pages: number): void {
    if (this.#numLoading === 0) {
      this.#busySince = this.#now();
      this.#firstAt = undefined;
      this.#numSince = 0;
    }
    this.#numLoading += pages;
  }

  /** A page has ended; one that did not arrive tells nothing. */
  ended(arrived: boolean): void {
    const now = this.#now();
    this.#numLoading--;
    if (!arrived) return;
    if (this.#firstAt === undefined) {
      this.#latencyMs = this.#mean(this.#latencyMs, now - this.#busySince);
      this.#firstAt = now;
      this.#measuredAt = now;
      return;
    }
    this.#numSince++;
    if (this.#numLoading > 0 && this.#numSince < SPAN) return;
    const ms = Math.max(LEAST_MS, now - this.#firstAt);
    this.#bytesPerMs = this.#mean(this.#bytesPerMs, (this.#numSince * this.#pageBytes) / ms);
    this.#firstAt = now;
    this.#numSince = 0;
    this.#measuredAt = now;
  }

  #mean(before: number, sample: number): number {
    return before === 0 || !this.#isKnown ? sample : before + WEIGHT * (sample - before);
  }
}
