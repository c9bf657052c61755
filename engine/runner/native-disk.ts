/** The native disk store as the cache speaks to it. What the native side throws becomes a `KvEngineError` here. */

import type { BlockKey } from "../../connectors/block-pool-view.ts";
import { packBlockKeys, unpackBlockKeys } from "../cache/block-key.ts";
import type { DiskOptions, DiskPage, DiskStats, DiskStore } from "../cache/disk-store.ts";
import { callNative, fromNative, openDisk, type RawDisk } from "./native.ts";
import type { NativeTransfers } from "./native-transfers.ts";

const DEFAULT_PIN_SHARE = 0.5;

export class NativeDisk implements DiskStore {
  readonly pageBytes: number;
  readonly #native: RawDisk;
  readonly #transfers: NativeTransfers;

  private constructor(native: RawDisk, transfers: NativeTransfers, pageBytes: number) {
    this.#native = native;
    this.#transfers = transfers;
    this.pageBytes = pageBytes;
  }

  /**
   * Locks the folder and reads its tables, on a native thread; pages move between it and the host pool of `transfers`. Throws
   * `bad_config`, naming the folder and what to do, where it cannot be made, locked or read, for a size that holds no page, and
   * for int8 of KV that has not 16 bits.
   */
  static async open(transfers: NativeTransfers, options: DiskOptions): Promise<NativeDisk> {
    const { path, sizeBytes, pageBytes, fingerprint } = options;
    const { ttlSeconds = 0, pinShare = DEFAULT_PIN_SHARE, directIo = true, int8Layout } = options;
    const native = await openDisk({
      ...{ path, sizeBytes, pageBytes, fingerprint },
      ...{ ttlSeconds, pinShare, directIo },
      ...(int8Layout === undefined ? {} : { int8Layout }),
    });
    return new NativeDisk(native, transfers, pageBytes);
  }

  has(keys: readonly BlockKey[]): boolean[] {
    const packed = packBlockKeys(keys);
    return flags(callNative(() => this.#native.has(packed)));
  }

  store(flight: number, keys: readonly BlockKey[], pages: Int32Array): void {
    this.#transfers.writeDisk(flight, this.#native, packBlockKeys(keys), pages);
  }

  load(flight: number, keys: readonly BlockKey[], pages: Int32Array): void {
    this.#transfers.readDisk(flight, this.#native, packBlockKeys(keys), pages);
  }

  remove(keys: readonly BlockKey[]): number {
    const packed = packBlockKeys(keys);
    return callNative(() => this.#native.remove(packed));
  }

  clear(): void {
    callNative(() => this.#native.clear());
  }

  pin(keys: readonly BlockKey[], untilSeconds: number): boolean[] {
    const packed = packBlockKeys(keys);
    return flags(callNative(() => this.#native.pin(packed, untilSeconds)));
  }

  unpin(keys: readonly BlockKey[]): number {
    const packed = packBlockKeys(keys);
    return callNative(() => this.#native.unpin(packed));
  }

  weigh(keys: readonly BlockKey[], weight: number): boolean[] {
    const packed = packBlockKeys(keys);
    return flags(callNative(() => this.#native.weigh(packed, weight)));
  }

  list(): DiskPage[] {
    const pages = callNative(() => this.#native.list());
    return unpackBlockKeys(pages.keys).map((key, i) => ({
      key,
      storedSeconds: pages.storedSeconds[i] as number,
      usedSeconds: pages.usedSeconds[i] as number,
      pinnedUntilSeconds: pages.pinnedUntilSeconds[i] as number,
      weight: pages.weights[i] as number,
    }));
  }

  stats(): DiskStats {
    const { failures, trouble, ...stats } = callNative(() => this.#native.stats());
    const byCode = Object.fromEntries(failures.map(({ code, pages }) => [code, pages]));
    return { ...stats, failures: byCode, trouble };
  }

  async close(deadlineMs: number): Promise<boolean> {
    try {
      return await this.#native.close(deadlineMs);
    } catch (thrown) {
      throw fromNative(thrown);
    }
  }
}

function flags(bytes: Uint8Array): boolean[] {
  return Array.from(bytes, (byte) => byte === 1);
}
