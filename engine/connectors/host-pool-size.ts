/** How much of the host's memory KV pages get: what was asked for, or as much of it as fits. */

import type { LogLine } from "./connector-log.ts";
import { KvEngineError } from "../errors.ts";

/** Of the free memory, what host pages may take when no size is given. */
export const MEMORY_SHARE = 0.25;
/** Free memory that the pool leaves to everything else. */
const SPARE_BYTES: number = 128 * 2 ** 20;
const MIB: number = 2 ** 20;

export interface HostPoolRequest {
  /** Bytes asked for; 0 = a share of what is free. */
  readonly size: number;
  readonly pageBytes: number;
  /** Bytes that are free now. */
  readonly memoryAvailable: () => number;
  readonly log: LogLine;
}

/** Opens a pool of as many pages as asked for; of as many as fit, and says so, where that is fewer. Throws what `open` throws of one page. */
export function openHostPool<T>(
  { size, pageBytes, memoryAvailable, log }: HostPoolRequest,
  open: (numPages: number) => T,
): T {
  const pagesOf = (bytes: number): number => Math.max(1, Math.floor(bytes / pageBytes));
  const wanted = pagesOf(size || memoryAvailable() * MEMORY_SHARE);
  let numPages = Math.min(wanted, pagesOf(memoryAvailable() - SPARE_BYTES));
  for (;;) {
    try {
      const opened = open(numPages);
      if (numPages < wanted) log("warn", shrunk(wanted, numPages, pageBytes));
      return opened;
    } catch (thrown) {
      // Memory went elsewhere meanwhile.
      const isShort = thrown instanceof KvEngineError && thrown.code === "out_of_memory";
      if (!isShort || numPages === 1) throw thrown;
      numPages = Math.max(1, Math.floor(numPages / 2));
    }
  }
}

function shrunk(wanted: number, numPages: number, pageBytes: number): string {
  const mib = (pages: number): number => Math.floor((pages * pageBytes) / MIB);
  return (
    `the host pool has ${mib(numPages)} MiB (${numPages} KV pages) instead of ${mib(wanted)} MiB: no more memory is free; ` +
    "--kv-offload-size asks for less"
  );
}
