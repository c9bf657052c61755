/**
 * KV pages on a disk, found again after a restart. Keys are block keys; a page of a key never changes. Pages move between the disk and
 * host pages on native threads: a move is a flight of `PageTransfers` like any other, with its id, its one result and its `cancel`.
 * Everything else answers at once and never waits for the disk.
 */

import type { BlockKey } from "../../connectors/block-pool-view.ts";

export interface DiskOptions {
  /** The folder; made (mode 0700) where there is none. One process uses it at a time, any number one that cannot be written. */
  readonly path: string;
  /** Bytes that all its files may take, those of other models included. */
  readonly sizeBytes: number;
  /** Bytes of a page: the host pool's. */
  readonly pageBytes: number;
  /** Names everything that a page's bytes depend on beside its key: weights, layout, types, backend, version of its numbers. */
  readonly fingerprint: string;
  /** Seconds that a page is kept after its last use; left out = as long as there is room. */
  readonly ttlSeconds?: number;
  /** Share of the size that pinned pages may take, and up to which weights count, 0 to 1; left out = a half. */
  readonly pinShare?: number;
  /**
   * Whether pages go past the system's page cache, where the file system allows it and they have 128 KiB or more (smaller ones lie anywhere
   * in host memory); left out = yes: it takes about half of the processor time, and host pages are the cache.
   */
  readonly directIo?: boolean;
  /**
   * `HostPages.layout`, to keep pages as int8 with a scale for each token and head: half the bytes, and numbers that are a little different
   * when they come back, so answers may differ. Left out = pages stay as they are. Refused where KV has not 16 bits.
   */
  readonly int8Layout?: string;
}

/** A page that is stored. Times are seconds since 1970. */
export interface DiskPage {
  readonly key: BlockKey;
  readonly storedSeconds: number;
  /** When it was stored or loaded last. */
  readonly usedSeconds: number;
  /** 0 = not pinned. */
  readonly pinnedUntilSeconds: number;
  /** 0 to 255: it goes behind those of a lower one. */
  readonly weight: number;
}

/** Why nothing is stored, or was not when it was last tried. Times are seconds since 1970. */
export interface DiskTrouble {
  readonly code: string;
  readonly message: string;
  readonly sinceSeconds: number;
  /** When it is tried again. */
  readonly untilSeconds: number;
}

/** Counts since the store was opened, and how it stands. */
export interface DiskStats {
  /** Bytes that all files may take; never more than `limitBytes`. */
  readonly bytes: number;
  readonly limitBytes: number;
  /** Of `bytes`, those of other models: they go first. */
  readonly staleBytes: number;
  /** Pages that can be loaded. */
  readonly pages: number;
  readonly pinnedPages: number;
  /** Pages that are pinned or have a weight. */
  readonly keptPages: number;
  /** Most pages that may be pinned; while more than that are kept, weights give no advantage. */
  readonly pinnablePages: number;
  /** Pages that flights asked for: those that arrived, those that were not there. */
  readonly hits: number;
  readonly misses: number;
  /** Pages that were written, given up for others, and gone by the TTL. */
  readonly stored: number;
  readonly evicted: number;
  readonly expired: number;
  /** Pages that failed, by `FlightError.code`. */
  readonly failures: Readonly<Record<string, number>>;
  /** Bytes of pages. */
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Time that threads have spent, checksums and syncs included. */
  readonly readSeconds: number;
  readonly writeSeconds: number;
  /** The folder can be read and not written: stores fail as `read_only`. */
  readonly isReadOnly: boolean;
  readonly trouble: DiskTrouble | undefined;
}

export interface DiskStore {
  readonly pageBytes: number;

  /** Of each key, whether its page can be loaded: it is on the disk, or being written and served from memory. */
  has(keys: readonly BlockKey[]): boolean[];

  /**
   * Starts a flight that stores host pages under these keys, in the order of the lists. A page that is there already, or that another
   * flight is writing, counts as arrived. Pages fail one by one: `full` (all others are pinned or in use), `paused` (the disk
   * has failed, and is tried again later), `read_only`, `unpackable` (as int8: a number is not finite), `closed`, or the name of a system error. The pages must not change until the result.
   * Throws `internal` for a flight's id in use and a page out of range.
   */
  store(flight: number, keys: readonly BlockKey[], pages: Int32Array): void;

  /**
   * Starts a flight that fills host pages. Pages fail one by one: `missing`, `checksum`, `short_read`, or the name of a system error; a page
   * that failed otherwise than `missing` is forgotten. Throws as `store`.
   */
  load(flight: number, keys: readonly BlockKey[], pages: Int32Array): void;

  /** Forgets pages. Answers how many there were. */
  remove(keys: readonly BlockKey[]): number;

  /** Forgets everything, what other models have left too; the files are deleted soon after. */
  clear(): void;

  /**
   * Keeps pages until a time (seconds since 1970), across restarts, as many as the share for pins allows. Of each key, whether its page is
   * pinned: one that is not there is not.
   */
  pin(keys: readonly BlockKey[], untilSeconds: number): boolean[];

  /** Ends pins. Answers how many there were. */
  unpin(keys: readonly BlockKey[]): number;

  /**
   * Gives pages a weight, 0 to 255, across restarts; new ones have 0. Pages of a higher weight go behind those of a lower one, as long as no
   * more than `pinnablePages` are kept. Of each key, whether its page is there.
   */
  weigh(keys: readonly BlockKey[], weight: number): boolean[];

  /** All pages: by weight, the least recently used of each first, and behind them those that are pinned. */
  list(): DiskPage[];

  stats(): DiskStats;

  /**
   * Lets writes under way end, syncs, and gives the folder free; pages of later flights fail as `closed`. False when that has not ended
   * within `deadlineMs`. Called before `PageTransfers.stop` it fails what waits, after it nothing does.
   */
  close(deadlineMs: number): Promise<boolean>;
}
