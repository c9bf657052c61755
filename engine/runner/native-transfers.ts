/** The native transfer threads as the cache speaks to them. What the native side throws becomes a `KvEngineError` here. */

import type {
  FilePlace,
  FlightResult,
  ManualTransfers,
  TransferStats,
} from "../cache/page-transfers.ts";
import { callNative, fromNative, type RawDisk, type RawTransfers, type Runner } from "./native.ts";
import type { TransferOptions } from "./native.ts";

/** Called with flights that have ended, in order. */
type OnResults = (results: readonly FlightResult[]) => void;

export class NativeTransfers implements ManualTransfers {
  readonly pageBytes: number;
  readonly numPages: number;
  readonly copyBytes: number;
  readonly #native: RawTransfers;
  readonly #onResults: OnResults;
  #isStopped = false;

  private constructor(native: RawTransfers, onResults: OnResults) {
    this.#native = native;
    this.#onResults = onResults;
    this.pageBytes = native.pageBytes;
    this.numPages = native.numPages;
    this.copyBytes = native.copyBytes;
  }

  /**
   * Opens the host pool of a runner and starts the threads. `onResults` is called with flights that have ended, and with none once the
   * host pool grows no more; it keeps the process alive until `stop`. Throws `out_of_memory`, naming how many pages fit, and `internal` for options out of range.
   */
  static open(runner: Runner, options: TransferOptions, onResults: OnResults): NativeTransfers {
    const native = runner.openTransfers(options, (results) => transfers.#take(results));
    const transfers = new NativeTransfers(native, onResults);
    return transfers;
  }

  #take(results: readonly FlightResult[]): void {
    // What `stop` has delivered is not there when its call comes.
    if (results.length > 0 || !this.#isStopped) this.#onResults(results);
  }

  get numReady(): number {
    return this.#native.numReady;
  }

  get isGrowing(): boolean {
    return this.#native.isGrowing;
  }

  store(id: number, blocks: Int32Array, pages: Int32Array, afterStep: number): void {
    callNative(() => this.#native.store(id, blocks, pages, afterStep));
  }

  load(id: number, pages: Int32Array, blocks: Int32Array, afterStep: number): void {
    callNative(() => this.#native.load(id, pages, blocks, afterStep));
  }

  writePages(id: number, place: FilePlace, keys: Int32Array, pages: Int32Array): void {
    callNative(() => this.#native.writePages(id, place, keys, pages));
  }

  readPages(id: number, place: FilePlace, keys: Int32Array, pages: Int32Array): void {
    callNative(() => this.#native.readPages(id, place, keys, pages));
  }

  /** See `DiskStore.store`. */
  writeDisk(id: number, disk: RawDisk, keys: Int32Array, pages: Int32Array): void {
    callNative(() => this.#native.writeDisk(id, disk, keys, pages));
  }

  /** See `DiskStore.load`. */
  readDisk(id: number, disk: RawDisk, keys: Int32Array, pages: Int32Array): void {
    callNative(() => this.#native.readDisk(id, disk, keys, pages));
  }

  async copyOut(
    pages: Int32Array,
    names: readonly string[],
    epoch: number,
    copies: readonly Uint8Array[],
  ): Promise<readonly string[]> {
    return settleNative(this.#native.copyOut(pages, [...names], epoch, [...copies]));
  }

  async copyIn(
    pages: Int32Array,
    names: readonly string[],
    epoch: number,
    copies: readonly Uint8Array[],
  ): Promise<readonly string[]> {
    return settleNative(this.#native.copyIn(pages, [...names], epoch, [...copies]));
  }

  cancel(id: number): boolean {
    return callNative(() => this.#native.cancel(id));
  }

  hurry(id: number): void {
    callNative(() => this.#native.hurry(id));
  }

  setStoreShare(share: number): void {
    callNative(() => this.#native.setStoreShare(share));
  }

  setLinkBytesPerSecond(bytes: number): void {
    callNative(() => this.#native.setLinkBytesPerSecond(bytes));
  }

  takeResults(): readonly FlightResult[] {
    return callNative(() => this.#native.takeResults());
  }

  stats(): TransferStats {
    return callNative(() => this.#native.stats());
  }

  async stop(deadlineMs: number): Promise<boolean> {
    this.#isStopped = true;
    try {
      const { ended, results } = await this.#native.stop(deadlineMs);
      if (results.length > 0) this.#onResults(results);
      return ended;
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }

  begin(id: number): boolean {
    return callNative(() => this.#native.begin(id));
  }

  run(id: number, failed: readonly number[] | "all" = []): boolean {
    const indices = failed === "all" ? undefined : Int32Array.from(failed);
    return callNative(() => this.#native.run(id, indices));
  }

  corruptPage(page: number): void {
    callNative(() => this.#native.corruptPage(page));
  }
}

async function settleNative<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (thrown) {
    throw fromNative(thrown);
  }
}
