/** Transfers under a test's control: they are begun as the engine asks, and run when, and as, the test says. */

import type {
  FlightResult,
  ManualTransfers,
  PageTransfers,
  TransferStats,
} from "../../cache/page-transfers.ts";

export interface PendingFlight {
  readonly id: number;
  readonly kind: "store" | "load";
  readonly blocks: readonly number[];
  readonly pages: readonly number[];
}

export class FlightDesk implements PageTransfers {
  readonly pageBytes: number;
  readonly numPages: number;
  readonly copyBytes: number;
  /** Begun, not run and not cancelled, in order. */
  readonly pending: PendingFlight[] = [];
  /** Those of them that end last of all, if ever. */
  readonly stuck: Set<number> = new Set();
  /** Those that were hurried so far. */
  readonly hurried: Set<number> = new Set();
  /** Those that have started: they have their pages to themselves. */
  readonly #begun = new Set<number>();
  /** Flights so far, by kind. */
  numStores = 0;
  numLoads = 0;
  /** What the cost model is told: so fast that all is loaded, unless a test says otherwise. */
  loadBytesPerSecond = 1e18;
  loadLatencyMicros = 0;
  readonly #native: ManualTransfers;
  readonly #report: (results: readonly FlightResult[]) => void;
  readonly #waiting = new Map<number, () => void>();
  readonly #cancelled: Promise<void>[] = [];
  readonly #copies = new Set<Promise<readonly string[]>>();

  /** `report` gets results as they come. */
  constructor(
    open: (onResults: (results: readonly FlightResult[]) => void) => ManualTransfers,
    report: (results: readonly FlightResult[]) => void,
  ) {
    this.#report = report;
    this.#native = open((results) => this.#take(results));
    this.pageBytes = this.#native.pageBytes;
    this.numPages = this.#native.numPages;
    this.copyBytes = this.#native.copyBytes;
  }

  /** All of them: a test does not wait for memory. */
  get numReady(): number {
    return this.numPages;
  }

  get isGrowing(): boolean {
    return this.#native.isGrowing;
  }

  /** Until the pool's memory is there: what a test does must not depend on it. */
  async untilReady(): Promise<void> {
    while (this.#native.numReady < this.numPages)
      await new Promise<void>((resolve) => setImmediate(resolve));
  }

  store(id: number, blocks: Int32Array, pages: Int32Array, afterStep: number): void {
    this.#native.store(id, blocks, pages, afterStep);
    this.numStores++;
    this.pending.push({ id, kind: "store", blocks: [...blocks], pages: [...pages] });
  }

  load(id: number, pages: Int32Array, blocks: Int32Array, afterStep: number): void {
    this.#native.load(id, pages, blocks, afterStep);
    this.numLoads++;
    this.pending.push({ id, kind: "load", blocks: [...blocks], pages: [...pages] });
  }

  cancel(id: number): boolean {
    const isCancelled = this.#native.cancel(id);
    if (isCancelled && !this.#waiting.has(id)) {
      this.#remove(id);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.set(id, resolve);
      this.#cancelled.push(promise);
    }
    return isCancelled;
  }

  hurry(id: number): void {
    this.#native.hurry(id);
    this.hurried.add(id);
  }

  copyOut(...copy: Parameters<PageTransfers["copyOut"]>): Promise<readonly string[]> {
    return this.#copying(this.#native.copyOut(...copy));
  }

  copyIn(...copy: Parameters<PageTransfers["copyIn"]>): Promise<readonly string[]> {
    return this.#copying(this.#native.copyIn(...copy));
  }

  /** Whether the result of a cancelled flight is still to come, or copies are being made. */
  get isSettling(): boolean {
    return this.#cancelled.length > 0 || this.#copies.size > 0;
  }

  /** Until the results of all cancelled flights have come, and whoever waited for copies has gone on as far as it can. */
  async settled(): Promise<void> {
    await Promise.all(this.#cancelled.splice(0));
    while (this.#copies.size > 0) {
      await Promise.all(this.#copies);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  /** The next one to end: stuck ones last. */
  get next(): PendingFlight | undefined {
    return this.pending.find(({ id }) => !this.stuck.has(id));
  }

  /** The flight has started: it can be cancelled no more. */
  begin({ id }: PendingFlight): void {
    if (this.#native.begin(id)) this.#begun.add(id);
  }

  /** Whether a flight that has started, and has not been run, moves a page. */
  isBegun(page: number): boolean {
    return this.pending.some(({ id, pages }) => this.#begun.has(id) && pages.includes(page));
  }

  /** Runs a flight and waits for its result. Pages of `failed` arrive as garbage. */
  async run({ id }: PendingFlight, failed?: readonly number[] | "all"): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(id, resolve);
    this.#remove(id);
    if (!this.#native.run(id, failed)) throw new Error(`flight ${id} cannot be run`);
    await promise;
  }

  /** Changes a byte of a host page behind the back of its checksum. */
  corruptPage(page: number): void {
    this.#native.corruptPage(page);
  }

  /** None: each comes when the test runs its flight. */
  takeResults(): readonly FlightResult[] {
    return [];
  }

  stats(): TransferStats {
    const { loadBytesPerSecond, loadLatencyMicros } = this;
    let pendingPages = 0;
    for (const { kind, pages } of this.pending) if (kind === "load") pendingPages += pages.length;
    const pendingLoadBytes = pendingPages * this.pageBytes;
    return { ...this.#native.stats(), loadBytesPerSecond, loadLatencyMicros, pendingLoadBytes };
  }

  writePages(): void {
    throw new Error("no test of this desk writes files");
  }

  readPages(): void {
    throw new Error("no test of this desk reads files");
  }

  setStoreShare(): void {}

  setLinkBytesPerSecond(): void {}

  stop(deadlineMs: number): Promise<boolean> {
    return this.#native.stop(deadlineMs);
  }

  #copying(codes: Promise<readonly string[]>): Promise<readonly string[]> {
    this.#copies.add(codes);
    const end = (): void => void this.#copies.delete(codes);
    codes.then(end, end);
    return codes;
  }

  #remove(id: number): void {
    const index = this.pending.findIndex((flight) => flight.id === id);
    if (index >= 0) this.pending.splice(index, 1);
  }

  #take(results: readonly FlightResult[]): void {
    this.#report(results);
    for (const { id } of results) {
      this.#waiting.get(id)?.();
      this.#waiting.delete(id);
    }
  }
}
