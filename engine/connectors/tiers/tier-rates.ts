/**
 * What moves of one kind have cost lately in a tier: the time to the first page, and how quickly others follow. Loads that were not
 * measured, or not for long, are believed to be as quick as stores.
 */

const WEIGHT = 0.2;
/** Pages after which a busy time counts although it goes on. */
const SPAN = 64;
/** Until something was measured, and again when that is long ago: so that a tier that was slow is tried again. */
const FIRST_BYTES_PER_SECOND = 5e8;
const FIRST_LATENCY_MS = 1;
const FORGOTTEN_MS = 60_000;
/** After so long without a load one is tried, however slow stores are: they may be slower than loads. */
const TRIED_MS = 600_000;
/** What a clock does not see took this long. */
const LEAST_MS = 0.001;
/** Pages that came together from which on their time tells the rate. */
const LEAST_PAGES = 4;

export class TierRates {
  readonly #pageBytes: number;
  readonly #now: () => number;
  readonly #stores: TierRates | undefined;
  readonly #startedAt: number;
  #bytesPerMs = 0;
  #latencyMs = 0;
  #measuredAt = -Infinity;
  /** Pages on their way. */
  #numLoading = 0;
  /** Of the busy time under way: its start, the end of its first page, and pages since then. */
  #busySince = 0;
  #firstAt: number | undefined;
  #numSince = 0;

  constructor(pageBytes: number, now: () => number, stores?: TierRates) {
    this.#pageBytes = pageBytes;
    this.#now = now;
    this.#stores = stores;
    this.#startedAt = now();
  }

  get #isKnown(): boolean {
    return this.#now() - this.#measuredAt < FORGOTTEN_MS;
  }

  get bytesPerSecond(): number {
    return this.#known ?? this.#ofStores ?? FIRST_BYTES_PER_SECOND;
  }

  get #known(): number | undefined {
    return this.#isKnown && this.#bytesPerMs > 0 ? this.#bytesPerMs * 1000 : undefined;
  }

  get #ofStores(): number | undefined {
    const stores = this.#stores;
    const isOverdue = this.#now() - Math.max(this.#startedAt, this.#measuredAt) > TRIED_MS;
    return stores === undefined || isOverdue ? undefined : stores.#known;
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

  /** Pages have ended together, of which `arrived` have arrived; those that have not tell nothing. */
  ended(pages: number, arrived: number): void {
    const now = this.#now();
    this.#numLoading -= pages;
    if (arrived === 0) return;
    if (this.#firstAt === undefined) {
      const ms = now - this.#busySince;
      // Nothing follows that would tell the one from the other.
      if (this.#numLoading === 0 && arrived >= LEAST_PAGES) this.#observe(arrived, ms);
      this.#latencyMs = this.#mean(this.#latencyMs, this.#withoutCopy(arrived, ms));
      this.#firstAt = now;
      this.#measuredAt = now;
      return;
    }
    this.#numSince += arrived;
    if (this.#numLoading > 0 && this.#numSince < SPAN) return;
    this.#observe(this.#numSince, now - this.#firstAt);
    this.#firstAt = now;
    this.#numSince = 0;
    this.#measuredAt = now;
  }

  #observe(pages: number, ms: number): void {
    const sample = (pages * this.#pageBytes) / Math.max(LEAST_MS, ms);
    this.#bytesPerMs = this.#mean(this.#bytesPerMs, sample);
  }

  /** What of a time is not that of the pages. */
  #withoutCopy(pages: number, ms: number): number {
    const bytesPerMs = this.#bytesPerMs || FIRST_BYTES_PER_SECOND / 1000;
    return Math.max(0, ms - (pages * this.#pageBytes) / bytesPerMs);
  }

  #mean(before: number, sample: number): number {
    return before === 0 || !this.#isKnown ? sample : before + WEIGHT * (sample - before);
  }
}
