/**
 * What moves pages between the device, the host pool and files. The cache names blocks and pages and keeps what is in flight
 * referenced; pages are copied by native threads, never on a JavaScript thread.
 *
 * A flight is one such move. Its id is the caller's, unique among flights that have not ended; it ends in exactly one result. Lists
 * run in parallel: entry i of one goes with entry i of the other.
 */

/** Why pages of a flight failed: of the first one, where several did. */
export interface FlightError {
  /**
   * `checksum` (the page is not what was stored), `empty` (it holds nothing), `conflict` (another flight uses the page or block:
   * the caller's bug), `device_lost` and `internal` (what the device says of a copy), `panic`, `short_read`, `missing`, `full`, `paused` and `closed` (of a disk store, see `DiskStore`), `injected` (`ManualTransfers.run`), `deadline` (still under way when `stop` gave
   * up), or the name of a system error: `ENOSPC`, `EROFS`, `ENOENT` and so on.
   */
  readonly code: string;
  readonly message: string;
}

/** Bytes behind each page in a file: a checksum of the page, its key and the fingerprint. */
export const LABEL_BYTES = 8;

/** Where pages are in a file. */
export interface FilePlace {
  readonly path: string;
  /** Any text: equal where pages of one may be used by the other. */
  readonly fingerprint: string;
  /** Of each page, in bytes. */
  readonly offsets: Float64Array;
}

export interface FlightResult {
  readonly id: number;
  /** Every page arrived. */
  readonly ok: boolean;
  /** Nothing of it had started, and nothing will. */
  readonly cancelled: boolean;
  /** Ascending indices into the flight's lists; what such a page's target holds is unspecified. Other pages arrived, unless cancelled. */
  readonly failedPages: Int32Array;
  /** Bytes that arrived. */
  readonly bytes: number;
  /** From the call to the first copy, waiting for its step included; to the end where it was cancelled. */
  readonly queuedMicros: number;
  /** From the first copy to the end. */
  readonly copyMicros: number;
  readonly error?: FlightError;
}

/** Counts since the start, and what was measured. Rates and latencies are 0 until the first flight of their kind has ended. */
export interface TransferStats {
  readonly loadBytes: number;
  readonly storeBytes: number;
  readonly fileReadBytes: number;
  readonly fileWriteBytes: number;
  /** Flights that ended with every page, by kind. */
  readonly loads: number;
  readonly stores: number;
  readonly fileReads: number;
  readonly fileWrites: number;
  /** Flights of any kind that ended with a failed page. */
  readonly failed: number;
  readonly cancelled: number;
  /** Pages that failed, and how many of them by a wrong checksum. */
  readonly failedPages: number;
  readonly wrongChecksums: number;
  /** Flights that have not ended. */
  readonly pending: number;
  /** Bytes of flights that have not ended and are not copied yet. */
  readonly pendingLoadBytes: number;
  readonly pendingStoreBytes: number;
  /** Of a thread while it copies, a slowed link included; moving averages. */
  readonly loadBytesPerSecond: number;
  readonly storeBytesPerSecond: number;
  /** From when a flight may start (its step has ended) to its first copy. */
  readonly loadLatencyMicros: number;
  readonly storeLatencyMicros: number;
  /** Bytes of pages copied by the transfer threads, and by any other thread: always 0. */
  readonly copiedByTransferThreads: number;
  readonly copiedByOtherThreads: number;
}

export interface PageTransfers {
  /** Bytes of a page of the arena and of the host pool. */
  readonly pageBytes: number;
  /** Pages of the host pool. */
  readonly numPages: number;
  /** Pages 0 to this may be used; never falls. The pool grows in the background, ahead of what is used. */
  readonly numReady: number;
  /** Whether more host pages will be ready as pages come to be used; no more when all are, or when memory ran short. */
  readonly isGrowing: boolean;

  /**
   * Copies device blocks to host pages, not before step `afterStep` has ended (-1 = at once). Until the result, no submitted step may
   * write the blocks, and nothing else may use the pages. Throws `internal` for an id in use and an index out of range; copies
   * the arrays.
   */
  store(id: number, blocks: Int32Array, pages: Int32Array, afterStep: number): void;

  /**
   * Copies host pages to device blocks, before any store that waits, not before step `afterStep` has ended. Until the result, no
   * submitted step may read or write the blocks, and the pages must not change. Throws as `store`.
   */
  load(id: number, pages: Int32Array, blocks: Int32Array, afterStep: number): void;

  /** Writes host pages, each with its label of `LABEL_BYTES` behind it; the file is created if there is none. `keys` are packed. Throws as `store`. */
  writePages(id: number, place: FilePlace, keys: Int32Array, pages: Int32Array): void;

  /** Reads host pages that were written for these keys, with this fingerprint; others fail as `checksum`. Throws as `store`. */
  readPages(id: number, place: FilePlace, keys: Int32Array, pages: Int32Array): void;

  /** Bytes of a copy: a page's, and what it is known by when it comes back. */
  readonly copyBytes: number;

  /**
   * Copies host pages to `copies`, one each, on a thread that nobody waits for; not a flight. `names` are what the pages hold; `epoch`
   * changes when nothing older counts. Until the promise settles nobody else may use the copies. Answers a code for each page:
   * empty where it arrived, else `conflict` (a flight fills it), `empty` or `checksum`. Rejects with `internal` for an index or a
   * length out of range.
   */
  copyOut(
    pages: Int32Array,
    names: readonly string[],
    epoch: number,
    copies: readonly Uint8Array[],
  ): Promise<readonly string[]>;

  /**
   * Copies `copies` to host pages, those alone that `copyOut` of this process made under the same name in the same epoch. As `copyOut`;
   * the codes are `older` (from another process, or another epoch), `checksum` (not what was copied) and `conflict`.
   */
  copyIn(
    pages: Int32Array,
    names: readonly string[],
    epoch: number,
    copies: readonly Uint8Array[],
  ): Promise<readonly string[]>;

  /** True when nothing of the flight had started: it ends as cancelled. False when it has started, has ended or is unknown. */
  cancel(id: number): boolean;

  /**
   * Stores and writes are made by threads that give way to those that compute: beside a busy device one may take a while. Somebody waits
   * for what this store holds: it goes before other stores, also by threads that load. One that has ended or is unknown is passed over.
   */
  hurry(id: number): void;

  /** Most of the wall time that stores may copy, 0 to 1; 0 = none starts. Loads are never held back. */
  setStoreShare(share: number): void;

  /** Slows all copies between device and host down to this, to stand in for a slow link; 0 = as fast as it goes. */
  setLinkBytesPerSecond(bytes: number): void;

  /**
   * What has ended and was not delivered yet. Results of stores and writes are not delivered while a step is under way, but behind its
   * result: whoever takes that one takes these here. Others are delivered at once.
   */
  takeResults(): readonly FlightResult[];

  stats(): TransferStats;

  /**
   * Cancels what has not started, lets the pages under way end, and ends the threads. False when some have not ended within
   * `deadlineMs`: their flights have failed. All results have been delivered when the promise resolves.
   */
  stop(deadlineMs: number): Promise<boolean>;
}

/** For tests: flights wait until they are run one by one. */
export interface ManualTransfers extends PageTransfers {
  /** The flight counts as started from now on, so that `cancel` is false. False when its step has not ended, or it has. */
  begin(id: number): boolean;

  /**
   * Lets the flight go, once its step has ended. Pages of `failed` (indices into its lists) are filled with garbage and fail; "all"
   * fails each. False when it has ended, is unknown, or was run before.
   */
  run(id: number, failed?: readonly number[] | "all"): boolean;

  /** Changes a byte of a host page behind the back of its checksum. */
  corruptPage(page: number): void;
}
